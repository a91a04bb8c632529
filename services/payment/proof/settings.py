"""What receipts, roots and quotes can be told."""

from pydantic import BaseModel, Field, SecretStr


class ProofSettings(BaseModel, frozen=True, extra="forbid"):
    """How the ledger is signed, and how long quotes hold."""

    signing_key: SecretStr = Field(
        SecretStr(""),
        description="Ed25519 private key of roots and quotes, 32 bytes as base64url; empty makes"
        " one and keeps it under the state folder. Give it where payment runs more than once.",
    )
    roots_path: str = Field(
        ".turnpike/roots.jsonl",
        description="File outside the database that every signed root is appended to.",
    )
    root_s: float = Field(
        5.0, gt=0, description="Pause between two looks for what is to be signed, seconds."
    )
    root_transactions_max: int = Field(
        500, ge=1, le=1_000, description="Ledger transactions that one root covers at most."
    )
    root_receipts_max: int = Field(
        4_096,
        ge=1,
        le=8_192,
        description="A root ends with the transaction that brings it to this many receipts.",
    )
    read_max: int = Field(500, ge=1, le=5_000, description="Rows that the signer reads at once.")
    quote_s: float = Field(
        300.0, gt=0, le=86_400.0, description="How long a quote holds its prices, seconds."
    )
