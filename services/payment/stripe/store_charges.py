"""Statements about charges that nobody is there for: begun, repeated, paid, declined.

At most one is under way per account; a unique index says so too.
"""

from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update

from services.payment.store_books import Books
from services.payment.stripe import store_accounts
from services.payment.stripe.events import News
from services.payment.stripe.rules import Charge, ChargeRules, Purpose, due_charge
from services.payment.stripe.tables import DECLINED, LOST, PAID, PENDING, stripe_charges

_DAY_MS: Final = 86_400_000
_CODE_CHARS_MAX: Final = 100

_DUE: Final = (
    select(stripe_charges)
    .where(stripe_charges.c.state == PENDING, stripe_charges.c.next_unix_ms <= bindparam("now_ms"))
    .order_by(stripe_charges.c.next_unix_ms)
    .limit(bindparam("count_max"))
)
_IS_CHARGING: Final = select(func.count()).where(
    stripe_charges.c.account_id == bindparam("account_id"), stripe_charges.c.state == PENDING
)
_TODAY: Final = select(func.coalesce(func.sum(stripe_charges.c.amount_cents), 0)).where(
    stripe_charges.c.account_id == bindparam("account_id"),
    stripe_charges.c.unix_ms >= bindparam("since_ms"),
    stripe_charges.c.state.in_((PENDING, PAID)),
)


def begin(
    connection: Connection, account_id: str, rules: ChargeRules, *, now_ms: int
) -> Charge | None:
    """Begin the charge that is due for an account, None when none is; Stripe is asked later."""
    books = Books(connection)
    if is_charging(connection, account_id):
        return None
    account = store_accounts.find(connection, account_id)
    where = {"account_id": account_id, "since_ms": now_ms - now_ms % _DAY_MS}
    today_cents = int(connection.execute(_TODAY, where).scalar_one())
    purse = store_accounts.purse_of(books, account_id)
    due = due_charge(account, purse, rules, today_cents=today_cents, now_ms=now_ms)
    if due is None:
        return None
    number = account.charge_count + 1
    row = {
        "account_id": account_id,
        "number": number,
        "purpose": due[0].value,
        "amount_cents": due[1],
        "customer_id": account.customer_id,
        "payment_method_id": account.payment_method_id,
        "state": PENDING,
        "intent_id": "",
        "code": "",
        "unix_ms": now_ms,
        "next_unix_ms": now_ms,
    }
    connection.execute(stripe_charges.insert(), row)
    store_accounts.change(connection, account_id, charge_count=number)
    return _charge(row)


def is_charging(connection: Connection, account_id: str) -> bool:
    """Return whether a charge of the account is under way."""
    where = {"account_id": account_id}
    return bool(connection.execute(_IS_CHARGING, where).scalar_one())


def due(connection: Connection, *, now_ms: int, count_max: int) -> list[Charge]:
    """Return charges under way that it is time to ask Stripe about."""
    where = {"now_ms": now_ms, "count_max": count_max}
    return [_charge(row) for row in connection.execute(_DUE, where).mappings()]


def postpone(
    connection: Connection, charge: Charge, *, next_unix_ms: int, intent_id: str = ""
) -> None:
    """Ask about a charge again later."""
    values: dict[str, Any] = {"next_unix_ms": next_unix_ms}
    if intent_id:
        values["intent_id"] = intent_id
    _change(connection, charge.account_id, charge.number, values)


def lose(connection: Connection, charge: Charge) -> None:
    """Give up a charge that Stripe does not have; another one may be begun."""
    _change(connection, charge.account_id, charge.number, {"state": LOST})


def pay(connection: Connection, account_id: str, number: int, intent_id: str) -> None:
    """Note that a charge was paid, whatever was thought of it before."""
    values = {"state": PAID, "intent_id": intent_id}
    where = (stripe_charges.c.account_id == account_id, stripe_charges.c.number == number)
    connection.execute(update(stripe_charges).where(*where).values(**values))


def decline(
    connection: Connection, books: Books, news: News, rules: ChargeRules, *, now_ms: int
) -> None:
    """Note that a charge under way was declined; the account waits, or is suspended.

    A post-paid account is suspended at once: its credit limit is taken back, and what it used and
    did not pay becomes debt.
    """
    account_id, number = news.account_id, news.charge_number
    values = {
        "state": DECLINED,
        "intent_id": news.intent_id,
        "code": news.decline_code[:_CODE_CHARS_MAX],
    }
    if not _change(connection, account_id, number, values):
        return
    account = store_accounts.find(connection, account_id)
    count = account.decline_count + 1
    is_over = account.is_postpaid or count >= rules.decline_count_max
    store_accounts.change(
        connection,
        account_id,
        decline_count=count,
        next_try_unix_ms=now_ms + rules.decline_wait_ms * count,
        is_suspended=int(is_over),
    )
    store_accounts.adjust_limit(connection, books, account_id, rules, now_ms=now_ms)


def _change(connection: Connection, account_id: str, number: int, values: dict[str, Any]) -> bool:
    """Change a charge that is under way; return whether it was."""
    statement = (
        update(stripe_charges)
        .where(
            stripe_charges.c.account_id == account_id,
            stripe_charges.c.number == number,
            stripe_charges.c.state == PENDING,
        )
        .values(**values)
    )
    return connection.execute(statement).rowcount > 0


def _charge(row: Any) -> Charge:  # noqa: ANN401 - a row, or what becomes one
    return Charge(
        account_id=row["account_id"],
        number=row["number"],
        purpose=Purpose(row["purpose"]),
        amount_cents=row["amount_cents"],
        customer_id=row["customer_id"],
        payment_method_id=row["payment_method_id"],
        intent_id=row["intent_id"],
        unix_ms=row["unix_ms"],
    )
