"""What the machine rail can be told; every figure has its unit in its name."""

from typing import Final

from pydantic import BaseModel, Field, SecretStr

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
    calls_max: int = Field(16, ge=1, description="Calls to the node at once; further ones wait.")
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
    """How machines pay for requests."""

    chain: ChainSettings = Field(ChainSettings(), description="The chain that channels live on.")
