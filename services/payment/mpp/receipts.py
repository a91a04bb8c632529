"""Receipts: what a payer is told about a delivery, as JSON and as the value of Payment-Receipt.

Pure. Amounts are base units, decimal on the wire. Source: paymentauth.org draft 00, section on
Payment-Receipt, with the members that session clients insist on.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionReceipt:
    """A delivery or a close on a channel; `transaction_hash` is set by what went on chain."""

    challenge_id: str
    channel_id: str
    accepted_base_units: int
    spent_base_units: int
    timestamp_unix_s: int
    unit_count: int | None = None
    transaction_hash: str = ""

    def as_json(self) -> str:
        """Return the receipt as a JSON object, for the stream's event."""
        raise NotImplementedError

    def as_header(self) -> str:
        """Return the value of Payment-Receipt."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ChargeReceipt:
    """A charge; `reference` is the transaction's hash, or the challenge's id for a zero proof."""

    challenge_id: str
    reference: str
    timestamp_unix_s: int
    method: str = "tempo"
    external_id: str = ""

    def as_json(self) -> str:
        """Return the receipt as a JSON object, for the stream's event."""
        raise NotImplementedError

    def as_header(self) -> str:
        """Return the value of Payment-Receipt."""
        raise NotImplementedError


def read_receipt(text: str) -> dict[str, object]:
    """Return the members in a value of Payment-Receipt. For clients and tests.

    Raises:
        ValueError: It is no receipt.
    """
    raise NotImplementedError
