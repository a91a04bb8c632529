"""What a batch of usage events does to the books.

Pure: takes events and the state they meet, gives rows and drafts. An event is applied once, by its
id; what an outcome costs is taken from its lease, and only when that no longer holds the money from
the balance. Orders that differ from the router's own (redelivery) lead to the same books.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.payment.ledger import (
    ACCOUNT_ID_LENGTH_MAX,
    Draft,
    Kind,
    Split,
    available,
    capture,
    charges_hash,
    split_charge,
)
from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent

AMOUNT_NUSD_MAX: Final = 1_000_000_000_000_000
ID_LENGTH_MAX: Final = 200
BATCH_POSITION: Final = -1
_HOLDING: Final = (UsageEvent.KIND_INTENT, UsageEvent.KIND_CHECKPOINT)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery of the usage stream; `batch` is None when its bytes could not be read."""

    stream_seq: int
    data: bytes
    batch: UsageBatch | None


@dataclass(slots=True)
class LeaseState:
    """A lease while a batch is planned; nano-USD."""

    account_id: str
    granted_nusd: int
    captured_nusd: int
    released_nusd: int

    @property
    def left_nusd(self) -> int:
        """What it still holds."""
        return self.granted_nusd - self.captured_nusd - self.released_nusd


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored about a batch's events: settled outcomes, leases, balances to spend.

    Balances are by ledger account. The plan changes all three as it goes.
    """

    settled: set[str]
    leases: dict[str, LeaseState]
    available: dict[str, int]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something that cannot be applied; `position` is the event's, or -1 for the whole batch."""

    stream_seq: int
    position: int
    reason: str
    data: bytes


@dataclass(slots=True)
class Plan:
    """Rows to write; `charges` and `holds` by column name, `posted` pairs drafts with charges."""

    charges: list[dict[str, Any]] = field(default_factory=list)
    posted: list[tuple[Draft, list[dict[str, Any]]]] = field(default_factory=list)
    holds: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended_requests: list[str] = field(default_factory=list)
    drawn_leases: dict[str, LeaseState] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    duplicate_count: int = 0
    late_count: int = 0
    unknown_lease_count: int = 0


def outcome_id(request_id: str) -> str:
    """Return the event id of a request's one outcome."""
    return f"{request_id}:outcome"


def events_of(parcels: Iterable[Parcel]) -> Iterator[UsageEvent]:
    """Yield the readable events of deliveries in order."""
    for parcel in parcels:
        if parcel.batch is not None:
            yield from parcel.batch.events


def flaw_of(event: UsageEvent) -> str | None:
    """Return why an event cannot be applied, None when it can."""
    if event.kind not in (*_HOLDING, UsageEvent.KIND_OUTCOME):
        return "unknown kind"
    if not event.request_id or len(event.request_id) > ID_LENGTH_MAX:
        return "request_id is missing or too long"
    if not event.account_id or len(event.account_id) > ACCOUNT_ID_LENGTH_MAX:
        return "account_id is missing or too long"
    if not (0 <= event.charge_nusd <= AMOUNT_NUSD_MAX and 0 <= event.hold_nusd <= AMOUNT_NUSD_MAX):
        return "amount is out of range"
    is_outcome = event.kind == UsageEvent.KIND_OUTCOME
    if is_outcome and event.event_id != outcome_id(event.request_id):
        return "event_id is not the outcome's of its request"
    return None


def plan_batch(
    parcels: Sequence[Parcel], known: Known, *, reference: str, now_ms: int, hold_ttl_ms: int
) -> Plan:
    """Return what deliveries, in stream order, change."""
    planner = _Planner(known, expires_at_ms=now_ms + hold_ttl_ms)
    for parcel in parcels:
        planner.take(parcel)
    plan = planner.plan
    plan.posted = list(_drafts(plan.charges, planner.splits, reference, now_ms))
    return plan


class _Planner:
    def __init__(self, known: Known, *, expires_at_ms: int) -> None:
        self.plan = Plan()
        self.splits: dict[str, Split] = {}
        self._known = known
        self._expires_at_ms = expires_at_ms

    def take(self, parcel: Parcel) -> None:
        if parcel.batch is None:
            self._bury(parcel.stream_seq, BATCH_POSITION, "unreadable batch", parcel.data)
            return
        if parcel.batch.router_id:
            self.plan.watermarks[parcel.batch.router_id] = parcel.batch.watermark_unix_ms
        for position, event in enumerate(parcel.batch.events):
            flaw = flaw_of(event)
            if flaw is not None:
                self._bury(parcel.stream_seq, position, flaw, event.SerializeToString())
            elif event.kind == UsageEvent.KIND_OUTCOME:
                self._settle(event, parcel.stream_seq)
            else:
                self._name_hold(event)

    def _bury(self, stream_seq: int, position: int, reason: str, data: bytes) -> None:
        self.plan.dead_letters.append(DeadLetter(stream_seq, position, reason, data))

    def _name_hold(self, event: UsageEvent) -> None:
        request_id = event.request_id
        lease = self._known.leases.get(event.lease_id)
        if outcome_id(request_id) in self._known.settled or not event.hold_nusd:
            return
        if lease is None or not lease.left_nusd:
            return
        self.plan.holds[request_id] = {
            "request_id": request_id,
            "lease_id": event.lease_id,
            "amount_nusd": event.hold_nusd,
            "expires_at_unix_ms": self._expires_at_ms,
        }

    def _settle(self, event: UsageEvent, stream_seq: int) -> None:
        event_id = event.event_id
        if event_id in self._known.settled:
            self.plan.duplicate_count += 1
            return
        self._known.settled.add(event_id)
        self.plan.ended_requests.append(event.request_id)
        self.plan.holds.pop(event.request_id, None)
        split = self._take_charge(event)
        is_late = split.from_available_nusd > 0 or (
            split.writeoff_nusd > 0 and split.charged_nusd < event.hold_nusd
        )
        self.plan.late_count += is_late
        self.splits[event_id] = split
        self.plan.charges.append(
            {
                "event_id": event_id,
                "request_id": event.request_id,
                "account_id": event.account_id,
                "key_id": event.key_id,
                "lease_id": event.lease_id,
                "model_id": event.model_id,
                "deployment": event.deployment,
                "charge_nusd": event.charge_nusd,
                "charged_nusd": split.charged_nusd,
                "writeoff_nusd": split.writeoff_nusd,
                "is_late": int(is_late),
                "stream_seq": stream_seq,
                "txn_seq": None,
            }
        )

    def _take_charge(self, event: UsageEvent) -> Split:
        if not event.charge_nusd:
            return Split(0, 0, 0)
        lease = self._known.leases.get(event.lease_id)
        if lease is None or lease.account_id != event.account_id:
            self.plan.unknown_lease_count += 1
            lease = None
        purse = available(event.account_id)
        split = split_charge(
            event.charge_nusd,
            hold_nusd=event.hold_nusd,
            lease_left_nusd=lease.left_nusd if lease else 0,
            available_nusd=max(0, self._known.available.get(purse, 0)),
        )
        if lease is not None and split.from_held_nusd:
            lease.captured_nusd += split.from_held_nusd
            self.plan.drawn_leases[event.lease_id] = lease
        if split.from_available_nusd:
            self._known.available[purse] -= split.from_available_nusd
        return split


def _drafts(
    charges: Iterable[dict[str, Any]], splits: Mapping[str, Split], reference: str, now_ms: int
) -> Iterator[tuple[Draft, list[dict[str, Any]]]]:
    by_account: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for charge in charges:
        if charge["charge_nusd"]:
            by_account[charge["account_id"]].append(charge)
    for account_id, rows in sorted(by_account.items()):
        parts = [splits[row["event_id"]] for row in rows]
        total = Split(
            sum(part.from_held_nusd for part in parts),
            sum(part.from_available_nusd for part in parts),
            sum(part.writeoff_nusd for part in parts),
        )
        detail = charges_hash(charge_fields(row) for row in rows)
        postings = capture(account_id, total)
        yield Draft(Kind.SETTLEMENT, reference, now_ms, postings, detail), rows


def charge_fields(row: Mapping[str, Any]) -> tuple[str, int, int, int]:
    """Return what a transaction's detail hash covers of a charge."""
    return row["event_id"], row["charge_nusd"], row["charged_nusd"], row["writeoff_nusd"]
