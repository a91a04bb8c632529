"""From bytes of the usage stream to rows: which events are stored, which are refused and why.

Pure. Only outcomes become records; intents and checkpoints are passed over. What payment refuses is
refused here too, so that both rooms count the same events; nothing that is let through can fail in
either database.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent

OUTCOME_SUFFIX: Final = ":outcome"
WHOLE_BATCH: Final = -1
_REQUEST_ID_LENGTH_MAX: Final = 200
_ACCOUNT_ID_LENGTH_MAX: Final = 128
_TEXT_LENGTH_MAX: Final = 200
_AMOUNT_NUSD_MAX: Final = 1_000_000_000_000_000
_COUNT_MAX: Final = 1_000_000_000_000
_UNIX_MS_MAX: Final = 253_402_300_799_999
_OUTCOME: Final = UsageEvent.KIND_OUTCOME
_RUNNING: Final = (UsageEvent.KIND_INTENT, UsageEvent.KIND_CHECKPOINT)
_OUTCOMES: Final[dict[int, str]] = {
    UsageEvent.OUTCOME_COMPLETED: "completed",
    UsageEvent.OUTCOME_CLIENT_CLOSED: "client_closed",
    UsageEvent.OUTCOME_UPSTREAM_FAILED: "upstream_failed",
    UsageEvent.OUTCOME_TIMED_OUT: "timed_out",
    UsageEvent.OUTCOME_RECOVERED: "recovered",
    UsageEvent.OUTCOME_REFUSED: "refused",
    UsageEvent.OUTCOME_INVALID_OUTPUT: "invalid_output",
    UsageEvent.OUTCOME_HEDGED: "hedged",
}


class Parcel(NamedTuple):
    """What one delivery holds, and where in the stream it stands."""

    stream_seq: int
    data: bytes


class Record(NamedTuple):
    """One finished request; the fields are the columns of `usage_records`, in their order."""

    event_id: str
    account_id: str
    key_id: str
    model_id: str
    deployment: str
    provider: str
    outcome: str
    finish_reason: str
    prompt_token_count: int
    completion_token_count: int
    cached_prompt_token_count: int
    reasoning_token_count: int
    usage_source: int
    charge_nusd: int
    start_unix_ms: int
    duration_ms: int
    ttft_ms: int
    is_streaming: int
    attempt_count: int
    stream_seq: int


class Extra(NamedTuple):
    """What few requests have; the fields are the columns of `usage_extras`, in their order."""

    event_id: str
    unit: str
    unit_count: int
    refund_nusd: int
    episode_id: str
    is_byok: int = 0


class RouteDecision(NamedTuple):
    """How a route was chosen; the fields are the columns of `route_decisions`, in their order."""

    event_id: str
    data: bytes


class RouteSnapshot(NamedTuple):
    """What routes were chosen from; the fields are the columns of `route_snapshots`."""

    snapshot_id: str
    data: bytes


_read_event: Final = attrgetter(
    "event_id",
    "account_id",
    "key_id",
    "model_id",
    "deployment",
    "provider",
    "outcome",
    "finish_reason",
    "charge_nusd",
    "start_unix_ms",
    "end_unix_ms",
    "ttft_ms",
    "is_streaming",
    "attempt_count",
    "kind",
    "request_id",
    "hold_nusd",
    "refund_nusd",
    "episode_id",
    "is_byok",
)
_read_usage: Final = attrgetter(
    "prompt_token_count",
    "completion_token_count",
    "cached_prompt_token_count",
    "reasoning_token_count",
    "source",
    "unit_count",
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What cannot be stored; `position` is the event's in its batch, or -1 for all of it."""

    stream_seq: int
    position: int
    reason: str
    data: bytes


@dataclass(slots=True)
class Opened:
    """What deliveries hold: one record for each event id, the first in stream order.

    `extras` has an entry for each record with units, a refund, an episode or a key of the account's
    own, `decisions` for each whose route was chosen among several.
    """

    records: dict[str, Record] = field(default_factory=dict)
    extras: dict[str, Extra] = field(default_factory=dict)
    decisions: dict[str, RouteDecision] = field(default_factory=dict)
    snapshots: dict[str, RouteSnapshot] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    unreadable: set[int] = field(default_factory=set)


def open_parcels(parcels: Iterable[Parcel]) -> Opened:
    """Read deliveries, given in stream order; `unreadable` are those that are no batch at all."""
    opened = Opened()
    for parcel in parcels:
        try:
            batch = UsageBatch.FromString(parcel.data)
        except DecodeError:
            opened.unreadable.add(parcel.stream_seq)
            opened.dead_letters.append(
                DeadLetter(parcel.stream_seq, WHOLE_BATCH, "unreadable batch", parcel.data)
            )
            continue
        _read(batch, parcel.stream_seq, opened)
        for snapshot in batch.snapshots:
            if 0 < len(snapshot.snapshot_id) <= _TEXT_LENGTH_MAX:
                snapshot_id = _printable(snapshot.snapshot_id)
                opened.snapshots[snapshot_id] = RouteSnapshot(snapshot_id, snapshot.data)
    return opened


def _read(batch: UsageBatch, stream_seq: int, opened: Opened) -> None:
    records = opened.records
    for position, event in enumerate(batch.events):
        if event.kind in _RUNNING:
            continue
        record, extra, flaw = _record(event, stream_seq)
        texts = "".join(record[:8])
        if len(texts) > _TEXT_LENGTH_MAX or not texts.isprintable():
            record = _cleaned(record)
            flaw = flaw or _flaw_of_ids(record)
        if flaw:
            opened.dead_letters.append(
                DeadLetter(stream_seq, position, flaw, event.SerializeToString())
            )
        elif record.event_id not in records:
            records[record.event_id] = record
            if extra is not None:
                opened.extras[record.event_id] = extra
            if decision := event.decision:
                opened.decisions[record.event_id] = RouteDecision(record.event_id, decision)


def _record(event: UsageEvent, stream_seq: int) -> tuple[Record, Extra | None, str]:
    """Return the record of an event, its extra, and why it cannot be stored or nothing."""
    # Each field is read once and looked at as a local: this is what an event costs this room.
    # fmt: off
    (
        event_id, account_id, key_id, model_id, deployment, provider, outcome, finish_reason,
        charge_nusd, start, end, ttft, is_streaming, attempts, kind, request_id, hold_nusd,
        refund_nusd, episode_id, is_byok,
    ) = _read_event(event)
    prompt, completion, cached, reasoning, source, units = _read_usage(event.usage)
    duration = end - start if end > start else 0
    flaw = (
        _flaw_of_claim(kind, request_id, hold_nusd, event_id, account_id, charge_nusd)
        or _flaw_of_figures(prompt, completion, cached, reasoning, (start, duration, ttft))
    )
    fields = (
        event_id, account_id, key_id, model_id, deployment, provider,
        _OUTCOMES.get(outcome, "unknown"), finish_reason,
        prompt, completion, cached, reasoning, source, charge_nusd, start, duration, ttft,
        # The driver of SQLite takes an integer as it is and asks around about a bool.
        1 if is_streaming else 0, attempts, stream_seq,
    )
    # fmt: on
    extra = None
    if units or refund_nusd or episode_id or is_byok:
        unit = _printable(event.price.unit) if units else ""
        episode_id = _printable(episode_id)
        extra = Extra(event_id, unit, units, refund_nusd, episode_id, int(is_byok))
        flaw = flaw or _flaw_of_extra(extra, charge_nusd)
    return tuple.__new__(Record, fields), extra, flaw


def _cleaned(record: Record) -> Record:
    """Return the record with what upstreams and clients named made printable and short."""
    return record._replace(
        model_id=_printable(record.model_id),
        deployment=_printable(record.deployment),
        provider=_printable(record.provider),
        finish_reason=_printable(record.finish_reason),
    )


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_TEXT_LENGTH_MAX])


def _flaw_of_claim(
    kind: int, request_id: str, hold_nusd: int, event_id: str, account_id: str, charge_nusd: int
) -> str:
    if kind != _OUTCOME:
        return "unknown kind"
    if not 0 < len(request_id) <= _REQUEST_ID_LENGTH_MAX:
        return "request_id is missing or too long"
    if not 0 < len(account_id) <= _ACCOUNT_ID_LENGTH_MAX:
        return "account_id is missing or too long"
    if not (0 <= charge_nusd <= _AMOUNT_NUSD_MAX and 0 <= hold_nusd <= _AMOUNT_NUSD_MAX):
        return "amount is out of range"
    if event_id != request_id + OUTCOME_SUFFIX:
        return "event_id is not the outcome's of its request"
    return ""


def _flaw_of_ids(record: Record) -> str:
    if len(record.key_id) > _TEXT_LENGTH_MAX or not "".join(record[:3]).isprintable():
        return "an id is too long or not printable"
    return ""


def _flaw_of_figures(
    prompt: int, completion: int, cached: int, reasoning: int, times_ms: tuple[int, int, int]
) -> str:
    if not (
        0 <= prompt <= _COUNT_MAX
        and 0 <= completion <= _COUNT_MAX
        and 0 <= cached <= _COUNT_MAX
        and 0 <= reasoning <= _COUNT_MAX
    ):
        return "token count is out of range"
    start, duration, ttft = times_ms
    if not (0 <= start <= _UNIX_MS_MAX and duration <= _UNIX_MS_MAX and 0 <= ttft <= _UNIX_MS_MAX):
        return "time is out of range"
    return ""


def _flaw_of_extra(extra: Extra, charge_nusd: int) -> str:
    if not 0 <= extra.refund_nusd <= charge_nusd:
        return "refund is not a part of the charge"
    if not 0 <= extra.unit_count <= _COUNT_MAX:
        return "unit count is out of range"
    return ""
