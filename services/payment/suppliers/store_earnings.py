"""Statements of earnings: the rows of a batch, and pages of them for proof and statements."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from services.payment.batch import Plan
from services.payment.store_books import Books
from services.payment.store_tables import insert
from services.payment.suppliers.tables import earnings

_EARNINGS: Final = insert(earnings)


def post_earnings(books: Books, plan: Plan) -> list[tuple[object, ...]]:
    """Post a plan's earnings and return their rows, to be written once the books are."""
    if not plan.earned:
        return []
    seq = None if plan.earned_draft is None else books.post(plan.earned_draft)
    return [(*earning, seq if earning.owed_nusd else None) for earning in plan.earned]


def write_earnings(connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Write earnings."""
    _EARNINGS.run_all(connection, rows)
