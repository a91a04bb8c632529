"""The form of the `providers` of the catalogue: where upstreams are and who we are there."""

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

from services.router.aws_entries import BedrockEntry, BodyName, SageMakerEntry
from services.router.google_entries import GoogleAiStudioEntry, VertexEntry
from services.router.providers.openai.profiles import VENDORS
from services.router.vendor_entries import VendorEntry

RESELLERS: Final = ("openrouter.ai",)
"""Who sells others' capacity; providers there are external unless the file says otherwise."""

BASE_URL: Final = r"^https?://[^\s?#]+$"
_PORTS: Final = {"https": 443, "http": 80}
_WORD: Final = r"^[A-Za-z0-9._-]{1,100}$"
_WITHOUT_SAMPLING: Final = "2026-10-21"
"""The first version of Anthropic's API that takes no temperature, top_p and top_k."""

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}$"
Name = Annotated[str, Field(pattern=_NAME)]


class Entry(BaseModel, frozen=True, extra="forbid"):
    """What every part of the section has in common: unknown keys are refused."""


TypeName = Literal["native", "quota", "external"]


class HttpEntry(Entry):
    """What every provider that is reached over HTTP has in common."""

    base_url: str = Field(pattern=BASE_URL, description="Where it is.")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.base_url)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider."""
        return True


_HOST_PORT: Final = r"^\S+:\d{1,5}$"
SERVERS_MAX: Final = 16
"""Most servers of one Triton entry."""


class TritonServerEntry(Entry):
    """One of several Triton servers that have the same models."""

    grpc_address: str = Field(
        "", pattern=rf"{_HOST_PORT}|^$", description="Its gRPC port, host:port."
    )
    http_address: str = Field(
        "",
        pattern=rf"{_HOST_PORT}|^$",
        description="Its HTTP port, host:port; needed for transport http.",
    )
    metrics_address: str = Field(
        "",
        pattern=rf"{_HOST_PORT}|^$",
        description="Its metrics port, host:port; the queue of TensorRT-LLM is read there.",
    )


class TritonEntry(Entry):
    """An NVIDIA Triton Inference Server, or several that have the same models."""

    kind: Literal["triton"]
    grpc_address: str = Field("127.0.0.1:8001", description="Its gRPC port, host:port.")
    http_address: str = Field(
        "", description="Its HTTP port, host:port; needed for transport http."
    )
    metrics_address: str = Field(
        "",
        pattern=rf"{_HOST_PORT}|^$",
        description="Its metrics port, host:port; the queue of TensorRT-LLM is read there.",
    )
    servers: list[TritonServerEntry] = Field(
        default_factory=list,
        max_length=SERVERS_MAX,
        description="Instead of the addresses: several servers with the same models.",
    )
    transport: Literal["grpc", "http"] = Field("grpc", description="Which port is used.")
    version_min: str = Field(
        "2.39", pattern=r"^\d+(\.\d+){0,2}$", description="Servers older than this are not used."
    )
    backend: str = Field("triton-vllm", description="What X-Backend shows.")
    type: TypeName = Field("native", description="Whose capacity it is.")

    @property
    def engine(self) -> str:
        """Whose parameters it takes."""
        return "triton"

    @property
    def capacity(self) -> TypeName:
        """Whose capacity it is."""
        return self.type

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that its first server is reached by."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port that each server is reached by."""
        found: list[tuple[str, int]] = []
        for server in self.all_servers:
            address = server.http_address if self.transport == "http" else server.grpc_address
            host, _, port = address.rpartition(":")
            found.append((host, int(port)))
        return found

    @property
    def all_servers(self) -> list[TritonServerEntry]:
        """The servers, also a single one."""
        if self.servers:
            return self.servers
        # Not validated: the single form never was.
        return [
            TritonServerEntry.model_construct(
                grpc_address=self.grpc_address,
                http_address=self.http_address,
                metrics_address=self.metrics_address,
            )
        ]

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider: nothing is asked."""
        return True

    @model_validator(mode="after")
    def _has_addresses(self) -> "TritonEntry":
        single = {"grpc_address", "http_address", "metrics_address"}
        if self.servers and self.model_fields_set & single:
            raise ValueError("servers take the place of the addresses of a single one")
        for server in self.all_servers:
            if self.transport == "http" and not server.http_address:
                raise ValueError("transport http needs http_address")
            if self.transport == "grpc" and not server.grpc_address:
                raise ValueError("transport grpc needs grpc_address")
        if len(set(self.addresses)) < len(self.addresses):
            raise ValueError("two servers have the same address")
        return self


class OpenAiCompatEntry(HttpEntry):
    """Any server that speaks OpenAI's chat completions over HTTP."""

    kind: Literal["openai_compat"]
    base_url: str = Field(pattern=BASE_URL, description="Up to and with /v1.")
    api_key: SecretStr = Field(
        SecretStr(""),
        description="Sent as Bearer; ${VARIABLE} or file:/path, never the key itself.",
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="How this server spells the output bound."
    )
    thinking: Literal["", "reasoning_effort"] = Field(
        "", description="How enable_thinking of chat_template_kwargs is said to engine openai."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="More headers to send.")
    engine: Literal["openai", "vllm", "sglang", "trtllm"] = Field(
        "openai", description="Whose parameters it takes beyond OpenAI's."
    )
    knows_cache_control: bool | None = Field(
        None,
        description="Whether it knows prompt-cache markers, else they are taken out; absent: a"
        " reseller does.",
    )
    type: TypeName | None = Field(
        None,
        description="Whose capacity it is; a reseller is external, an engine of your own native.",
    )
    backend: str = Field("openai", description="What X-Backend shows.")

    @property
    def takes_cache_marks(self) -> bool:
        """Whether prompt-cache markers are sent there."""
        if self.knows_cache_control is not None:
            return self.knows_cache_control
        return self._is_reseller

    @property
    def all_headers(self) -> dict[str, str]:
        """Headers of each request."""
        return self.headers

    @property
    def capacity(self) -> TypeName:
        """Whose capacity it is: an engine that we run is native, an account quota."""
        if self.type is not None:
            return self.type
        if self._is_reseller:
            return "external"
        return "quota" if self.engine == "openai" else "native"

    @property
    def _is_reseller(self) -> bool:
        host = self.address[0]
        return any(host == name or host.endswith(f".{name}") for name in RESELLERS)

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider."""
        return bool(self.api_key.get_secret_value())


class AnthropicEntry(HttpEntry):
    """Anthropic's own API, for Claude."""

    kind: Literal["anthropic"]
    base_url: str = Field(
        "https://api.anthropic.com", pattern=BASE_URL, description="Up to what stands before /v1."
    )
    api_key: SecretStr = Field(
        SecretStr(""),
        description="Sent as x-api-key; ${VARIABLE} or file:/path, never the key itself.",
    )
    version: str = Field("2023-06-01", pattern=_WORD, description="The API's version.")
    betas: list[Annotated[str, Field(pattern=_WORD)]] = Field(
        default_factory=list, description="Betas of the API to take part in."
    )
    thinking: Literal["adaptive", "always", "budget", "none"] = Field(
        "adaptive",
        description="How its models think: they decide how much (Claude 4.6 and later); the same, "
        "and it cannot be turned off; within a budget of tokens (up to 4.5); not at all.",
    )
    sampling: Literal["sent", "refused", "ignored"] = Field(
        "sent",
        description="What is done with a temperature, top_p or top_k that differs from the usual: "
        "Claude 4.7 and later refuse it, and version 2026-10-21 of the API does for all.",
    )
    type: TypeName = Field("quota", description="Whose capacity it is.")
    backend: str = Field("anthropic", description="What X-Backend shows.")

    @property
    def engine(self) -> str:
        """Whose parameters it takes."""
        return "anthropic"

    @property
    def capacity(self) -> TypeName:
        """Whose capacity it is."""
        return self.type

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider."""
        return bool(self.api_key.get_secret_value())

    @model_validator(mode="after")
    def _is_of_one_version(self) -> "AnthropicEntry":
        if self.version >= _WITHOUT_SAMPLING and self.sampling == "sent":
            raise ValueError(f"version {self.version} needs sampling refused or ignored")
        return self


KINDS: Final = frozenset(
    {
        "triton",
        "openai_compat",
        *VENDORS,
        "anthropic",
        "bedrock",
        "sagemaker",
        "google_ai_studio",
        "vertex",
    }
)
"""Every `kind` of a provider."""

KEYED_KINDS: Final = frozenset(
    {"openai_compat", *VENDORS, "anthropic", "bedrock", "google_ai_studio"}
)
"""Kinds whose whole credential is a plain key, so that an account can bring one of its own."""

ProviderEntry = Annotated[
    TritonEntry
    | OpenAiCompatEntry
    | VendorEntry
    | AnthropicEntry
    | BedrockEntry
    | SageMakerEntry
    | GoogleAiStudioEntry
    | VertexEntry,
    Field(discriminator="kind"),
]


def engine_of(provider: ProviderEntry, upstream_model: str, body: BodyName) -> str:
    """Return whose parameters a provider takes for one of its models, with this form of body."""
    if isinstance(provider, VertexEntry):
        return provider.form_of(upstream_model)
    if isinstance(provider, SageMakerEntry):
        return provider.engine_of(body)
    return provider.engine
