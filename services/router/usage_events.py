"""Usage events as bytes: how they are journalled, batched and recovered; pure.

A journal record is a serialised `UsageEvent`; a batch on the bus is built by concatenating records,
which protobuf defines for repeated fields (encoding guide, "last one wins" and "packed" sections).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError

from services.router.pricing import PriceRow, charge_nusd
from turnpike.events.v1 import events_pb2
from turnpike.type.v1 import usage_pb2

UsageEvent = events_pb2.UsageEvent
TokenUsage = usage_pb2.TokenUsage
_ENDED: Final = (UsageEvent.OUTCOME_COMPLETED, UsageEvent.OUTCOME_INVALID_OUTPUT)
_EVENTS_TAG: Final = bytes([events_pb2.UsageBatch.EVENTS_FIELD_NUMBER << 3 | 2])


def encode_batch(
    router_id: str,
    watermark_unix_ms: int,
    records: Iterable[bytes],
    snapshots: Mapping[str, bytes] = MappingProxyType({}),
) -> bytes:
    """Return a serialised `UsageBatch` of already serialised events; `snapshots` are by id."""
    head = events_pb2.UsageBatch(
        router_id=router_id,
        watermark_unix_ms=watermark_unix_ms,
        snapshots=[
            events_pb2.RouteSnapshot(snapshot_id=snapshot_id, data=data)
            for snapshot_id, data in snapshots.items()
        ],
    )
    parts = [head.SerializeToString()]
    for record in records:
        size = len(record)
        parts.append(_HEADS[size] if size < len(_HEADS) else _EVENTS_TAG + _varint(size))
        parts.append(record)
    return b"".join(parts)


def price_of(event: UsageEvent) -> PriceRow:
    """Return the price row that the event carries."""
    return price_row(event.price)


def price_row(price: usage_pb2.Price) -> PriceRow:
    """Return a price row that was written."""
    return PriceRow(
        price.price_id,
        price.input_pusd_per_token,
        price.output_pusd_per_token,
        price.request_pusd,
        price.unit_pusd,
        price.unit,
    )


def price_message(row: PriceRow) -> usage_pb2.Price:
    """Return a price row as it is written."""
    return usage_pb2.Price(
        price_id=row.price_id,
        input_pusd_per_token=row.input_pusd_per_token,
        output_pusd_per_token=row.output_pusd_per_token,
        request_pusd=row.request_pusd,
        unit_pusd=row.unit_pusd,
        unit=row.unit,
    )


def settle(
    event: UsageEvent, price: PriceRow, usage: TokenUsage, outcome: UsageEvent.Outcome.ValueType
) -> None:
    """Turn an intent into its outcome: fill in usage, charge and id; `price` is the event's.

    Nothing was delivered when no completion token and no unit was, and then nothing is charged; a
    prompt that the upstream has counted costs the owner all the same.
    What an answer that broke its constraint costs is charged and given back.
    """
    event.event_id = f"{event.request_id}:outcome"
    event.kind = UsageEvent.KIND_OUTCOME
    event.outcome = outcome
    event.usage.CopyFrom(usage)
    completion_tokens, units = usage.completion_token_count, usage.unit_count
    is_answered = completion_tokens > 0 or units > 0 or outcome in _ENDED
    if is_answered:
        event.charge_nusd = charged_nusd(price, usage)
    else:
        event.charge_nusd = 0
    if event.HasField("supply") and (is_answered or usage.prompt_token_count):
        set_cost(event)
    if units and not price.unit:
        event.usage.unit_count = 0
    if outcome == UsageEvent.OUTCOME_INVALID_OUTPUT:
        event.refund_nusd = event.charge_nusd


def set_cost(event: UsageEvent) -> None:
    """Note what the use in an event cost by the cost row it carries, if it carries one."""
    supply, usage = event.supply, event.usage
    if supply.HasField("cost"):
        supply.cost_nusd = charged_nusd(price_row(supply.cost), usage)


def charged_nusd(price: PriceRow, usage: TokenUsage) -> int:
    """Return what an answer that used this costs, nano-USD."""
    return charge_nusd(
        price,
        prompt_tokens=usage.prompt_token_count,
        completion_tokens=usage.completion_token_count,
        units=usage.unit_count,
    )


def recover(records: Iterable[bytes], *, now_unix_ms: int) -> list[UsageEvent]:
    """Return one outcome for each request of a dead router's journal.

    A request whose outcome was journalled keeps it; another is settled from its last checkpoint.
    Records that do not parse are left out; the journal's checksums make them impossible.
    """
    last: dict[str, UsageEvent] = {}
    for record in records:
        try:
            event = UsageEvent.FromString(record)
        except DecodeError:
            continue
        known = last.get(event.request_id)
        if known is None or known.kind != UsageEvent.KIND_OUTCOME:
            last[event.request_id] = event
    for event in last.values():
        if event.kind != UsageEvent.KIND_OUTCOME:
            event.end_unix_ms = now_unix_ms
            usage = TokenUsage()
            usage.CopyFrom(event.usage)
            settle(event, price_of(event), usage, UsageEvent.OUTCOME_RECOVERED)
    return list(last.values())


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes([value])
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_HEADS: Final = tuple(_EVENTS_TAG + _varint(size) for size in range(1024))
"""What stands before a record of each usual length."""
