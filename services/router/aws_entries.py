"""The form of providers at AWS: where they are, and who we are there; pure."""

from collections.abc import Collection, Mapping
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

_PORTS: Final = {"https": 443, "http": 80}
_URL: Final = r"^(https?://[^\s?#]+)?$"
_REGION: Final = r"^[a-z]{2,4}(-[a-z]+){1,3}-\d{1,2}$"
_CHINA: Final = "cn-"
_HEADER: Final = r"^[\x21-\x7e]{0,1024}$"
_NOTHING: Final = SecretStr("")

BodyName = Literal["", "openai", "tgi", "lmi", "llama-jumpstart", "hf-embed", "jumpstart-embed"]
"""What a container on SageMaker speaks; empty for OpenAI's API there, and for other providers."""

GENERATORS: Final = frozenset({"tgi", "lmi", "llama-jumpstart"})
EMBEDDERS: Final = {"hf-embed": "inputs", "jumpstart-embed": "text_inputs"}
"""Containers that make vectors, and how they call the texts."""


class AwsEntry(BaseModel, frozen=True, extra="forbid"):
    """What every provider at AWS has in common."""

    HOST_PREFIX: ClassVar[str]
    """What stands before the region in the host's name."""

    region: str = Field(pattern=_REGION, description="AWS region, such as eu-west-1.")
    base_url: str = Field("", pattern=_URL, description="Where it is; empty: as the region says.")
    access_key_id: SecretStr = Field(
        _NOTHING, description="Key that signs; ${VARIABLE} or file:/path, as the other two."
    )
    secret_access_key: SecretStr = Field(_NOTHING, description="Its secret.")
    session_token: SecretStr = Field(_NOTHING, description="Its token, if the key expires.")
    identity: Literal["keys", "container", "instance", "web_identity"] = Field(
        "keys",
        description="Where keys come from: these, the agent beside a container, the metadata of"
        " an instance, or STS for a token in a file.",
    )
    container_url: str = Field(
        "", pattern=_URL, description="The agent; ${AWS_CONTAINER_CREDENTIALS_FULL_URI}."
    )
    token_file: str = Field(
        "", description="Path of the token that agent or STS want; read whenever keys are asked."
    )
    role_arn: str = Field("", description="Whose keys STS lends; ${AWS_ROLE_ARN}.")
    metadata_url: str = Field(
        "http://169.254.169.254", pattern=_URL, description="Metadata of the instance."
    )
    sts_url: str = Field("", pattern=_URL, description="STS; empty: as the region says.")

    @property
    def sts(self) -> str:
        """Where STS is."""
        return self.sts_url or f"https://sts.{self.region}.amazonaws.com{self._ending}"

    @property
    def url(self) -> str:
        """Where requests go, without their path."""
        host = f"{self.HOST_PREFIX}.{self.region}.amazonaws.com{self._ending}"
        return self.base_url or f"https://{host}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider."""
        return self.has_keys or self.identity != "keys"

    @model_validator(mode="after")
    def _has_whole_keys(self) -> "AwsEntry":
        if bool(self.access_key_id.get_secret_value()) != self.has_keys:
            raise ValueError("access_key_id and secret_access_key need each other")
        if self.session_token.get_secret_value() and not self.has_keys:
            raise ValueError("session_token needs access_key_id and secret_access_key")
        return self

    @property
    def has_keys(self) -> bool:
        """Whether there is a key that signs."""
        return bool(self.secret_access_key.get_secret_value())

    @property
    def _ending(self) -> str:
        return ".cn" if self.region.startswith(_CHINA) else ""

    @model_validator(mode="after")
    def _has_identity(self) -> "AwsEntry":
        if self.identity != "keys" and self.has_keys:
            raise ValueError(f"identity {self.identity} stands in place of access_key_id")
        if self.identity == "container" and not self.container_url:
            raise ValueError("identity container needs container_url")
        if self.identity == "web_identity" and not (self.role_arn and self.token_file):
            raise ValueError("identity web_identity needs role_arn and token_file")
        return self


class BedrockEntry(AwsEntry):
    """Amazon Bedrock's Converse, in one region of one account."""

    HOST_PREFIX: ClassVar[str] = "bedrock-runtime"

    kind: Literal["bedrock"]
    api_key: SecretStr = Field(
        _NOTHING, description="A Bedrock API key in place of keys that sign; sent as Bearer."
    )
    thinking: Literal["adaptive", "budget", "reasoning_effort", "none"] = Field(
        "none",
        description="How its models are asked to think: they decide how much (Claude 4.6 and"
        " later), within a budget of tokens (up to 4.5), by OpenAI's name for it, not at all.",
    )
    sampling: Literal["sent", "refused", "ignored"] = Field(
        "sent",
        description="What is done with a temperature, top_p or top_k that differs from the usual;"
        " Claude 4.7 and later refuse it.",
    )
    family: Literal["", "claude", "nova", "mistral", "openai"] = Field(
        "", description="Whose its models are, when their ids do not tell."
    )
    type: Literal["native", "quota", "external"] = Field(
        "quota", description="Whose capacity it is."
    )
    backend: str = Field("bedrock", description="What X-Backend shows.")

    @property
    def engine(self) -> str:
        """Whose parameters it takes."""
        return "bedrock"

    @property
    def capacity(self) -> Literal["native", "quota", "external"]:
        """Whose capacity it is."""
        return self.type

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider."""
        return super().has_credentials or bool(self.api_key.get_secret_value())

    @property
    def options(self) -> Mapping[str, str]:
        """What its codec is told."""
        named = ("thinking", "sampling", "family")
        return {name: value for name in named if (value := getattr(self, name))}

    @model_validator(mode="after")
    def _has_one_identity(self) -> "BedrockEntry":
        if super().has_credentials and self.api_key.get_secret_value():
            raise ValueError("api_key stands in place of keys that sign")
        return self


class SageMakerEntry(AwsEntry):
    """Endpoints on Amazon SageMaker, in one region of one account."""

    HOST_PREFIX: ClassVar[str] = "runtime.sagemaker"

    kind: Literal["sagemaker"]
    engine: Literal["openai", "vllm", "sglang"] = Field(
        "openai", description="Whose parameters containers with body openai take."
    )
    target_model: str = Field("", pattern=_HEADER, description="Model of a multi-model endpoint.")
    target_variant: str = Field("", pattern=_HEADER, description="Production variant to ask.")
    inference_component: str = Field("", pattern=_HEADER, description="Component to ask.")
    type: Literal["native", "quota", "external"] = Field(
        "native", description="Whose capacity it is."
    )
    backend: str = Field("sagemaker", description="What X-Backend shows.")

    @property
    def capacity(self) -> Literal["native", "quota", "external"]:
        """Whose capacity it is."""
        return self.type

    def engine_of(self, body: BodyName) -> str:
        """Whose parameters a container takes."""
        if body in EMBEDDERS:
            return "embedder"
        return body if body in GENERATORS else self.engine

    @property
    def headers(self) -> Mapping[str, str]:
        """What says which of an endpoint's models is meant."""
        named = {
            "x-amzn-sagemaker-target-model": self.target_model,
            "x-amzn-sagemaker-target-variant": self.target_variant,
            "x-amzn-sagemaker-inference-component": self.inference_component,
        }
        return {name: value for name, value in named.items() if value}


def deployment_problem(
    kind: str, body: BodyName, operations: Collection[str], *, has_template: bool
) -> str:
    """Return what is wrong with a deployment of a provider of this kind; empty for nothing."""
    if body and kind != "sagemaker":
        return "only a container on sagemaker has a body"
    if kind not in ("bedrock", "sagemaker"):
        return ""
    if kind == "bedrock":
        served = {"chat"}
    elif body in EMBEDDERS:
        served = {"embedding"}
    elif body in GENERATORS:
        served = {"chat"}
        if not has_template:
            return f"body {body} needs a chat_template"
    else:
        served = {"chat", "completion", "embedding"}
    unserved = sorted(set(operations) - served)
    return f"{kind} does not serve {unserved[0]} here" if unserved else ""
