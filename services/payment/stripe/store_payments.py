"""Statements about payments: what an event says is joined to what is known, and the rest posted.

What is known of a payment only grows, in whatever order and however often it is told; postings are
the difference between what is known and what was posted. So any order leads to the same balances.
"""

from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, select, update

from services.payment.ledger import Kind
from services.payment.store_books import Books
from services.payment.store_tables import insert_once
from services.payment.stripe import store_accounts, store_charges
from services.payment.stripe.events import News
from services.payment.stripe.rules import (
    ChargeRules,
    Reversal,
    Undoing,
    rank_of,
    reversed_cents,
)
from services.payment.stripe.tables import stripe_events, stripe_payments, stripe_reversals

_EVENT_ONCE: Final = insert_once(stripe_events)
_FIND: Final = select(stripe_payments).where(stripe_payments.c.intent_id == bindparam("intent_id"))
_REVERSAL: Final = select(stripe_reversals).where(
    stripe_reversals.c.reversal_id == bindparam("reversal_id")
)
_REVERSALS: Final = select(
    stripe_reversals.c.kind, stripe_reversals.c.amount_cents, stripe_reversals.c.status
).where(stripe_reversals.c.intent_id == bindparam("intent_id"))
_PAGE: Final = (
    select(stripe_payments)
    .where(stripe_payments.c.account_id == bindparam("account_id"))
    .order_by(stripe_payments.c.unix_ms.desc(), stripe_payments.c.intent_id.desc())
    .limit(bindparam("count_max"))
    .offset(bindparam("skip_count"))
)
_PARKED: Final = (
    select(stripe_payments.c.intent_id)
    .where(stripe_payments.c.account_id == "", stripe_payments.c.unix_ms < bindparam("before_ms"))
    .limit(bindparam("count_max"))
)


class Effect(Enum):
    """What an event did."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


def take(
    connection: Connection, news: News, rules: ChargeRules, *, now_ms: int
) -> tuple[Effect, str]:
    """Apply what an event says, once by the event's id; news without one is always applied.

    Return what it did and the account that it changed, empty when none.
    """
    books = Books(connection)
    if news.event_id and not _EVENT_ONCE.run(connection, news.event_id, news.type, now_ms):
        return Effect.DUPLICATE, ""
    if not news.intent_id:
        return Effect.IGNORED, ""
    if news.decline_code:
        store_charges.decline(connection, books, news, rules, now_ms=now_ms)
        return Effect.APPLIED, news.account_id
    before = find(connection, news.intent_id)
    after = _joined(connection, before, news, now_ms)
    if not after["account_id"]:
        # A payment that is not known yet, or none of ours: kept until more is heard of it.
        return Effect.APPLIED, ""
    _post(books, before, after, now_ms)
    is_paid = after["paid_cents"] > (before["paid_cents"] if before else 0)
    _follow(connection, books, news, rules, (after["account_id"], is_paid, now_ms))
    return Effect.APPLIED, after["account_id"]


def find(connection: Connection, intent_id: str) -> dict[str, Any] | None:
    """Return what is known of a payment, None when nothing is."""
    row = connection.execute(_FIND, {"intent_id": intent_id}).mappings().one_or_none()
    return None if row is None else dict(row)


def payments(
    connection: Connection, account_id: str, *, skip_count: int, count_max: int
) -> list[dict[str, Any]]:
    """Return an account's payments, newest first."""
    where = {"account_id": account_id, "skip_count": skip_count, "count_max": count_max}
    return [dict(row) for row in connection.execute(_PAGE, where).mappings()]


def forget(connection: Connection, *, before_ms: int, count_max: int) -> None:
    """Drop old ids of webhooks, and what was heard of payments that are none of ours."""
    connection.execute(delete(stripe_events).where(stripe_events.c.unix_ms < before_ms))
    where = {"before_ms": before_ms, "count_max": count_max}
    parked = list(connection.execute(_PARKED, where).scalars())
    if parked:
        for table in (stripe_reversals, stripe_payments):
            connection.execute(delete(table).where(table.c.intent_id.in_(parked)))


def _joined(
    connection: Connection, before: dict[str, Any] | None, news: News, now_ms: int
) -> dict[str, Any]:
    """Write what is known now of a payment and return it."""
    if news.reversal is not None:
        _learn(connection, news.intent_id, news.reversal_id, news.reversal)
    row = dict(before or _unknown(news.intent_id, now_ms))
    row["account_id"] = row["account_id"] or news.account_id
    if row["account_id"] == news.account_id:
        row["paid_cents"] = max(row["paid_cents"], news.paid_cents)
    row["charge_refunded_cents"] = max(row["charge_refunded_cents"], news.refunded_cents)
    found = connection.execute(_REVERSALS, {"intent_id": news.intent_id})
    known = [Reversal(Undoing(kind), cents, status) for kind, cents, status in found]
    row["reversed_cents"] = reversed_cents(row["paid_cents"], row["charge_refunded_cents"], known)
    if before is None:
        connection.execute(stripe_payments.insert(), row)
    elif row != before:
        where = stripe_payments.c.intent_id == news.intent_id
        connection.execute(update(stripe_payments).where(where).values(**row))
    return row


def _unknown(intent_id: str, now_ms: int) -> dict[str, Any]:
    return {
        "intent_id": intent_id,
        "account_id": "",
        "paid_cents": 0,
        "charge_refunded_cents": 0,
        "reversed_cents": 0,
        "unix_ms": now_ms,
    }


def _learn(connection: Connection, intent_id: str, reversal_id: str, heard: Reversal) -> None:
    """Keep the status that is further along; what is told late does not go back."""
    where = {"reversal_id": reversal_id}
    known = connection.execute(_REVERSAL, where).mappings().one_or_none()
    values = {**where, "intent_id": intent_id, **heard._asdict()}
    if known is None:
        connection.execute(stripe_reversals.insert(), values)
        return
    if (rank_of(heard.kind, heard.status) or 0) > (rank_of(heard.kind, known["status"]) or 0):
        is_it = stripe_reversals.c.reversal_id == reversal_id
        connection.execute(update(stripe_reversals).where(is_it).values(status=heard.status))


def _post(books: Books, before: dict[str, Any] | None, after: dict[str, Any], now_ms: int) -> None:
    known = before or {"paid_cents": 0, "reversed_cents": 0}
    about = (store_accounts.CARD, after["intent_id"], now_ms)
    for name, kind, sign in (
        ("paid_cents", Kind.CREDIT, 1),
        ("reversed_cents", Kind.REVERSAL, -1),
    ):
        amount = sign * store_accounts.nusd_of(after[name] - known[name])
        store_accounts.move(books, after["account_id"], amount, kind=kind, about=about)


def _follow(
    connection: Connection,
    books: Books,
    news: News,
    rules: ChargeRules,
    about: tuple[str, bool, int],
) -> None:
    """Do what follows from a payment: its card is known, its charge done, the limit another.

    `about` is the account, whether it has just paid, and the moment in Unix milliseconds.
    """
    account_id, is_paid, now_ms = about
    store_accounts.remember_card(
        connection, account_id, news.customer_id, news.card_id, news.card_unix_s
    )
    if news.charge_number:
        store_charges.pay(connection, account_id, news.charge_number, news.intent_id)
    store_accounts.offset(books, account_id, now_ms=now_ms)
    if is_paid and not store_accounts.purse_of(books, account_id).debt_nusd:
        store_accounts.change(
            connection, account_id, decline_count=0, next_try_unix_ms=0, is_suspended=0
        )
    store_accounts.adjust_limit(connection, books, account_id, rules, now_ms=now_ms)
