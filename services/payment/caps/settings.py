"""What spend caps can be told."""

from pydantic import BaseModel, Field


class CapsSettings(BaseModel, frozen=True, extra="forbid"):
    """How many caps there may be, and how long their use is remembered."""

    per_account_max: int = Field(
        10_000, ge=1, description="Caps that one account may have, those of episodes included."
    )
    keep_s: float = Field(
        400 * 24 * 3600.0,
        ge=40 * 24 * 3600.0,
        description="How long the use of past days and months, and of episodes that rest and have"
        " no cap of their own, is remembered, seconds.",
    )
