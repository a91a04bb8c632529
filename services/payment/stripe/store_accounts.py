"""Statements about accounts that pay by card, and the postings that move their money.

Whoever writes holds the ledger's head (`Books`), so that reading and changing an account's row is
one step on both engines.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update

from services.payment import ledger
from services.payment.ledger import Draft, Kind
from services.payment.store_books import Books
from services.payment.store_tables import balances
from services.payment.stripe.rules import (
    CENT_NUSD,
    Account,
    ChargeRules,
    Purse,
    credit_limit_nusd,
)
from services.payment.stripe.tables import stripe_accounts, stripe_payments

CARD: Final = "stripe"
"""Where the money of card payments comes from, as a source of credit."""
LIMIT: Final = "credit_limit"
"""Where a credit limit comes from: nobody paid it."""

_FIND: Final = select(stripe_accounts).where(
    stripe_accounts.c.account_id == bindparam("account_id")
)
_PAGE: Final = (
    select(stripe_accounts)
    .where(stripe_accounts.c.account_id > bindparam("after"))
    .order_by(stripe_accounts.c.account_id)
    .limit(bindparam("count_max"))
)
_PAID: Final = select(
    func.coalesce(func.sum(stripe_payments.c.paid_cents - stripe_payments.c.reversed_cents), 0)
).where(stripe_payments.c.account_id == bindparam("account_id"))
_BALANCES: Final = select(balances.c.ledger_account, balances.c.balance_nusd).where(
    balances.c.ledger_account.in_(bindparam("names", expanding=True))
)
_NEW: Final[dict[str, Any]] = {
    "customer_id": "",
    "payment_method_id": "",
    "card_unix_s": 0,
    "recharge_below_nusd": 0,
    "recharge_cents": 0,
    "recharge_day_cents": 0,
    "is_postpaid": 0,
    "limit_nusd": 0,
    "charge_count": 0,
    "decline_count": 0,
    "next_try_unix_ms": 0,
    "is_suspended": 0,
}


def find(connection: Connection, account_id: str) -> Account:
    """Return how an account pays; one that was never seen pays by nothing."""
    row = connection.execute(_FIND, {"account_id": account_id}).mappings().one_or_none()
    return _account(row or {"account_id": account_id, **_NEW})


def page(connection: Connection, *, after: str, count_max: int) -> list[tuple[Account, Purse]]:
    """Return accounts with what they have, by id, from the one after `after`."""
    where = {"after": after, "count_max": count_max}
    found = [_account(row) for row in connection.execute(_PAGE, where).mappings()]
    purses = purses_of(connection, [account.account_id for account in found])
    return [(account, purses[account.account_id]) for account in found]


def purses_of(connection: Connection, account_ids: Iterable[str]) -> dict[str, Purse]:
    """Return what accounts have, from the stored balances."""
    names = {account_id: _names(account_id) for account_id in account_ids}
    wanted = [name for each in names.values() for name in each]
    found = dict.fromkeys(wanted, 0)
    if wanted:
        found.update((row[0], row[1]) for row in connection.execute(_BALANCES, {"names": wanted}))
    return {account_id: _purse(found, account_id) for account_id in names}


def purse_of(books: Books, account_id: str) -> Purse:
    """Return what an account has, within a write transaction; what was posted has been flushed."""
    return _purse(books.balances(_names(account_id)), account_id)


def change(connection: Connection, account_id: str, **values: int | str) -> None:
    """Change an account's row, which is made when it is not there."""
    known = connection.execute(_FIND, {"account_id": account_id}).one_or_none()
    if known is None:
        connection.execute(stripe_accounts.insert(), {"account_id": account_id, **_NEW, **values})
    elif values:
        where = stripe_accounts.c.account_id == account_id
        connection.execute(update(stripe_accounts).where(where).values(**values))


def remember_card(
    connection: Connection, account_id: str, customer_id: str, card_id: str, card_unix_s: int
) -> None:
    """Keep the card that was saved last, whichever is told first; a customer is kept for good."""
    change(connection, account_id)
    row = connection.execute(_FIND, {"account_id": account_id}).mappings().one()
    values: dict[str, int | str] = {}
    if customer_id and not row["customer_id"]:
        values["customer_id"] = customer_id
    saved = (row["card_unix_s"], row["payment_method_id"])
    if card_id and (card_unix_s, card_id) > saved:
        values |= {"payment_method_id": card_id, "card_unix_s": card_unix_s}
    if values:
        change(connection, account_id, **values)


def move(
    books: Books, account_id: str, amount_nusd: int, *, kind: Kind, about: tuple[str, str, int]
) -> None:
    """Post what an account gains, or loses when negative, and write it.

    What it gains pays its debt first; what it loses and does not have becomes debt. `about` is the
    source, the reference, and the moment in Unix milliseconds.
    """
    source, reference, now_ms = about
    purse = purse_of(books, account_id)
    if amount_nusd > 0:
        postings = ledger.credit(account_id, amount_nusd, source=source, debt_nusd=purse.debt_nusd)
    elif amount_nusd < 0:
        postings = ledger.take_back(
            account_id, -amount_nusd, source=source, available_nusd=purse.available_nusd
        )
    else:
        return
    books.post(Draft(kind, reference, now_ms, postings))
    books.flush()


def offset(books: Books, account_id: str, *, now_ms: int) -> int:
    """Pay debt from what has come back to the balance; return how much, nano-USD."""
    purse = purse_of(books, account_id)
    amount = min(purse.available_nusd, purse.debt_nusd)
    if amount > 0:
        postings = ledger.offset(account_id, amount)
        books.post(Draft(Kind.OFFSET, account_id, now_ms, postings))
        books.flush()
    return amount


def adjust_limit(
    connection: Connection, books: Books, account_id: str, rules: ChargeRules, *, now_ms: int
) -> None:
    """Post the difference to the credit limit that the account should have now."""
    account = find(connection, account_id)
    if not account.is_postpaid and not account.limit_nusd:
        return
    paid = int(connection.execute(_PAID, {"account_id": account_id}).scalar_one())
    limit = credit_limit_nusd(account, rules, paid_cents=paid)
    if limit != account.limit_nusd:
        about = (LIMIT, account_id, now_ms)
        grown = limit - account.limit_nusd
        move(books, account_id, grown, kind=Kind.CREDIT_LIMIT, about=about)
        change(connection, account_id, limit_nusd=limit)


def nusd_of(cents: int) -> int:
    """Return cents in nano-USD."""
    return cents * CENT_NUSD


def _names(account_id: str) -> list[str]:
    return [name(account_id) for name in (ledger.available, ledger.held, ledger.debt)]


def _purse(found: dict[str, int], account_id: str) -> Purse:
    available, held, debt = (found[name] for name in _names(account_id))
    return Purse(available, held, -debt)


def _account(row: Any) -> Account:  # noqa: ANN401 - a row, or what stands for a new one
    return Account(
        account_id=row["account_id"],
        customer_id=row["customer_id"],
        payment_method_id=row["payment_method_id"],
        recharge_below_nusd=row["recharge_below_nusd"],
        recharge_cents=row["recharge_cents"],
        recharge_day_cents=row["recharge_day_cents"],
        is_postpaid=bool(row["is_postpaid"]),
        limit_nusd=row["limit_nusd"],
        charge_count=row["charge_count"],
        decline_count=row["decline_count"],
        next_try_unix_ms=row["next_try_unix_ms"],
        is_suspended=bool(row["is_suspended"]),
    )
