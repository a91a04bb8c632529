"""Statements about caps themselves: setting, removing and listing them."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    bindparam,
    delete,
    func,
    select,
    tuple_,
)

from kit.db_statements import Statement
from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from services.payment.caps.store_use import counts_of, use_of
from services.payment.caps.tables import cap_use, capped_accounts, caps
from services.payment.caps.windows import (
    EPISODES,
    CapName,
    CapState,
    Scope,
    Span,
    Window,
    span_of,
    spans_around,
)
from services.payment.ledger import Kind
from services.payment.store_tables import (
    account_chain,
    charges,
    leases,
    refunds,
    transactions,
    upsert,
)

_LIMIT: Final = Statement(
    select(caps.c.limit_nusd).where(
        caps.c.account_id == bindparam("account"),
        caps.c.scope == bindparam("of_scope"),
        caps.c.subject == bindparam("of_subject"),
        caps.c.window == bindparam("of_window"),
    ),
    "account",
    "of_scope",
    "of_subject",
    "of_window",
)
_KEEP_CAP: Final = upsert(caps)
_KEEP_COUNTS: Final = upsert(capped_accounts)
_KEEP_USE: Final = upsert(cap_use)
_USED: Final = leases.c.granted_nusd - leases.c.released_nusd + leases.c.adjusted_nusd
_IN_LEASES: Final = select(leases.c.granted_at_unix_ms, _USED).where(
    leases.c.account_id == bindparam("account"), leases.c.granted_at_unix_ms >= bindparam("start")
)
_REST: Final = leases.c.granted_nusd - leases.c.captured_nusd - leases.c.released_nusd
_HELD: Final = select(func.coalesce(func.sum(_REST), 0)).where(
    leases.c.account_id == bindparam("account"), leases.c.episode_id == bindparam("episode")
)
# Charges whose lease is forgotten; walked along the account's own chain.
_FORGOTTEN: Final = (
    select(func.coalesce(func.sum(charges.c.charged_nusd), 0))
    .select_from(account_chain)
    .join(transactions, transactions.c.seq == account_chain.c.txn_seq)
    .join(charges, charges.c.txn_seq == transactions.c.seq)
    .outerjoin(leases, leases.c.lease_id == charges.c.lease_id)
    .where(
        account_chain.c.account_id == bindparam("account"),
        charges.c.account_id == bindparam("account"),
        transactions.c.kind == Kind.SETTLEMENT.value,
        transactions.c.unix_ms >= bindparam("start"),
        transactions.c.unix_ms < bindparam("end"),
        leases.c.lease_id.is_(None),
    )
)
_GIVEN_BACK: Final = (
    select(func.coalesce(func.sum(refunds.c.refunded_nusd), 0))
    .select_from(account_chain)
    .join(transactions, transactions.c.seq == account_chain.c.txn_seq)
    .join(refunds, refunds.c.txn_seq == transactions.c.seq)
    .join(charges, charges.c.event_id == refunds.c.event_id)
    .outerjoin(leases, leases.c.lease_id == charges.c.lease_id)
    .where(
        account_chain.c.account_id == bindparam("account"),
        refunds.c.account_id == bindparam("account"),
        transactions.c.kind == Kind.REFUND.value,
        transactions.c.unix_ms >= bindparam("start"),
        transactions.c.unix_ms < bindparam("end"),
        leases.c.lease_id.is_(None),
    )
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which caps of an account: those of one key or of all, from the one after `after`."""

    account_id: str
    key_id: str
    has_episodes: bool
    after: tuple[str, str, str]
    count_max: int


@dataclass(frozen=True, slots=True)
class Episode:
    """What an episode may use, None without a cap, and has used; nano-USD."""

    limit_nusd: int | None
    used_nusd: int
    held_nusd: int


def limit_of(connection: Connection, name: CapName) -> int | None:
    """Return a cap's limit, None when it is not set."""
    found = _LIMIT.rows(connection, *name)
    return int(found[0][0]) if found else None


def state_of(connection: Connection, name: CapName, limit_nusd: int, *, now_ms: int) -> CapState:
    """Return a cap with what is used of it now."""
    span = span_of(name.window, now_ms)
    return CapState(name, limit_nusd, use_of(connection, name, span), span)


def set_limit(
    connection: Connection,
    name: CapName,
    limit_nusd: int,
    *,
    now_ms: int,
    kept_since_ms: int,
    count_max: int,
) -> None:
    """Set a cap; a new one counts what its window has seen already.

    Every lease that ended after `kept_since_ms` is still there; of older ones the charges tell.

    Raises:
        TurnpikeError: UNPROCESSABLE, the account has as many caps as it may.
    """
    is_new = limit_of(connection, name) is None
    if is_new:
        cap_count, episode_count = counts_of(connection, name.account_id) or (0, 0)
        if cap_count >= count_max:
            raise TurnpikeError(
                Reason.UNPROCESSABLE, f"The account has {cap_count} caps; remove some first."
            )
        episode_count += name.scope in EPISODES
        _KEEP_COUNTS.run(connection, name.account_id, cap_count + 1, episode_count)
    _KEEP_CAP.run(connection, *name, limit_nusd)
    if is_new and name.scope not in EPISODES:
        _open(connection, name, now_ms=now_ms, kept_since_ms=kept_since_ms)


def remove(connection: Connection, name: CapName) -> None:
    """Remove a cap that is there; an episode's use goes on being counted."""
    cap_count, episode_count = counts_of(connection, name.account_id) or (0, 0)
    episode_count -= name.scope in EPISODES
    _KEEP_COUNTS.run(connection, name.account_id, cap_count - 1, episode_count)
    connection.execute(delete(caps).where(*_is(caps, name)))
    if name.scope not in EPISODES:
        connection.execute(delete(cap_use).where(*_is(cap_use, name)))


def page(connection: Connection, wanted: Wanted, *, now_ms: int) -> list[CapState]:
    """Return an account's caps by scope, subject and window, from the one after `after`."""
    place = (caps.c.scope, caps.c.subject, caps.c.window)
    query = select(caps).where(
        caps.c.account_id == wanted.account_id, tuple_(*place) > tuple_(*wanted.after)
    )
    if not wanted.has_episodes:
        query = query.where(caps.c.scope != Scope.EPISODE.value)
    if wanted.key_id:
        of_keys = (Scope.KEY.value, Scope.KEY_EPISODE.value)
        query = query.where(caps.c.scope.not_in(of_keys) | (caps.c.subject == wanted.key_id))
    found = connection.execute(query.order_by(*place).limit(wanted.count_max)).all()
    return [
        state_of(
            connection,
            CapName(row.account_id, Scope(row.scope), row.subject, Window(row.window)),
            row.limit_nusd,
            now_ms=now_ms,
        )
        for row in found
    ]


def episode_of(connection: Connection, account_id: str, episode_id: str, key_id: str) -> Episode:
    """Return an episode; one without a cap of its own has its key's budget."""
    name = CapName(account_id, Scope.EPISODE, episode_id, Window.TOTAL)
    where = {"account": account_id, "episode": episode_id}
    return Episode(
        limit_nusd=applying_limit(connection, name, key_id),
        used_nusd=use_of(connection, name, span_of(Window.TOTAL, 0)),
        held_nusd=int(connection.execute(_HELD, where).scalar_one()),
    )


def applying_limit(connection: Connection, name: CapName, key_id: str) -> int | None:
    """Return the limit of a cap; for an episode without its own, its key's budget."""
    limit = limit_of(connection, name)
    if limit is None and name.scope is Scope.EPISODE and key_id:
        budget = CapName(name.account_id, Scope.KEY_EPISODE, key_id, Window.TOTAL)
        limit = limit_of(connection, budget)
    return limit


def too_loose(limit_nusd: int, applying_nusd: int) -> TurnpikeError:
    """Return the refusal to loosen a cap."""
    return TurnpikeError(
        Reason.KEY_SCOPE,
        f"The budget is {format_usd(applying_nusd)} USD; to raise it to {format_usd(limit_nusd)}"
        " USD the key needs the scope admin.",
        param="budget",
        limit_nusd=str(applying_nusd),
    )


def _open(connection: Connection, name: CapName, *, now_ms: int, kept_since_ms: int) -> None:
    """Count what was used before the cap was there, in this window and in those beside it."""
    spans = spans_around(name.window, now_ms)
    query = _IN_LEASES
    if name.scope is Scope.KEY:
        query = query.where(leases.c.key_id == name.subject)
    where = {"account": name.account_id, "start": spans[0].start_unix_ms}
    found = [(int(moment), int(used)) for moment, used in connection.execute(query, where)]
    rows = []
    for span in spans:
        is_remembered = span.start_unix_ms >= kept_since_ms
        folded = 0 if is_remembered else _forgotten(connection, name, span)
        used = sum(amount for moment, amount in found if _holds(span, moment))
        rows.append((*name, *span, used + folded, folded, now_ms))
    _KEEP_USE.run_all(connection, rows)


def _forgotten(connection: Connection, name: CapName, span: Span) -> int:
    where = {"account": name.account_id, "start": span.start_unix_ms, "end": span.end_unix_ms}
    charged, given_back = _FORGOTTEN, _GIVEN_BACK
    if name.scope is Scope.KEY:
        charged = charged.where(charges.c.key_id == name.subject)
        given_back = given_back.where(charges.c.key_id == name.subject)
    total = connection.execute(charged, where).scalar_one()
    return max(0, int(total) - int(connection.execute(given_back, where).scalar_one()))


def _holds(span: Span, moment: int) -> bool:
    return span.start_unix_ms <= moment < span.end_unix_ms


def _is(table: Table, name: CapName) -> tuple[ColumnElement[bool], ...]:
    return (
        table.c.account_id == name.account_id,
        table.c.scope == name.scope.value,
        table.c.subject == name.subject,
        table.c.window == name.window.value,
    )
