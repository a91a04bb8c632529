"""Statements of the sweep: what ended leases have left goes back, and old rows go."""

from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import (
    Connection,
    RowMapping,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
)

from services.payment import ledger
from services.payment.caps.store_keeping import drop_old, fold_forgotten
from services.payment.caps.store_use import count
from services.payment.ledger import WRITEOFF, Draft, Kind
from services.payment.mpp.store_notes import WAITING, give_up
from services.payment.promos.store import end_due
from services.payment.store_answers import forget
from services.payment.store_books import Books
from services.payment.store_leases import CLOSED, OPEN, RELEASE, left_nusd, released, use_of
from services.payment.store_tables import balances, holds, leases, router_watermarks

_NAMED: Final = func.coalesce(
    WAITING,
    select(func.coalesce(func.sum(holds.c.amount_nusd), 0))
    .where(holds.c.lease_id == leases.c.lease_id)
    .scalar_subquery(),
)
_LEFT: Final = leases.c.granted_nusd - leases.c.captured_nusd - leases.c.released_nusd
_DUE_LEASES: Final = (
    select(leases, _NAMED.label("named_nusd"))
    .where(leases.c.state == OPEN, leases.c.ends_at_unix_ms < bindparam("ended_before_ms"))
    .where(_LEFT > _NAMED)
    .order_by(leases.c.ends_at_unix_ms, leases.c.lease_id)
)
_IS_DRAWN_FROM: Final = exists().where(
    leases.c.lease_id == holds.c.lease_id,
    leases.c.state == OPEN,
    leases.c.ends_at_unix_ms >= bindparam("ended_before_ms"),
)
_DUE_HOLDS: Final = (
    select(holds.c.request_id)
    .where(holds.c.expires_at_unix_ms < bindparam("expired_before_ms"), ~_IS_DRAWN_FROM)
    .order_by(holds.c.expires_at_unix_ms, holds.c.request_id)
)
_DROP_HOLD: Final = delete(holds).where(holds.c.request_id == bindparam("request"))
_OLD_LEASES: Final = delete(leases).where(
    leases.c.state == CLOSED, leases.c.ends_at_unix_ms < bindparam("before_ms")
)
_OPEN_COUNT: Final = select(func.count()).where(leases.c.state == OPEN)
_LIVE: Final = select(func.count(), func.min(router_watermarks.c.watermark_unix_ms)).where(
    router_watermarks.c.seen_unix_ms >= bindparam("seen_after_ms")
)
_GONE: Final = delete(router_watermarks).where(
    router_watermarks.c.seen_unix_ms < bindparam("before_ms")
)

# Few balances are below zero, and an index holds them; a parameter would keep it from being used.
_BELOW_ZERO: Final = (
    select(balances.c.ledger_account, balances.c.balance_nusd)
    .where(balances.c.balance_nusd < literal_column("0"))
    .where(or_(balances.c.ledger_account == WRITEOFF, balances.c.ledger_account.like(ledger.DEBTS)))
)


@dataclass(frozen=True, slots=True)
class SweepRules:
    """When what has ended is released and when old rows go; milliseconds."""

    draw_grace_ms: int
    hold_ttl_ms: int
    router_gone_ms: int
    keep_ms: int
    caps_keep_ms: int
    rows_max: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did, and how many leases are open and what is lost or owed after it.

    `writeoff_nusd` and `debt_nusd` are what the books hold in all.
    """

    released_nusd: int = 0
    lease_ids: tuple[str, ...] = ()
    expired_requests: tuple[str, ...] = ()
    ended_promos_nusd: int = 0
    open_lease_count: int = 0
    writeoff_nusd: int = 0
    debtor_count: int = 0
    debt_nusd: int = 0


def sweep(connection: Connection, *, rules: SweepRules, now_ms: int) -> Swept:
    """Expire dead holds and release what ended leases have left beside living holds and notes.

    Nothing is released while no living router is known, nor before every living one has reported
    all it dispatched until then: a draw that is on its way must still find its money.
    """
    live_count, reported_ms = connection.execute(
        _LIVE, {"seen_after_ms": now_ms - rules.router_gone_ms}
    ).one()
    ended_nusd = end_due(connection, now_ms=now_ms, count_max=rules.rows_max)
    if not live_count:
        return replace(_state(connection), ended_promos_nusd=ended_nusd)
    books = Books(connection)
    ended = {"ended_before_ms": min(now_ms - rules.hold_ttl_ms, reported_ms - rules.draw_grace_ms)}
    expired = {**ended, "expired_before_ms": min(now_ms, reported_ms)}
    dead = connection.execute(_DUE_HOLDS.limit(rules.rows_max), expired).scalars().all()
    if dead:
        connection.execute(_DROP_HOLD, [{"request": request_id} for request_id in dead])
    noted_after_ms = now_ms - rules.keep_ms
    which = {**ended, "noted_after_ms": noted_after_ms}
    due = connection.execute(_DUE_LEASES.limit(rules.rows_max), which).mappings().all()
    for lease in due:
        books.post(_expiry(lease, now_ms))
    books.flush()
    if due:
        connection.execute(RELEASE, [released(lease, _left(lease)) for lease in due])
        count(connection, [use_of(lease, -_left(lease)) for lease in due])
        old = [each["lease_id"] for each in due if each["ends_at_unix_ms"] < noted_after_ms]
        give_up(connection, old)
    _prune(connection, now_ms - rules.keep_ms)
    drop_old(connection, before_ms=now_ms - rules.caps_keep_ms)
    return replace(
        _state(connection),
        ended_promos_nusd=ended_nusd,
        released_nusd=sum(_left(lease) for lease in due),
        lease_ids=tuple(lease["lease_id"] for lease in due),
        expired_requests=tuple(dead),
    )


def _state(connection: Connection) -> Swept:
    below = {row.ledger_account: row.balance_nusd for row in connection.execute(_BELOW_ZERO)}
    writeoff = -below.pop(WRITEOFF, 0)
    return Swept(
        open_lease_count=connection.execute(_OPEN_COUNT).scalar_one(),
        writeoff_nusd=writeoff,
        debtor_count=len(below),
        debt_nusd=-sum(below.values()),
    )


def _expiry(lease: RowMapping, now_ms: int) -> Draft:
    postings = ledger.release(lease["account_id"], _left(lease))
    return Draft(Kind.EXPIRY, lease["lease_id"], now_ms, postings)


def _left(lease: RowMapping) -> int:
    """Return what a lease has left beside its named holds; never negative."""
    return max(0, left_nusd(lease) - int(lease["named_nusd"]))


def _prune(connection: Connection, before_ms: int) -> None:
    forget(connection, before_ms=before_ms)
    fold_forgotten(connection, state=CLOSED, before_ms=before_ms)
    connection.execute(_OLD_LEASES, {"before_ms": before_ms})
    connection.execute(_GONE, {"before_ms": before_ms})
