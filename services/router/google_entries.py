"""The form of providers at Google: where they are, and who we are there; pure."""

from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

AI_STUDIO_URL: Final = "https://generativelanguage.googleapis.com/v1beta"
METADATA: Final = "metadata"
"""The credentials of the machine that this runs on."""

_BASE_URL: Final = r"^https?://[^\s?#]+$"
_PORTS: Final = {"https": 443, "http": 80}
_WITHOUT_SAMPLING: Final = "2026-10-21"
"""The first version of Anthropic's API that takes no temperature, top_p and top_k."""

_MULTI_REGIONS: Final = frozenset({"us", "eu"})
_GEMINI_SERVES: Final = frozenset({"chat", "embedding"})
_CHAT: Final = frozenset({"chat"})

Form = Literal["gemini", "anthropic", "openai"]
"""What a model on Vertex AI speaks."""

_TypeName = Literal["native", "quota", "external"]
_Thinking = Literal["auto", "budget", "level", "none"]
_THINKING: Final = (
    "How its models are told to think: by thinkingBudget, by thinkingLevel or not at all;"
    " auto goes by the name."
)


class GoogleEntry(BaseModel, frozen=True, extra="forbid"):
    """What providers at Google have in common."""

    thinking: _Thinking = Field("auto", description=_THINKING)
    type: _TypeName = Field("quota", description="Whose capacity it is.")
    backend: str = Field("google", description="What X-Backend shows.")

    @property
    def engine(self) -> str:
        """Whose parameters it takes."""
        return "gemini"

    @property
    def capacity(self) -> _TypeName:
        """Whose capacity it is."""
        return self.type

    def options(self, upstream_model: str) -> dict[str, str]:
        """Return what its codec is told of a model."""
        del upstream_model
        return {"thinking": self.thinking}


class GoogleAiStudioEntry(GoogleEntry):
    """Google AI Studio, which is the Gemini API."""

    kind: Literal["google_ai_studio"]
    base_url: str = Field(
        AI_STUDIO_URL, pattern=_BASE_URL, description="Up to and with the version of the API."
    )
    api_key: SecretStr = Field(
        SecretStr(""),
        description="Sent as x-goog-api-key; ${VARIABLE} or file:/path, never the key itself.",
    )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return _address(self.base_url)

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider."""
        return bool(self.api_key.get_secret_value())

    def obstacle(self, upstream_model: str, operations: Collection[str]) -> str:
        """Return why a model cannot be served as wanted; empty when it can."""
        del upstream_model
        return _unserved(operations, _GEMINI_SERVES)


class VertexEntry(GoogleEntry):
    """Vertex AI of one project in one location.

    What a deployment speaks follows from its `upstream_model`: `google/<model>` or a plain name is
    Gemini's API, `anthropic/<model>` Claude's, `openai/<model>` OpenAI's, with `<model>` such as
    `meta/llama-4-scout-maas`.
    """

    kind: Literal["vertex"]
    project: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.:-]{0,126}[a-z0-9]$", description="Id of the project."
    )
    location: str = Field(
        "global", pattern=r"^[a-z][a-z0-9-]{1,40}$", description="Such as europe-west1."
    )
    base_url: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Up to and with the version of the API; empty: as the location says.",
    )
    credentials: str = Field(
        METADATA,
        min_length=1,
        description="Path of a service account's key file, or metadata: the machine's own account.",
    )
    metadata_url: str = Field(
        "http://metadata.google.internal",
        pattern=_BASE_URL,
        description="Where the machine's own account is asked for.",
    )

    claude_version: str = Field(
        "vertex-2023-10-16",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="Which version of Anthropic's API its Claude models are asked by.",
    )
    claude_thinking: Literal["adaptive", "always", "budget", "none"] = Field(
        "adaptive", description="How its Claude models think, see kind anthropic."
    )
    claude_sampling: Literal["sent", "refused", "ignored"] = Field(
        "sent", description="What its Claude models make of sampling, see kind anthropic."
    )

    @model_validator(mode="after")
    def _is_of_one_version(self) -> "VertexEntry":
        is_late = self.claude_version[:1].isdigit() and self.claude_version >= _WITHOUT_SAMPLING
        if is_late and self.claude_sampling == "sent":
            raise ValueError(
                f"claude_version {self.claude_version} needs claude_sampling refused or ignored"
            )
        return self

    @property
    def base_url_of_project(self) -> str:
        """Where the project's resources in this location are."""
        base = self.base_url or f"https://{self._host}/v1"
        return f"{base.rstrip('/')}/projects/{self.project}/locations/{self.location}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return _address(self.base_url_of_project)

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider."""
        return self.credentials == METADATA or Path(self.credentials).is_file()

    def form_of(self, upstream_model: str) -> Form:
        """Return what a model speaks.

        Raises:
            ValueError: Its name begins with a publisher that is not known here.
        """
        publisher, _, name = upstream_model.partition("/")
        if not name or publisher in ("google", "endpoints"):
            return "gemini"
        if publisher == "anthropic":
            return "anthropic"
        if publisher == "openai":
            return "openai"
        raise ValueError(
            "upstream_model on vertex is a plain name or begins with google/, anthropic/, openai/"
            " or endpoints/"
        )

    def obstacle(self, upstream_model: str, operations: Collection[str]) -> str:
        """Return why a model cannot be served as wanted; empty when it can."""
        try:
            form = self.form_of(upstream_model)
        except ValueError as error:
            return str(error)
        return _unserved(operations, _GEMINI_SERVES if form == "gemini" else _CHAT)

    def options(self, upstream_model: str) -> dict[str, str]:
        """Return what its codec is told of a model."""
        form = self.form_of(upstream_model)
        if form == "anthropic":
            return {"thinking": self.claude_thinking, "sampling": self.claude_sampling}
        return super().options(upstream_model) if form == "gemini" else {}

    @property
    def _host(self) -> str:
        if self.location == "global":
            return "aiplatform.googleapis.com"
        if self.location in _MULTI_REGIONS:
            return f"aiplatform.{self.location}.rep.googleapis.com"
        return f"{self.location}-aiplatform.googleapis.com"


def _unserved(operations: Collection[str], served: Collection[str]) -> str:
    missing = sorted(set(operations).difference(served))
    return f"Google serves no {missing[0]} here" if missing else ""


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]
