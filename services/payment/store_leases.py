"""Statements about leases and holds: grant, return, and what both leave of a lease."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from services.payment import ledger
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
    """What a lease is asked for and by whom; nano-USD."""

    account_id: str
    key_id: str
    holder_id: str
    need_nusd: int
    want_nusd: int
    request_id: str


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """How large and how long leases are; milliseconds and nano-USD."""

    lease_ms: int
    lease_max_nusd: int
    share: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """A balance that does not cover a need; `held_nusd` might come back."""

    available_nusd: int
    held_nusd: int


def grant(
    connection: Connection, terms: LeaseTerms, *, lease_id: str, rules: LeaseRules, now_ms: int
) -> tuple[str, int] | Shortage:
    """Lease once per request id; return lease id and amount, or what is missing.

    A new lease gets the id `lease_id`.

    Raises:
        TurnpikeError: BILLING_NOT_ACTIVE, the account owes; ALREADY_EXISTS, a used request id.
    """
    books = Books(connection)
    asked = ["lease", terms.account_id, terms.key_id, terms.need_nusd, terms.want_nusd]
    answered = ask(connection, terms.request_id, asked)
    if answered is not None:
        return str(answered["lease_id"]), int(answered["granted_nusd"])
    amount = _size(books, terms, rules)
    if isinstance(amount, Shortage):
        return amount
    postings = ledger.grant(terms.account_id, amount)
    books.post(Draft(Kind.LEASE, lease_id, now_ms, postings))
    books.flush()
    connection.execute(
        leases.insert(), _new_lease(terms, lease_id, amount, now_ms + rules.lease_ms)
    )
    answer = {"lease_id": lease_id, "granted_nusd": amount}
    remember(connection, terms.request_id, asked, answer, now_ms=now_ms)
    return lease_id, amount


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
    remember(connection, request_id, asked, {"released_nusd": amount}, now_ms=now_ms)
    return lease["account_id"], amount


def _size(books: Books, terms: LeaseTerms, rules: LeaseRules) -> int | Shortage:
    names = [name(terms.account_id) for name in (ledger.available, ledger.held, ledger.debt)]
    available, held, debt = books.balances(names).values()
    if debt < 0:
        raise _not_active(-debt)
    if available < terms.need_nusd:
        return Shortage(available, held)
    return ledger.lease_size(
        need_nusd=terms.need_nusd,
        want_nusd=terms.want_nusd,
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


def _new_lease(terms: LeaseTerms, lease_id: str, granted_nusd: int, ends_at_unix_ms: int) -> Row:
    return {
        "lease_id": lease_id,
        "account_id": terms.account_id,
        "key_id": terms.key_id,
        "holder_id": terms.holder_id,
        "granted_nusd": granted_nusd,
        "captured_nusd": 0,
        "released_nusd": 0,
        "ends_at_unix_ms": ends_at_unix_ms,
        "state": OPEN,
    }


def _not_active(owed_nusd: int) -> TurnpikeError:
    return TurnpikeError(
        Reason.BILLING_NOT_ACTIVE,
        f"The account owes {format_usd(owed_nusd)} USD; credit is needed first.",
        debt_nusd=str(owed_nusd),
    )
