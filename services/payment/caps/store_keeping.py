"""Statements that keep the use of caps true: folding what is forgotten, and recomputing it all."""

from typing import Any, Final

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    union_all,
    update,
)

from services.payment.caps.store_use import Change, fold
from services.payment.caps.tables import cap_use, capped_accounts, caps
from services.payment.caps.windows import DAY_MS, CapName, Scope, Spender, Window
from services.payment.store_tables import leases

_USED: Final = leases.c.granted_nusd - leases.c.released_nusd + leases.c.adjusted_nusd
_ANY: Final = select(literal(1)).select_from(cap_use).limit(1)
_FORGOTTEN: Final = (
    select(
        leases.c.account_id,
        leases.c.key_id,
        leases.c.episode_id,
        leases.c.granted_at_unix_ms,
        _USED,
    )
    .join(capped_accounts, capped_accounts.c.account_id == leases.c.account_id)
    .where(leases.c.state == bindparam("state"), leases.c.ends_at_unix_ms < bindparam("before_ms"))
)
_HAS_CAP: Final = exists().where(
    caps.c.account_id == cap_use.c.account_id,
    caps.c.scope == cap_use.c.scope,
    caps.c.subject == cap_use.c.subject,
    caps.c.window == cap_use.c.window,
)
_DROP: Final = delete(cap_use).where(
    cap_use.c.touched_unix_ms < bindparam("before_ms"),
    or_(
        cap_use.c.window != Window.TOTAL.value,
        and_(cap_use.c.scope == Scope.EPISODE.value, ~_HAS_CAP),
    ),
)
_KEY: Final = (
    cap_use.c.account_id,
    cap_use.c.scope,
    cap_use.c.subject,
    cap_use.c.window,
    cap_use.c.start_unix_ms,
)
_SET: Final = (
    update(cap_use)
    .where(*(column == bindparam(f"of_{column.name}") for column in _KEY))
    .values(used_nusd=bindparam("used"))
)


def fold_forgotten(connection: Connection, *, state: str, before_ms: int) -> None:
    """Fold the use of leases in a state that ended before a moment; they are about to go."""
    if connection.execute(_ANY).first() is None:
        return
    found = connection.execute(_FORGOTTEN, {"state": state, "before_ms": before_ms})
    fold(
        connection,
        [
            Change(Spender(account, key, episode), int(moment), int(used))
            for account, key, episode, moment, used in found
        ],
    )


def drop_old(connection: Connection, *, before_ms: int) -> None:
    """Forget past windows and resting episodes that nothing has touched since a moment."""
    connection.execute(_DROP, {"before_ms": before_ms})


def wrong_use(connection: Connection, *, count_max: int) -> list[tuple[str, int, int]]:
    """Return caps whose use is not what their leases say: name, expected, found; nano-USD."""
    query = _recomputed().limit(count_max)
    found = []
    for account, scope, subject, window, start, expected, used in connection.execute(query):
        name = CapName(account, Scope(scope), subject, Window(window))
        when = "" if name.window is Window.TOTAL else f":{start}"
        found.append((f"{name}{when}", int(expected), int(used)))
    return found


def correct_use(connection: Connection) -> None:
    """Set every use that is wrong to what its leases say."""
    for *key, expected, _ in connection.execute(_recomputed()).all():
        where = {f"of_{column.name}": part for column, part in zip(_KEY, key, strict=True)}
        connection.execute(_SET, {**where, "used": expected})


def _recomputed() -> Select[Any]:
    """Return the query of what differs: the key, what leases and the folded say, what is stored."""
    by_lease = union_all(_of_account(), _of_keys(), _of_episodes()).subquery()
    total = func.coalesce(func.sum(by_lease.c.used), 0) + cap_use.c.folded_nusd
    return (
        select(*_KEY, total, cap_use.c.used_nusd)
        .outerjoin(
            by_lease,
            and_(
                by_lease.c.account_id == cap_use.c.account_id,
                by_lease.c.scope == cap_use.c.scope,
                by_lease.c.subject == cap_use.c.subject,
                by_lease.c.day_unix_ms >= cap_use.c.start_unix_ms,
                by_lease.c.day_unix_ms < cap_use.c.end_unix_ms,
            ),
        )
        .group_by(*_KEY, cap_use.c.folded_nusd, cap_use.c.used_nusd)
        .having(total != cap_use.c.used_nusd)
        .order_by(*_KEY)
    )


# Every window begins and ends with a day, so leases are summed by day first.
_DAY: Final = leases.c.granted_at_unix_ms - leases.c.granted_at_unix_ms % DAY_MS


def _of_account() -> Select[Any]:
    subject = literal("").label("subject")
    return _summed(Scope.ACCOUNT, subject).group_by(leases.c.account_id, _DAY)


def _of_keys() -> Select[Any]:
    subject = leases.c.key_id.label("subject")
    return _summed(Scope.KEY, subject).group_by(leases.c.account_id, leases.c.key_id, _DAY)


def _of_episodes() -> Select[Any]:
    subject = leases.c.episode_id.label("subject")
    chosen = _summed(Scope.EPISODE, subject).where(leases.c.episode_id != "")
    return chosen.group_by(leases.c.account_id, leases.c.episode_id, _DAY)


def _summed(scope: Scope, subject: Any) -> Select[Any]:  # noqa: ANN401 - a column or a literal
    return select(
        leases.c.account_id.label("account_id"),
        literal(scope.value).label("scope"),
        subject,
        _DAY.label("day_unix_ms"),
        func.sum(_USED).label("used"),
    )
