"""Receipts: what a payer is told about a delivery, as JSON and as the value of Payment-Receipt.

Pure. Amounts are base units, decimal on the wire. Source: paymentauth.org draft 00, section on
Payment-Receipt, with the members that session clients insist on.
"""

from dataclasses import dataclass
from typing import Final

from services.payment.mpp.encoding import (
    decode_object,
    encode_base64url,
    read_time,
    write_json,
    write_time,
)

_METHOD: Final = "tempo"
_STATUS: Final = "success"
_REQUIRED: Final = ("method", "status", "timestamp", "reference")


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
        return write_json(self._members()).decode()

    def as_header(self) -> str:
        """Return the value of Payment-Receipt."""
        return encode_base64url(write_json(self._members()))

    def _members(self) -> dict[str, object]:
        members: dict[str, object] = {
            "method": _METHOD,
            "intent": "session",
            "status": _STATUS,
            "timestamp": write_time(self.timestamp_unix_s),
            "reference": self.channel_id,
            "challengeId": self.challenge_id,
            "channelId": self.channel_id,
            "acceptedCumulative": str(self.accepted_base_units),
            "spent": str(self.spent_base_units),
        }
        if self.unit_count is not None:
            members["units"] = self.unit_count
        if self.transaction_hash:
            members["txHash"] = self.transaction_hash
        return members


@dataclass(frozen=True, slots=True)
class ChargeReceipt:
    """A charge; `reference` is the transaction's hash, or the challenge's id for a zero proof.

    An empty `challenge_id` or `external_id` is left out.
    """

    challenge_id: str
    reference: str
    timestamp_unix_s: int
    method: str = _METHOD
    external_id: str = ""

    def as_json(self) -> str:
        """Return the receipt as a JSON object, for the stream's event."""
        return write_json(self._members()).decode()

    def as_header(self) -> str:
        """Return the value of Payment-Receipt."""
        return encode_base64url(write_json(self._members()))

    def _members(self) -> dict[str, object]:
        members: dict[str, object] = {
            "method": self.method,
            "status": _STATUS,
            "timestamp": write_time(self.timestamp_unix_s),
            "reference": self.reference,
        }
        if self.challenge_id:
            members["challengeId"] = self.challenge_id
        if self.external_id:
            members["externalId"] = self.external_id
        return members


def read_receipt(text: str) -> dict[str, object]:
    """Return the members in a value of Payment-Receipt. For clients and tests.

    Raises:
        ValueError: It is no receipt of a success.
    """
    members = decode_object(text)
    if missing := [name for name in _REQUIRED if not isinstance(members.get(name), str)]:
        raise ValueError(f"`{missing[0]}` must be a string.")
    if members["status"] != _STATUS:
        raise ValueError("`status` is no success.")
    read_time(str(members["timestamp"]))
    return members
