"""The form of providers that are a vendor which speaks OpenAI in words of its own; pure."""

from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

from services.router.providers.openai.profiles import PROFILES

_URL: Final = r"^(https?://[^\s?#]+)?$"
_PORTS: Final = {"https": 443, "http": 80}
VendorName = Literal[
    "openai", "together", "deepseek", "fireworks", "mistral", "hyperbolic", "xai", "openrouter"
]


class VendorEntry(BaseModel, frozen=True, extra="forbid"):
    """A vendor that speaks OpenAI in words of its own, which are known."""

    kind: VendorName
    base_url: str = Field(
        "", pattern=_URL, description="Where it is; absent: the vendor's own address."
    )
    api_key: SecretStr = Field(
        SecretStr(""),
        description="Sent as Bearer; ${VARIABLE} or file:/path, never the key itself.",
    )
    headers: dict[str, str] = Field(default_factory=dict, description="More headers to send.")
    app_url: str = Field("", description="HTTP-Referer, by which OpenRouter knows an application.")
    app_title: str = Field("", description="X-Title, what OpenRouter calls the application.")
    type: Literal["native", "quota", "external"] | None = Field(
        None, description="Whose capacity it is; absent: external of a reseller, else quota."
    )
    backend: str = Field("", description="What X-Backend shows; absent: the kind.")

    @model_validator(mode="before")
    @classmethod
    def _is_at_its_vendor(cls, found: object) -> object:
        """Put in what the vendor's profile knows and the file does not say."""
        if not isinstance(found, dict) or found.get("kind") not in PROFILES:
            return found
        kind = found["kind"]
        given = {name: value for name, value in found.items() if value not in ("", None)}
        return {"base_url": PROFILES[kind].base_url, "backend": kind, **given}

    @model_validator(mode="after")
    def _has_an_application(self) -> "VendorEntry":
        if self.kind != "openrouter" and (self.app_url or self.app_title):
            raise ValueError("only openrouter knows applications")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.base_url)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]

    @property
    def engine(self) -> str:
        """Whose parameters it takes."""
        return self.kind

    @property
    def capacity(self) -> Literal["native", "quota", "external"]:
        """Whose capacity it is."""
        return self.type or PROFILES[self.kind].capacity

    @property
    def has_credentials(self) -> bool:
        """Whether there is something to show to the provider."""
        return bool(self.api_key.get_secret_value())

    @property
    def all_headers(self) -> dict[str, str]:
        """Headers of each request."""
        known = {"HTTP-Referer": self.app_url, "X-Title": self.app_title}
        return {**{name: value for name, value in known.items() if value}, **self.headers}
