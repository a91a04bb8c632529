"""Statements of settlement: a group of deliveries becomes rows in one transaction."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select, update

from services.payment import ledger
from services.payment.batch import (
    Known,
    LeaseState,
    Parcel,
    Plan,
    events_of,
    outcome_id,
    plan_batch,
)
from services.payment.store_books import Books
from services.payment.store_leases import CLOSED, OPEN
from services.payment.store_tables import (
    charges,
    dead_letters,
    holds,
    insert_once,
    leases,
    router_watermarks,
    stream_position,
    upsert,
)

_BEYOND_MAX: Final = 4_096
_SETTLED: Final = select(charges.c.event_id).where(
    charges.c.event_id.in_(bindparam("ids", expanding=True))
)
_LEASES: Final = select(
    leases.c.lease_id,
    leases.c.account_id,
    leases.c.granted_nusd,
    leases.c.captured_nusd,
    leases.c.released_nusd,
).where(leases.c.lease_id.in_(bindparam("ids", expanding=True)))
_CAPTURE: Final = (
    update(leases)
    .where(leases.c.lease_id == bindparam("lease"))
    .values(captured_nusd=bindparam("captured"), state=bindparam("new_state"))
)
_CHARGES: Final = charges.insert()
_END_HOLDS: Final = delete(holds).where(holds.c.request_id.in_(bindparam("ids", expanding=True)))
_POSITION: Final = select(stream_position.c.applied_seq, stream_position.c.beyond).where(
    stream_position.c.stream == bindparam("name")
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a group of deliveries did."""

    charge_count: int = 0
    duplicate_count: int = 0
    late_count: int = 0
    unknown_lease_count: int = 0
    dead_letter_count: int = 0
    charged_nusd: int = 0
    writeoff_nusd: int = 0


def settle(
    connection: Connection, parcels: Sequence[Parcel], *, stream: str, now_ms: int, hold_ttl_ms: int
) -> Applied:
    """Apply deliveries; those applied before change nothing but the routers' watermarks."""
    books = Books(connection)
    known = _known(connection, books, parcels)
    reference = f"{stream}:{parcels[0].stream_seq}-{parcels[-1].stream_seq}"
    plan = plan_batch(parcels, known, reference=reference, now_ms=now_ms, hold_ttl_ms=hold_ttl_ms)
    for draft, rows in plan.posted:
        seq = books.post(draft)
        for row in rows:
            row["txn_seq"] = seq
    books.flush()
    _write_charges(connection, plan)
    _write_state(connection, plan, now_ms=now_ms)
    _advance(connection, stream, (parcel.stream_seq for parcel in parcels))
    return _summary(plan)


def bury(
    connection: Connection, parcel: Parcel, *, stream: str, reason: str, now_ms: int
) -> Applied:
    """Keep a delivery that could not be applied and count its position as applied."""
    poison = Parcel(parcel.stream_seq, parcel.data, None)
    plan = plan_batch(
        [poison], Known(set(), {}, {}), reference=stream, now_ms=now_ms, hold_ttl_ms=0
    )
    _write_dead_letters(connection, plan, now_ms=now_ms, reason=reason)
    _advance(connection, stream, [parcel.stream_seq])
    return _summary(plan)


def applied_seq(connection: Connection, stream: str) -> int:
    """Return the last position up to which everything was applied; 0 when nothing was."""
    row = connection.execute(_POSITION, {"name": stream}).one_or_none()
    return int(row.applied_seq) if row else 0


def _known(connection: Connection, books: Books, parcels: Sequence[Parcel]) -> Known:
    requests: set[str] = set()
    lease_ids: set[str] = set()
    account_ids: set[str] = set()
    for event in events_of(parcels):
        requests.add(event.request_id)
        lease_ids.add(event.lease_id)
        account_ids.add(event.account_id)
    if not requests:
        return Known(set(), {}, {})
    ids = [outcome_id(request_id) for request_id in requests]
    settled = set(connection.execute(_SETTLED, {"ids": ids}).scalars())
    lease_ids.discard("")
    found = connection.execute(_LEASES, {"ids": list(lease_ids)}) if lease_ids else ()
    states = {lease_id: LeaseState(*state) for lease_id, *state in found}
    return Known(settled, states, books.balances(map(ledger.available, sorted(account_ids))))


def _write_charges(connection: Connection, plan: Plan) -> None:
    if plan.charges:
        connection.execute(_CHARGES, plan.charges)
    if plan.drawn_leases:
        rows = [
            {
                "lease": lease_id,
                "captured": lease.captured_nusd,
                "new_state": OPEN if lease.left_nusd else CLOSED,
            }
            for lease_id, lease in plan.drawn_leases.items()
        ]
        connection.execute(_CAPTURE, rows)


def _write_state(connection: Connection, plan: Plan, *, now_ms: int) -> None:
    if plan.ended_requests:
        connection.execute(_END_HOLDS, {"ids": plan.ended_requests})
    if plan.holds:
        connection.execute(upsert(connection, holds), list(plan.holds.values()))
    if plan.watermarks:
        rows = [
            {"router_id": router_id, "watermark_unix_ms": moment, "seen_unix_ms": now_ms}
            for router_id, moment in plan.watermarks.items()
        ]
        connection.execute(upsert(connection, router_watermarks), rows)
    _write_dead_letters(connection, plan, now_ms=now_ms)


def _write_dead_letters(
    connection: Connection, plan: Plan, *, now_ms: int, reason: str = ""
) -> None:
    rows = [
        {
            "stream_seq": letter.stream_seq,
            "position": letter.position,
            "reason": reason or letter.reason,
            "data": letter.data,
            "unix_ms": now_ms,
        }
        for letter in plan.dead_letters
    ]
    if rows:
        connection.execute(insert_once(connection, dead_letters), rows)


def _advance(connection: Connection, stream: str, seqs: Iterable[int]) -> None:
    row = connection.execute(_POSITION, {"name": stream}).one_or_none()
    ordered = sorted(set(seqs))
    position = row.applied_seq if row else ordered[0] - 1
    waiting = json.loads(row.beyond) if row else []
    position, waiting = advance(position, waiting, ordered)
    changed = {"stream": stream, "applied_seq": position, "beyond": json.dumps(waiting)}
    connection.execute(upsert(connection, stream_position), changed)


def advance(position: int, waiting: Sequence[int], seqs: Iterable[int]) -> tuple[int, list[int]]:
    """Return the gapless position and what waits beyond it, after more was applied.

    Deliveries may come out of order after a crash. A gap that more than a bound of later ones
    have passed was lost with its messages and is skipped.
    """
    pending = sorted({seq for seq in (*waiting, *seqs) if seq > position})
    for taken, seq in enumerate(pending):
        if seq != position + 1 and len(pending) - taken <= _BEYOND_MAX:
            return position, pending[taken:]
        position = seq
    return position, []


def _summary(plan: Plan) -> Applied:
    return Applied(
        charge_count=len(plan.charges),
        duplicate_count=plan.duplicate_count,
        late_count=plan.late_count,
        unknown_lease_count=plan.unknown_lease_count,
        dead_letter_count=len(plan.dead_letters),
        charged_nusd=sum(row["charged_nusd"] for row in plan.charges),
        writeoff_nusd=sum(row["writeoff_nusd"] for row in plan.charges),
    )
