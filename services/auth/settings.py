"""What the owner can set about accounts, keys and rate limits."""

from collections.abc import Mapping
from typing import Final, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

DEFAULT_TIER: Final = "default"
_DAY_S: Final = 24 * 3600.0


class TierSettings(BaseModel, frozen=True, extra="forbid"):
    """Limits of the keys that name this tier and set none of their own."""

    requests_per_minute: int = Field(
        600, ge=0, le=10**12, description="Requests in one minute; 0 means no limit."
    )
    tokens_per_minute: int = Field(
        1_000_000, ge=0, le=10**12, description="Tokens in one minute; 0 means no limit."
    )
    concurrent_requests: int = Field(
        0, ge=0, le=10**12, description="Requests at once; 0 means no limit."
    )


class AuthSettings(BaseModel, frozen=True, extra="forbid"):
    """How keys look, how long they overlap and what they may use."""

    database_url: str = Field(
        "sqlite+aiosqlite:///.turnpike/auth.db",
        description="SQLAlchemy URL of this room's own database.",
    )
    pepper: SecretStr = Field(
        SecretStr(""),
        description="Text that keys are hashed with; empty means one is made at the first start"
        " and kept in a file. Losing it makes every key invalid.",
    )
    key_prefix: str = Field(
        "sk-tp-",
        pattern=r"^[A-Za-z0-9_-]{2,16}$",
        description="Text that every new key starts with, 2 to 16 characters.",
    )
    imported_prefixes: tuple[str, ...] = Field(
        (), description="Prefixes of keys from another system; they have no checksum."
    )
    tiers: Mapping[str, TierSettings] = Field(
        default_factory=lambda: {DEFAULT_TIER: TierSettings()},
        description="Limits by tier name; one is named default.",
    )
    heartbeat_s: float = Field(
        1.0, gt=0, le=60, description="Seconds between two signs of life on the bus."
    )
    rotation_overlap_s: float = Field(
        _DAY_S,
        ge=0,
        le=30 * _DAY_S,
        description="How long a rotated secret goes on working unless the call says, seconds.",
    )
    replicas_expected: int = Field(
        1, ge=1, le=1000, description="Gateway replicas that share a key's rate window, a count."
    )
    holder_lease_s: float = Field(
        30.0,
        gt=0,
        le=600,
        description="How long a gateway keeps its slots for requests at once without a sign of"
        " life, seconds; more than its lease_margin_s.",
    )
    slot_recall_wait_s: float = Field(
        0.2, ge=0, description="How long a refusal waits for slots that nobody uses, seconds."
    )
    key_cache_s: float = Field(
        3.0, gt=0, le=5, description="How long a rate lease may rest on a key once read, seconds."
    )
    key_cache_max: int = Field(
        100_000, ge=1, description="Keys and rate windows kept in memory, a count of each."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if DEFAULT_TIER not in self.tiers:
            raise ValueError(f"tiers needs an entry named {DEFAULT_TIER}.")
        if any(not prefix for prefix in self.imported_prefixes):
            raise ValueError("imported_prefixes must not hold an empty prefix.")
        return self
