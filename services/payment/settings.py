"""What the payment room can be told; every figure has its unit in its name."""

from pydantic import BaseModel, Field

from services.payment.caps.settings import CapsSettings
from services.payment.mpp.settings import MppSettings
from services.payment.proof.settings import ProofSettings
from services.payment.stripe.settings import StripeSettings


class PaymentSettings(BaseModel, frozen=True, extra="forbid"):
    """How the ledger grants leases, settles usage and gives up on what never ends."""

    database_url: str = Field(
        "sqlite+aiosqlite:///.turnpike/payment.db",
        description="SQLAlchemy URL of the room's own database, SQLite or PostgreSQL.",
    )
    lease_s: float = Field(30.0, gt=0, description="How long a lease may be drawn from, seconds.")
    lease_max_nusd: int = Field(
        1_000_000_000, gt=0, description="Largest lease beyond what is needed at once, nano-USD."
    )
    lease_share: int = Field(
        4, ge=1, description="A lease takes at most one part in this many of the balance."
    )
    draw_margin_s: float = Field(
        2.0, ge=0, description="Holders stop drawing this long before a lease ends, seconds."
    )
    draw_grace_s: float = Field(
        5.0,
        ge=0,
        description="A draw made before the end may be dispatched up to this much later, seconds.",
    )
    hold_ttl_s: float = Field(
        90.0, gt=0, description="How long a hold outlives its last sign of life, seconds."
    )
    router_gone_s: float = Field(
        90.0, gt=0, description="A router silent for this long no longer delays releases, seconds."
    )
    recall_wait_s: float = Field(
        0.2, ge=0, description="How long a refusal waits for unspent leases to return, seconds."
    )
    recall_waiters_max: int = Field(
        1_024, ge=1, description="Requests that may wait for returns; further ones are refused."
    )
    credit_max_nusd: int = Field(
        1_000_000_000_000_000, gt=0, description="Largest single credit, nano-USD."
    )
    fetch_max: int = Field(256, ge=1, le=4_096, description="Deliveries fetched at once.")
    fetch_wait_s: float = Field(
        5.0, gt=0, description="How long a fetch waits for the first delivery, seconds."
    )
    # Leases wait for the transaction that runs: this many events take it about 10 ms.
    settle_events_max: int = Field(
        1_536,
        ge=1,
        description="Events of one transaction; a larger delivery is applied alone.",
    )
    # No lease waits for outcomes: what a holder returns is what it has not drawn.
    settle_linger_s: float = Field(
        0.4,
        ge=0,
        description="Pause after a fetch that was not full, so that events gather, seconds.",
    )
    refunds_per_hour_max: int = Field(
        20, ge=0, description="Refunds that a key may have in an hour before it is flagged."
    )
    retry_s: float = Field(
        0.5, gt=0, description="Pause before a failed settlement or sweep is repeated, seconds."
    )
    database_s: float = Field(
        15.0, gt=0, description="Deadline of one ledger transaction, seconds."
    )
    database_attempts_max: int = Field(
        3, ge=1, description="How often a transaction is tried when the connection breaks."
    )
    sweep_s: float = Field(1.0, gt=0, description="Pause between two sweeps, seconds.")
    sweep_max: int = Field(500, ge=1, description="Leases or holds released in one sweep.")
    answers_keep_s: float = Field(
        7 * 24 * 3600.0,
        gt=0,
        description="How long closed leases, answers to repeats and charges whose usage event is"
        " missing are kept, seconds.",
    )
    verify_page_max: int = Field(1_000, ge=1, le=10_000, description="Rows verified at once.")
    findings_max: int = Field(1_000, ge=1, le=1_000, description="Findings reported at most.")
    metering_s: float = Field(
        10.0, gt=0, description="Deadline of one page of metering's charges, seconds."
    )
    stream_bytes_max: int = Field(
        8 * 1024**3, gt=0, description="Size of the usage stream, bytes; full refuses new events."
    )
    stream_age_max_s: float = Field(
        7 * 24 * 3600.0, gt=0, description="How long the usage stream keeps events, seconds."
    )
    stream_duplicate_window_s: float = Field(
        600.0, gt=0, description="How long the usage stream drops repeated message ids, seconds."
    )
    caps: CapsSettings = Field(
        default_factory=CapsSettings, description="Spend caps of accounts, keys and episodes."
    )
    stream_replicas: int = Field(1, ge=1, le=5, description="Copies of the usage stream.")
    proof: ProofSettings = Field(
        default_factory=ProofSettings, description="Receipts, signed roots and quotes."
    )
    mpp: MppSettings = Field(MppSettings(), description="Machines that pay for their requests.")
    stripe: StripeSettings = Field(
        default_factory=StripeSettings, description="Payment by card, through Stripe."
    )
