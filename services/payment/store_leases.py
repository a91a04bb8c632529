"""Statements about leases and holds: grant, return, and what both leave of a lease."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from services.payment import ledger
from services.payment.caps.store_use import CapRoom, Change, add, count, look
from services.payment.caps.windows import CapState, Spender
from services.payment.ledger import Draft, Kind
from services.payment.store_answers import ask, remember
from services.payment.store_books import Books
from services.payment.store_tables import Row, leases

OPEN: Final = "open"
CLOSED: Final = "closed"

_FIND: Final = select(leases).where(leases.c.lease_id == bindparam("lease"))
RELEASE: Final = (
    update(leases)
    .where(leases.c.lease_id == bindparam("lease"))
    .values(released_nusd=bindparam("new_released"), state=bindparam("new_state"))
)


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What a lease is asked for and by whom; nano-USD.

    One for an episode is exactly what is needed where episodes are held singly.
    """

    account_id: str
    key_id: str
    holder_id: str
    need_nusd: int
    want_nusd: int
    request_id: str
    episode_id: str = ""


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """How large and how long leases are; milliseconds and nano-USD."""

    lease_ms: int
    lease_max_nusd: int
    share: int


class Grant(NamedTuple):
    """A lease and what it was granted, nano-USD, and whether episodes need a lease each."""

    lease_id: str
    granted_nusd: int
    holds_episodes_singly: bool = False


@dataclass(frozen=True, slots=True)
class Shortage:
    """A balance that does not cover a need, or a cap; `held_nusd` might come back."""

    available_nusd: int
    held_nusd: int
    cap: CapState | None = None


def grant(
    connection: Connection, terms: LeaseTerms, *, lease_id: str, rules: LeaseRules, now_ms: int
) -> Grant | Shortage:
    """Lease once per request id; return the grant, or what is missing in the balance or a cap.

    A new lease gets the id `lease_id`.

    Raises:
        TurnpikeError: BILLING_NOT_ACTIVE, the account owes; ALREADY_EXISTS, a used request id.
    """
    books = Books(connection)
    asked = ["lease", terms.account_id, terms.key_id, terms.need_nusd, terms.want_nusd]
    if terms.episode_id:
        asked.append(terms.episode_id)
    answered = ask(connection, terms.request_id, asked)
    if answered is not None:
        return Grant(
            str(answered["lease_id"]),
            int(answered["granted_nusd"]),
            bool(answered.get("holds_episodes_singly")),
        )
    spender = Spender(terms.account_id, terms.key_id, terms.episode_id)
    room = look(connection, spender, at_unix_ms=now_ms)
    amount = _size(books, terms, rules, room)
    if isinstance(amount, Shortage):
        return amount
    postings = ledger.grant(terms.account_id, amount)
    books.post(Draft(Kind.LEASE, lease_id, now_ms, postings))
    books.flush()
    lease = _new_lease(terms, lease_id, amount, now_ms=now_ms, lease_ms=rules.lease_ms)
    grant = Grant(lease_id, amount, room.holds_episodes_singly)
    if room.counted:
        add(connection, room, amount, now_ms=now_ms)
    if grant.holds_episodes_singly:
        lease["episode_id"] = terms.episode_id
    connection.execute(leases.insert(), lease)
    remember(connection, terms.request_id, asked, grant._asdict(), now_ms=now_ms)
    return grant


def give_back(
    connection: Connection, *, lease_id: str, undrawn_nusd: int, request_id: str, now_ms: int
) -> tuple[str, int]:
    """Release part of a lease once per request id; return its account and what was released.

    The holder has counted its running and its charged requests already, so named holds are not
    taken off again: they may be those of requests whose outcome is still on its way. No more is
    released than the lease has left.

    Raises:
        TurnpikeError: NOT_FOUND, no such lease; ALREADY_EXISTS, a used request id.
    """
    books = Books(connection)
    lease = connection.execute(_FIND, {"lease": lease_id}).mappings().one_or_none()
    if lease is None:
        raise TurnpikeError(Reason.NOT_FOUND, "The lease is unknown.", param="lease_id")
    asked = ["return", lease_id, undrawn_nusd]
    answered = ask(connection, request_id, asked)
    if answered is not None:
        return lease["account_id"], int(answered["released_nusd"])
    amount = min(undrawn_nusd, left_nusd(lease))
    if amount > 0:
        postings = ledger.release(lease["account_id"], amount)
        books.post(Draft(Kind.RETURN, lease_id, now_ms, postings))
        books.flush()
        connection.execute(RELEASE, released(lease, amount))
        count(connection, [use_of(lease, -amount)])
    remember(connection, request_id, asked, {"released_nusd": amount}, now_ms=now_ms)
    return lease["account_id"], amount


def _size(books: Books, terms: LeaseTerms, rules: LeaseRules, room: CapRoom) -> int | Shortage:
    names = [name(terms.account_id) for name in (ledger.available, ledger.held, ledger.debt)]
    available, held, debt = books.balances(names).values()
    if debt < 0:
        raise _not_active(-debt)
    if available < terms.need_nusd:
        return Shortage(available, held)
    if (cap := room.tightest) is not None:
        if cap.left_nusd < terms.need_nusd:
            return Shortage(cap.left_nusd, held, cap)
        available = min(available, cap.left_nusd)
    is_alone = room.holds_episodes_singly and terms.episode_id
    return ledger.lease_size(
        need_nusd=terms.need_nusd,
        want_nusd=0 if is_alone else terms.want_nusd,
        available_nusd=available,
        share=rules.share,
        lease_max_nusd=rules.lease_max_nusd,
    )


def left_nusd(lease: RowMapping) -> int:
    """Return what a lease has left, its named holds included."""
    left: int = lease["granted_nusd"] - lease["captured_nusd"] - lease["released_nusd"]
    return left


def released(lease: RowMapping, amount_nusd: int) -> Row:
    """Return the parameters of `RELEASE`: the lease after it gave back an amount."""
    total = lease["released_nusd"] + amount_nusd
    is_done = lease["captured_nusd"] + total == lease["granted_nusd"]
    return {
        "lease": lease["lease_id"],
        "new_released": total,
        "new_state": CLOSED if is_done else lease["state"],
    }


def use_of(lease: RowMapping, change_nusd: int) -> Change:
    """Return what caps count when the use of a lease changes."""
    spender = Spender(lease["account_id"], lease["key_id"], lease["episode_id"])
    return Change(spender, lease["granted_at_unix_ms"], change_nusd)


def _new_lease(
    terms: LeaseTerms, lease_id: str, granted_nusd: int, *, now_ms: int, lease_ms: int
) -> Row:
    return {
        "lease_id": lease_id,
        "account_id": terms.account_id,
        "key_id": terms.key_id,
        "holder_id": terms.holder_id,
        "granted_nusd": granted_nusd,
        "captured_nusd": 0,
        "released_nusd": 0,
        "ends_at_unix_ms": now_ms + lease_ms,
        "state": OPEN,
        "granted_at_unix_ms": now_ms,
        "episode_id": "",
        "adjusted_nusd": 0,
    }


def _not_active(owed_nusd: int) -> TurnpikeError:
    return TurnpikeError(
        Reason.BILLING_NOT_ACTIVE,
        f"The account owes {format_usd(owed_nusd)} USD; credit is needed first.",
        debt_nusd=str(owed_nusd),
        limit_source="debt",
    )
