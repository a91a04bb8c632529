"""What the machine rail can be told; every figure has its unit in its name."""

import json
from typing import Final

from pydantic import BaseModel, Field, SecretStr, field_validator

TEMPO_ESCROW: Final = "0x4d50500000000000000000000000000000000000"
PATH_USD: Final = "0x20c0000000000000000000000000000000000000"
ADDRESS: Final = "^0x[0-9a-f]{40}$"


class ChainSettings(BaseModel, frozen=True, extra="forbid"):
    """Which chain is used, with which node, and how long it is waited for."""

    rpc_url: str = Field("", description="JSON-RPC address of a node; empty: no chain is used.")
    rpc_authorization: SecretStr = Field(
        SecretStr(""), description="Authorization header for the node; empty: none is sent."
    )
    chain_id: int = Field(4217, gt=0, description="Chain that the node must be of: 4217 is Tempo.")
    token: str = Field(
        PATH_USD, pattern=ADDRESS, description="TIP-20 token that is paid in, lower-case hex."
    )
    escrow: str = Field(
        TEMPO_ESCROW, pattern=ADDRESS, description="Channel reserve, lower-case hex."
    )
    payee_key: SecretStr = Field(
        SecretStr(""),
        description="Private key of the address that is paid, 32 bytes hex; keep it in a secret.",
    )
    call_s: float = Field(5.0, gt=0, description="Deadline of one call to the node, seconds.")
    receipt_s: float = Field(
        10.0, gt=0, description="How long a sent transaction is waited for, seconds."
    )
    poll_s: float = Field(0.25, gt=0, description="Pause between two looks for a receipt, seconds.")
    turn_s: float = Field(
        30.0, gt=0, description="How long the payee's turn to send is waited for, seconds."
    )
    answer_bytes_max: int = Field(
        1_048_576, gt=0, description="Largest answer of the node that is read, bytes."
    )
    calls_max: int = Field(
        16,
        ge=2,
        description="Calls to the node at once, half of them payers' transactions; others wait.",
    )
    gas_max: int = Field(
        10_000_000, ge=21_000, description="Gas that one transaction of the payee may use."
    )
    gas_margin_percent: int = Field(
        100, ge=0, le=1_000, description="Added to the estimated gas, percent."
    )
    fee_per_gas_max: int = Field(
        200_000_000_000,
        gt=0,
        description="Highest fee per gas of the payee's transactions, the chain's smallest unit.",
    )
    fee_bump_percent: int = Field(
        25, ge=10, le=100, description="Added to the fee when a transaction is replaced, percent."
    )
    log_blocks_max: int = Field(5_000, ge=1, description="Blocks that one search for events spans.")
    log_pages_max: int = Field(
        100, ge=1, description="Searches after which looking for the end of a channel gives up."
    )


class MppSettings(BaseModel, frozen=True, extra="forbid"):
    """How machines pay for requests. It is on where a chain and a secret are named."""

    chain: ChainSettings = Field(ChainSettings(), description="The chain that channels live on.")
    secrets: tuple[SecretStr, ...] = Field(
        (),
        description="Secrets that bind challenges; the first signs, the others still verify. A JSON"
        " list, in a variable as in a secret file.",
    )
    challenge_s: int = Field(300, ge=30, description="How long a challenge may be met, seconds.")
    deposit_min_base_units: int = Field(
        1_000_000, ge=1, description="Smallest deposit of a channel, base units of the token."
    )
    deposit_max_base_units: int = Field(
        2**62, ge=1, lt=2**63, description="Largest deposit of a channel, base units of the token."
    )
    voucher_delta_min_base_units: int = Field(
        1, ge=1, description="Least by which a voucher raises the one before, base units."
    )
    vouchers_per_second_max: int = Field(
        10, ge=1, description="Vouchers of one channel that are taken in a second."
    )
    requests_per_channel_max: int = Field(
        8, ge=1, description="Requests of one channel that run at once."
    )
    chain_fresh_s: float = Field(
        5.0, gt=0, description="How old the known state of a channel may be at a voucher, seconds."
    )
    chain_stale_max_s: float = Field(
        60.0,
        gt=0,
        description="How old it may be while the chain cannot be reached, seconds.",
    )
    settle_base_units: int = Field(
        5_000_000, ge=1, description="A channel that owes so much is settled on chain, base units."
    )
    settle_s: float = Field(
        6 * 3600.0, gt=0, description="One that owes anything for so long is settled, seconds."
    )
    idle_close_s: float = Field(
        24 * 3600.0, gt=0, description="A channel that nobody used for so long is closed, seconds."
    )
    grace_margin_s: float = Field(
        300.0,
        gt=0,
        description="A channel whose payer closes alone is closed so long before it may, seconds.",
    )
    refund_min_base_units: int = Field(
        100_000, ge=1, description="What a charge left over is sent back from here on, base units."
    )
    refund_after_s: float = Field(
        600.0, ge=0, description="How long after a payer's last transfer that is, seconds."
    )
    close_wait_s: float = Field(
        10.0, gt=0, description="How long a close waits for charges on their way, seconds."
    )
    poll_s: float = Field(
        0.5, gt=0, description="Pause between two looks at a channel that is waited for, seconds."
    )
    waiters_max: int = Field(1_024, ge=1, description="Requests that may wait for vouchers.")
    tick_s: float = Field(5.0, gt=0, description="Pause between two rounds on chain, seconds.")
    tick_max: int = Field(100, ge=1, description="Channels dealt with in one round.")

    @field_validator("secrets", mode="before")
    @classmethod
    def _read_secrets(cls, value: object) -> object:
        """Read the text of a secret file; nothing of it is said when it is wrong."""
        if not isinstance(value, str):
            return value
        try:
            found: object = json.loads(value)
        except ValueError:
            raise ValueError("must be a JSON list of texts") from None
        return found

    @field_validator("secrets")
    @classmethod
    def _are_secrets(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(secret.get_secret_value() for secret in secrets):
            raise ValueError("none may be empty: anybody could sign with it")
        return secrets

    @property
    def is_enabled(self) -> bool:
        """Whether requests may pay for themselves."""
        return bool(self.chain.rpc_url and self.secrets)
