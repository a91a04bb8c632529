"""Statements about what is used of caps: room before a grant, and every change after it.

All run inside a write transaction that holds the ledger's head, so that what is looked up stays
true until the transaction ends. An account that never had a cap costs one look by its key.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    literal_column,
    or_,
    select,
    update,
)

from kit.db_statements import Statement
from services.payment.caps.tables import cap_use, capped_accounts, caps
from services.payment.caps.windows import (
    CapName,
    CapState,
    Scope,
    Span,
    Spender,
    Window,
    span_of,
)
from services.payment.store_tables import upsert

_COUNTS: Final = Statement(
    select(capped_accounts.c.cap_count, capped_accounts.c.episode_cap_count).where(
        capped_accounts.c.account_id == bindparam("account")
    ),
    "account",
)


def _is(scope: Scope) -> ColumnElement[bool]:
    return caps.c.scope == literal_column(f"'{scope.value}'")


_CAPS: Final = Statement(
    select(caps.c.scope, caps.c.subject, caps.c.window, caps.c.limit_nusd).where(
        caps.c.account_id == bindparam("account"),
        or_(
            _is(Scope.ACCOUNT),
            and_(_is(Scope.KEY), caps.c.subject == bindparam("key")),
            and_(_is(Scope.KEY_EPISODE), caps.c.subject == bindparam("maker")),
            and_(_is(Scope.EPISODE), caps.c.subject == bindparam("episode")),
        ),
    ),
    "account",
    "key",
    "maker",
    "episode",
)
_USE: Final = Statement(
    select(cap_use.c.used_nusd, cap_use.c.folded_nusd).where(
        cap_use.c.account_id == bindparam("account"),
        cap_use.c.scope == bindparam("of_scope"),
        cap_use.c.subject == bindparam("of_subject"),
        cap_use.c.window == bindparam("of_window"),
        cap_use.c.start_unix_ms == bindparam("start"),
    ),
    "account",
    "of_scope",
    "of_subject",
    "of_window",
    "start",
)
_KEEP: Final = upsert(cap_use)


def _changing(*columns: str) -> Statement:
    """Return what adds to columns of every window of one scope that a moment lies in."""
    change: dict[str, BindParameter[int]] = {name: bindparam(f"to_{name}") for name in columns}
    where = (
        cap_use.c.account_id == bindparam("account"),
        cap_use.c.scope == bindparam("of_scope"),
        cap_use.c.subject == bindparam("of_subject"),
        cap_use.c.start_unix_ms <= bindparam("not_before"),
        cap_use.c.end_unix_ms > bindparam("at"),
    )
    values = {name: cap_use.c[name] + by for name, by in change.items()}
    names = ("account", "of_scope", "of_subject", "not_before", "at", *(f"to_{n}" for n in columns))
    return Statement(update(cap_use).where(*where).values(values), *names)


_CHANGE: Final = _changing("used_nusd")
_FOLD: Final = _changing("folded_nusd")


class Change(NamedTuple):
    """What the use of one lease changes by, nano-USD; it counts where the lease was granted."""

    spender: Spender
    granted_at_unix_ms: int
    change_nusd: int


@dataclass(frozen=True, slots=True)
class CapRoom:
    """What the caps of a spender leave room for.

    `capping` are the caps that apply, `counted` the windows whose use a grant adds to, with what
    was folded into each.
    """

    holds_episodes_singly: bool = False
    capping: tuple[CapState, ...] = ()
    counted: tuple[tuple[CapState, int], ...] = ()

    @property
    def tightest(self) -> CapState | None:
        """The cap that leaves least; None when none applies."""
        return min(self.capping, key=attrgetter("left_nusd", "name"), default=None)


ROOMY: Final = CapRoom()
"""What an account without caps has."""


def look(
    connection: Connection, spender: Spender, *, at_unix_ms: int, is_new: bool = True
) -> CapRoom:
    """Return what a spender's caps leave in the windows of a moment.

    An `is_new` grant opens the windows that it is the first of; for an older one those that were
    never opened do not count.
    """
    counts = _COUNTS.rows(connection, spender.account_id)
    if not counts or not counts[0][0]:
        return ROOMY
    is_singly = counts[0][1] > 0
    episode_id = spender.episode_id if is_singly else ""
    key_id = spender.key_id
    limits = {
        CapName(spender.account_id, Scope(scope), subject, Window(window)): int(limit)
        for scope, subject, window, limit in _CAPS.rows(
            connection, spender.account_id, key_id, key_id, episode_id
        )
    }
    capping: list[CapState] = []
    counted: list[tuple[CapState, int]] = []
    for name, limit in _measured(limits, spender.account_id, episode_id):
        span = span_of(name.window, at_unix_ms)
        found = _USE.rows(connection, *name, span.start_unix_ms)
        if not found and not is_new:
            continue
        used, folded = found[0] if found else (0, 0)
        state = CapState(name, 0 if limit is None else limit, int(used), span)
        counted.append((state, int(folded)))
        if limit is not None:
            capping.append(state)
    return CapRoom(is_singly, tuple(capping), tuple(counted))


def _measured(
    limits: dict[CapName, int], account_id: str, episode_id: str
) -> Iterator[tuple[CapName, int | None]]:
    """Yield what use is counted for, with its limit; an episode's may come from its key's budget.

    An episode is counted with or without a cap of its own: one may be set later.
    """
    budget = None
    for name, limit in limits.items():
        if name.scope is Scope.KEY_EPISODE:
            budget = limit
        elif name.scope is not Scope.EPISODE:
            yield name, limit
    if episode_id:
        name = CapName(account_id, Scope.EPISODE, episode_id, Window.TOTAL)
        yield name, limits.get(name, budget)


def add(
    connection: Connection, room: CapRoom, amount_nusd: int, *, now_ms: int, is_folded: bool = False
) -> None:
    """Count a grant in every window that was looked at; `is_folded` when no lease is behind it."""
    rows = [
        (
            *state.name,
            *state.span,
            state.used_nusd + amount_nusd,
            folded + amount_nusd * is_folded,
            now_ms,
        )
        for state, folded in room.counted
    ]
    _KEEP.run_all(connection, rows)


def count(connection: Connection, changes: Iterable[Change]) -> None:
    """Count what leases gave back, or took later, in the windows in which they were granted."""
    _CHANGE.run_all(connection, _rows(connection, changes))


def fold(connection: Connection, changes: Iterable[Change]) -> None:
    """Keep what leases used that are about to be forgotten; what is used stays."""
    _FOLD.run_all(connection, _rows(connection, changes))


def holds_episodes_singly(connection: Connection, account_id: str) -> bool:
    """Return whether requests of the account's episodes need a lease each."""
    counts = _COUNTS.rows(connection, account_id)
    return bool(counts) and counts[0][1] > 0


def counts_of(connection: Connection, account_id: str) -> tuple[int, int] | None:
    """Return how many caps and how many of episodes an account has, None when it never had any."""
    counts = _COUNTS.rows(connection, account_id)
    return (int(counts[0][0]), int(counts[0][1])) if counts else None


def use_of(connection: Connection, name: CapName, span: Span) -> int:
    """Return what is used of a cap in a window."""
    found = _USE.rows(connection, *name, span.start_unix_ms)
    return int(found[0][0]) if found else 0


def _rows(connection: Connection, changes: Iterable[Change]) -> list[tuple[str | int, ...]]:
    is_capped: dict[str, bool] = {}
    rows: list[tuple[str | int, ...]] = []
    for (account_id, key_id, episode_id), moment, amount in changes:
        if account_id not in is_capped:
            is_capped[account_id] = bool(_COUNTS.rows(connection, account_id))
        if not is_capped[account_id] or not amount:
            continue
        rows.append((account_id, Scope.ACCOUNT, "", moment, moment, amount))
        rows.append((account_id, Scope.KEY, key_id, moment, moment, amount))
        if episode_id:
            rows.append((account_id, Scope.EPISODE, episode_id, moment, moment, amount))
    return rows
