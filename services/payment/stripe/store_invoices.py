"""Statements that sum an account's postings up, by day, by month and by model."""

from typing import Any, Final

from sqlalchemy import Connection, and_, func, select

from services.payment import ledger
from services.payment.ledger import Kind
from services.payment.promos.marks import GRANTED, SPENT, mark
from services.payment.store_tables import account_chain, charges, entries, transactions
from services.payment.stripe.invoices import DAY_MS, DaySum, Line

_SINGLE: Final = (Kind.CREDIT.value, Kind.REVERSAL.value)


def day_sums(connection: Connection, account_id: str) -> list[DaySum]:
    """Return what each kind of posting changed on each day, but for the credit limit."""
    day = (transactions.c.unix_ms // DAY_MS).label("day")
    query = (
        select(day, transactions.c.kind, func.sum(entries.c.amount_nusd))
        .select_from(_postings(account_id))
        .where(entries.c.ledger_account.in_(_names(account_id)))
        .where(transactions.c.kind != Kind.CREDIT_LIMIT.value)
        .group_by(day, transactions.c.kind)
    )
    found = connection.execute(query)
    return [DaySum(int(day), kind, int(amount)) for day, kind, amount in found if amount]


def charge_lines(connection: Connection, account_id: str, bounds: tuple[int, int]) -> list[Line]:
    """Return what was charged in a span, by model."""
    joined = _chained(account_id).join(charges, charges.c.txn_seq == transactions.c.seq)
    query = (
        select(charges.c.model_id, func.count(), func.sum(charges.c.charged_nusd))
        .select_from(joined)
        .where(charges.c.account_id == account_id, *_within(bounds))
        .group_by(charges.c.model_id)
        .order_by(charges.c.model_id)
    )
    return [
        Line(Kind.SETTLEMENT.value, model_id, "", int(count), -int(amount), 0)
        for model_id, count, amount in connection.execute(query)
    ]


def group_lines(connection: Connection, account_id: str, bounds: tuple[int, int]) -> list[Line]:
    """Return every posting of a span but charges, by kind and by where the money came from."""
    query = (
        select(
            transactions.c.kind,
            entries.c.ledger_account,
            func.count(),
            func.sum(entries.c.amount_nusd),
        )
        .select_from(_postings(account_id))
        .where(*_others(account_id, bounds))
        .group_by(transactions.c.kind, entries.c.ledger_account)
        .order_by(transactions.c.kind, entries.c.ledger_account)
    )
    return [
        Line(kind, name, "", int(count), -int(amount), 0)
        for kind, name, count, amount in connection.execute(query)
    ]


def single_lines(
    connection: Connection, account_id: str, bounds: tuple[int, int], *, count_max: int
) -> list[Line]:
    """Return the credits and reversals of a span one by one, oldest first, up to a number."""
    query = (
        select(
            transactions.c.kind,
            entries.c.ledger_account,
            transactions.c.reference,
            entries.c.amount_nusd,
            transactions.c.unix_ms,
        )
        .select_from(_postings(account_id))
        .where(*_others(account_id, bounds), transactions.c.kind.in_(_SINGLE))
        .order_by(transactions.c.seq, entries.c.ledger_account)
        .limit(count_max)
    )
    return [
        Line(kind, name, reference, 1, -int(amount), int(unix_ms))
        for kind, name, reference, amount, unix_ms in connection.execute(query)
    ]


def _names(account_id: str) -> list[str]:
    return [name(account_id) for name in (ledger.available, ledger.held, ledger.debt)]


def _chained(account_id: str) -> Any:  # noqa: ANN401 - SQLAlchemy's join
    is_chained = and_(
        account_chain.c.txn_seq == transactions.c.seq, account_chain.c.account_id == account_id
    )
    return account_chain.join(transactions, is_chained)


def _postings(account_id: str) -> Any:  # noqa: ANN401 - SQLAlchemy's join
    return _chained(account_id).join(entries, entries.c.txn_seq == transactions.c.seq)


def _within(bounds: tuple[int, int]) -> list[Any]:
    return [transactions.c.unix_ms >= bounds[0], transactions.c.unix_ms < bounds[1]]


def _others(account_id: str, bounds: tuple[int, int]) -> list[Any]:
    """Return what finds the far side of postings that are neither charges nor credit limits.

    What marks a part of the balance as a gift is no money: marks have a far side of their own.
    """
    left_out = (Kind.SETTLEMENT.value, Kind.CREDIT_LIMIT.value)
    near = (*_names(account_id), mark(account_id), GRANTED, SPENT)
    return [
        *_within(bounds),
        entries.c.ledger_account.not_in(near),
        transactions.c.kind.not_in(left_out),
    ]
