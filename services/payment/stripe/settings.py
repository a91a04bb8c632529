"""What the card rail can be told; every figure has its unit in its name."""

from typing import Self

from pydantic import BaseModel, Field, SecretStr, model_validator


class StripeSettings(BaseModel, frozen=True, extra="forbid"):
    """Stripe's keys, how cards are charged, and how far an account may be in arrears."""

    api_key: SecretStr = Field(
        SecretStr(""), description="Stripe's secret key; empty means that no card is charged."
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Signing secret of the webhook endpoint; required where api_key is set.",
    )
    webhook_secret_previous: SecretStr = Field(
        SecretStr(""), description="The signing secret before, still taken; empty means none."
    )
    api_base: str = Field(
        "https://api.stripe.com",
        pattern=r"^https?://[^/?#\s]+$",
        description="Where Stripe's API is.",
    )
    call_s: float = Field(10.0, gt=0, description="Deadline of one call to Stripe, seconds.")
    tolerance_s: float = Field(
        300.0, gt=0, description="How far the time of a webhook's signature may be off, seconds."
    )
    events_keep_s: float = Field(
        30 * 24 * 3600.0, gt=0, description="How long the ids of webhooks are kept, seconds."
    )
    success_url: str = Field(
        "https://example.com/paid",
        pattern=r"^https?://\S+$",
        description="Where Stripe sends a payer afterwards, unless a request says.",
    )
    cancel_url: str = Field(
        "https://example.com/not-paid",
        pattern=r"^https?://\S+$",
        description="Where Stripe sends a payer who gives up, unless a request says.",
    )
    payment_min_cents: int = Field(100, ge=50, description="Smallest top-up or recharge, US cents.")
    payment_max_cents: int = Field(
        1_000_000, ge=50, le=99_999_999, description="Largest top-up or recharge, US cents."
    )
    decline_count_max: int = Field(
        3, ge=1, description="Declines in a row after which an account is no longer recharged."
    )
    decline_wait_s: float = Field(
        3600.0, ge=0, description="Pause after a decline, times their number, seconds."
    )
    repeat_wait_s: float = Field(
        5.0, ge=0, description="Pause before a charge that Stripe did not answer is sent again."
    )
    # Stripe forgets an idempotency key after a day at the earliest.
    repeat_max_s: float = Field(
        23 * 3600.0,
        gt=0,
        le=24 * 3600.0,
        description="How long a charge is sent again by its key; then it is looked up, seconds.",
    )
    turn_s: float = Field(1.0, gt=0, description="Pause between two looks at accounts, seconds.")
    turn_accounts_max: int = Field(
        256, ge=1, le=4_096, description="Accounts looked at in one turn."
    )
    charges_at_once_max: int = Field(4, ge=1, le=64, description="Cards charged at a time.")
    postpaid_threshold_nusd: int = Field(
        1_000_000_000,
        ge=500_000_000,
        description="Unbilled use at which a post-paid account's card is charged, nano-USD.",
    )
    postpaid_low_percent: int = Field(
        25,
        ge=0,
        le=100,
        description="It is charged earlier when so little of its credit limit is left, percent.",
    )
    postpaid_charge_min_cents: int = Field(
        50, ge=50, description="Smallest charge of a post-paid account, US cents."
    )
    postpaid_daily_max_cents: int = Field(
        100_000, ge=50, description="Charges of a post-paid account in one day, US cents."
    )
    limit_start_nusd: int = Field(
        1_000_000_000, gt=0, description="Credit limit of a new post-paid account, nano-USD."
    )
    limit_growth_percent: int = Field(
        10, ge=0, le=100, description="What the credit limit grows by, percent of what was paid."
    )
    limit_max_nusd: int = Field(
        100_000_000_000, gt=0, description="Largest credit limit, nano-USD."
    )
    invoice_lines_max: int = Field(
        1_000, ge=1, le=10_000, description="Single postings on an invoice; further are grouped."
    )

    @property
    def is_on(self) -> bool:
        """Whether cards are charged."""
        return bool(self.api_key.get_secret_value())

    @model_validator(mode="after")
    def _can_be_trusted(self) -> Self:
        if self.is_on and not self.webhook_secret.get_secret_value().strip():
            raise ValueError("api_key is set: webhook_secret has to be set too")
        if self.payment_min_cents > self.payment_max_cents:
            raise ValueError("payment_min_cents is above payment_max_cents")
        return self
