"""The events that payments add to a stream, in the form that every known client survives; pure.

One object has the members that payment clients look for, and those of an empty chunk of the client
API, so that loops over `choices[0]` pass it by. Source: the HTTP `Payment` scheme's session intent
for Tempo, draft 00, "SSE"; what clients accept was tried, see `facts/features.md` 5.3.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.openai.answer import DONE
from turnpike.payment.v1 import machine_pb2

NEED_VOUCHER: Final = "payment-need-voucher"
RECEIPT: Final = "payment-receipt"
_EVENT: Final = b"event: "
_encode = msgspec.json.encode


def chunk_members(chunk_id: str, create_unix_s: int, model_id: str) -> dict[str, object]:
    """Return the members of a chat chunk that says nothing."""
    choice: dict[str, object] = {"index": 0, "delta": {}, "finish_reason": None}
    return _chunk("chat.completion.chunk", chunk_id, create_unix_s, model_id, choice)


def text_members(chunk_id: str, create_unix_s: int, model_id: str) -> dict[str, object]:
    """Return the members of a chunk of a text completion that says nothing."""
    choice: dict[str, object] = {"index": 0, "text": "", "finish_reason": None}
    return _chunk("text_completion", chunk_id, create_unix_s, model_id, choice)


def need_voucher(need: machine_pb2.NeedVoucher, members: Mapping[str, object]) -> bytes:
    """Return the event that asks for a voucher; `members` are those of the client API."""
    said = {
        "channelId": need.channel_id,
        "requiredCumulative": need.required_cumulative,
        "acceptedCumulative": need.accepted_cumulative,
        "deposit": need.deposit,
    }
    return _event(NEED_VOUCHER, {**members, **said})


def receipt(receipt_json: str, members: Mapping[str, object]) -> bytes:
    """Return the event that carries a receipt, a JSON object."""
    said = msgspec.json.decode(receipt_json, type=dict[str, msgspec.Raw])
    return _event(RECEIPT, {**members, **said})


def before_last(events: bytes) -> int:
    """Return where the last event of a finished stream begins: `[DONE]`, or one with a name."""
    if events.endswith(DONE):
        return len(events) - len(DONE)
    return max(0, events.rfind(_EVENT))


def _event(name: str, members: Mapping[str, object]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **members}))


def _chunk(
    kind: str, chunk_id: str, create_unix_s: int, model_id: str, choice: dict[str, object]
) -> dict[str, object]:
    return {
        "id": chunk_id,
        "object": kind,
        "created": create_unix_s,
        "model": model_id,
        "choices": [choice],
    }
