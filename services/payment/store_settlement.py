"""Statements of settlement: a group of deliveries becomes rows in one transaction."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, literal_column, select, update

from kit.db_statements import KeyedStatement, Statement
from services.payment import ledger
from services.payment.batch import (
    Claim,
    Known,
    LeaseState,
    Parcel,
    Plan,
    claims_of,
    outcome_id,
    plan_batch,
)
from services.payment.caps.store_late import LateUse
from services.payment.promos.marks import mark
from services.payment.promos.store import use_up
from services.payment.proof.store_receipts import ReceiptBook
from services.payment.store_books import Books
from services.payment.store_leases import CLOSED
from services.payment.store_refunds import FlaggedKey, post_refunds, write_refunds
from services.payment.store_tables import (
    charges,
    dead_letters,
    holds,
    insert,
    insert_once,
    leases,
    router_watermarks,
    stream_position,
    upsert,
)
from services.payment.suppliers.store_earnings import post_earnings, write_earnings

_BEYOND_MAX: Final = 4_096
_SETTLED: Final = KeyedStatement(select(charges.c.event_id), charges.c.event_id)
_LEASES: Final = KeyedStatement(
    select(
        leases.c.lease_id,
        leases.c.account_id,
        leases.c.granted_nusd,
        leases.c.captured_nusd,
        leases.c.released_nusd,
    ),
    leases.c.lease_id,
)
_CAPTURE: Final = Statement(
    update(leases)
    .where(leases.c.lease_id == bindparam("lease"))
    .values(captured_nusd=bindparam("captured")),
    "lease",
    "captured",
)
_CLOSE: Final = KeyedStatement(
    update(leases).values(state=literal_column(f"'{CLOSED}'")), leases.c.lease_id
)
_CHARGES: Final = insert(charges)
_HOLDS: Final = upsert(holds)
_END_HOLDS: Final = KeyedStatement(delete(holds), holds.c.request_id)
_WATERMARKS: Final = upsert(router_watermarks)
_DEAD_LETTERS: Final = insert_once(dead_letters)
_POSITION: Final = Statement(
    select(stream_position.c.applied_seq, stream_position.c.beyond).where(
        stream_position.c.stream == bindparam("name")
    ),
    "name",
)
_KEEP_POSITION: Final = upsert(stream_position)


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
    refund_count: int = 0
    refunded_nusd: int = 0
    earned_nusd: int = 0
    promo_spent_nusd: int = 0
    flagged: tuple[FlaggedKey, ...] = ()


@dataclass(frozen=True, slots=True)
class SettlementRules:
    """How long a named hold lives, and how many refunds a key may have in an hour."""

    hold_ttl_ms: int
    refunds_per_hour_max: int


def settle(
    connection: Connection,
    parcels: Sequence[Parcel],
    *,
    stream: str,
    now_ms: int,
    rules: SettlementRules,
) -> Applied:
    """Apply deliveries; those applied before change nothing but the routers' watermarks."""
    books = Books(connection)
    opened = [(parcel, claims_of(parcel)) for parcel in parcels]
    beside = LateUse(connection, now_ms=now_ms)
    known = _known(connection, books, [claim for _, claims in opened for claim in claims], beside)
    reference = f"{stream}:{parcels[0].stream_seq}-{parcels[-1].stream_seq}"
    plan = plan_batch(
        opened, known, reference=reference, now_ms=now_ms, hold_ttl_ms=rules.hold_ttl_ms
    )
    rows: list[tuple[object, ...]] = [(*charge, None) for charge in plan.free]
    receipts = ReceiptBook(connection, plan)
    for draft, posted in plan.posted:
        seq = books.post(receipts.charged(draft, posted))
        receipts.place(seq)
        rows += [(*charge, seq) for charge in posted]
    given_back = post_refunds(books, plan, receipts)
    earned = post_earnings(books, plan)
    books.flush()
    beside.flush()
    _CHARGES.run_all(connection, rows)
    receipts.write()
    write_earnings(connection, earned)
    use_up(connection, plan.spent)
    flagged = write_refunds(connection, given_back, plan, per_hour_max=rules.refunds_per_hour_max)
    _write_state(connection, plan, now_ms=now_ms)
    _advance(connection, stream, (parcel.stream_seq for parcel in parcels))
    return _summary(plan, flagged)


def bury(
    connection: Connection, parcel: Parcel, *, stream: str, reason: str, now_ms: int
) -> Applied:
    """Keep a delivery that could not be applied and count its position as applied."""
    poison = Parcel(parcel.stream_seq, parcel.data, None)
    nothing = Known(set(), {}, {})
    plan = plan_batch([(poison, ())], nothing, reference=stream, now_ms=now_ms, hold_ttl_ms=0)
    _write_dead_letters(connection, plan, now_ms=now_ms, reason=reason)
    _advance(connection, stream, [parcel.stream_seq])
    return _summary(plan)


def applied_seq(connection: Connection, stream: str) -> int:
    """Return the last position up to which everything was applied; 0 when nothing was."""
    rows = _POSITION.rows(connection, stream)
    return int(rows[0][0]) if rows else 0


def _known(connection: Connection, books: Books, claims: Sequence[Claim], beside: LateUse) -> Known:
    ids = {outcome_id(claim.request_id) for claim in claims}
    lease_ids = {claim.lease_id for claim in claims if claim.lease_id}
    account_ids = sorted({claim.account_id for claim in claims})
    names = [name(each) for each in account_ids for name in (ledger.available, mark)]
    balances = books.balances(names)
    gifts = {each: gift for each in account_ids if (gift := balances.pop(mark(each)))}
    return Known(
        {event_id for (event_id,) in _SETTLED.rows(connection, sorted(ids))},
        {lease_id: LeaseState(*state) for lease_id, *state in _LEASES.rows(connection, lease_ids)},
        balances,
        beside,
        gifts,
    )


def _write_state(connection: Connection, plan: Plan, *, now_ms: int) -> None:
    drawn = plan.drawn_leases.items()
    _CAPTURE.run_all(connection, [(lease_id, lease.captured_nusd) for lease_id, lease in drawn])
    # Apart, as to name the state moves a lease in an index even when it stays what it is.
    _CLOSE.run(connection, [lease_id for lease_id, lease in drawn if not lease.left_nusd])
    _END_HOLDS.run(connection, [charge.request_id for charge in plan.charges])
    _HOLDS.run_all(connection, list(plan.holds.values()))
    watermarks = [(router_id, moment, now_ms) for router_id, moment in plan.watermarks.items()]
    _WATERMARKS.run_all(connection, watermarks)
    _write_dead_letters(connection, plan, now_ms=now_ms)


def _write_dead_letters(
    connection: Connection, plan: Plan, *, now_ms: int, reason: str = ""
) -> None:
    rows = [
        (letter.stream_seq, letter.position, reason or letter.reason, letter.data, now_ms)
        for letter in plan.dead_letters
    ]
    _DEAD_LETTERS.run_all(connection, rows)


def _advance(connection: Connection, stream: str, seqs: Iterable[int]) -> None:
    found = _POSITION.rows(connection, stream)
    ordered = sorted(set(seqs))
    position, beyond = found[0] if found else (ordered[0] - 1, "[]")
    position, waiting = advance(position, json.loads(beyond), ordered)
    _KEEP_POSITION.run(connection, stream, position, json.dumps(waiting))


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


def _summary(plan: Plan, flagged: tuple[FlaggedKey, ...] = ()) -> Applied:
    found, given_back = plan.charges, plan.refunds
    return Applied(
        charge_count=len(found),
        duplicate_count=plan.duplicate_count,
        late_count=plan.late_count,
        unknown_lease_count=plan.unknown_lease_count,
        dead_letter_count=len(plan.dead_letters),
        charged_nusd=sum(charge.charged_nusd for charge in found),
        writeoff_nusd=sum(charge.writeoff_nusd for charge in found),
        refund_count=len(given_back),
        refunded_nusd=sum(refund.refunded_nusd for refund in given_back),
        earned_nusd=sum(earning.owed_nusd for earning in plan.earned),
        promo_spent_nusd=sum(plan.spent.values()),
        flagged=flagged,
    )
