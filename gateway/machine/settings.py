"""Settings of the machine rail in the gateway; `payment.mpp` has those of the money itself."""

from pydantic import BaseModel, Field


class MachinePaymentSettings(BaseModel, frozen=True, extra="forbid"):
    """Whether requests may pay for themselves, in which steps, and what holds for their payers."""

    is_enabled: bool = Field(
        default=False,
        description="Whether requests without a key are offered to pay by the Payment scheme.",
    )
    payment_authorization_header: bool = Field(
        default=False,
        description="Whether a key may come together with a Payment-Authorization header, which"
        " then pays, and a refusal for want of credit offers that.",
    )
    realm: str = Field(
        "turnpike",
        min_length=1,
        max_length=200,
        pattern=r"^[ !#-\[\]-~]+$",
        description="Protection space that challenges name, such as the gateway's host.",
    )
    slice_tokens: int = Field(
        256, ge=1, description="Output that is held at once while an answer streams, tokens."
    )
    voucher_wait_s: float = Field(
        60.0, gt=0, description="Longest pause of a stream that waits for a voucher, seconds."
    )
    credential_timeout_s: float = Field(
        20.0,
        gt=0,
        description="Longest wait for a credential to be taken, also on chain, seconds.",
    )
    header_bytes_max: int = Field(
        64 * 1024,
        ge=1024,
        le=256 * 1024,
        description="Longest header line where the rail is on, bytes; never less than"
        " gateway.header_bytes_max.",
    )
    tier: str = Field("machine", description="Tier that payers without a key are shown.")
    requests_per_minute: int = Field(
        0, ge=0, description="Requests of one payer in a minute, per gateway worker; 0 is no limit."
    )
    tokens_per_minute: int = Field(
        0, ge=0, description="Tokens of one payer in a minute, per gateway worker; 0 is no limit."
    )
    payers_max: int = Field(
        100_000, ge=1, description="Payers whose limits are counted at once; the oldest give way."
    )
