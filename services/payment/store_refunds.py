"""Statements of refunds: what is given back of charges, and which keys get much of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, select

from kit.db_statements import Statement
from services.payment.batch import Plan, Refund
from services.payment.proof.store_receipts import ReceiptBook
from services.payment.store_books import Books
from services.payment.store_tables import insert, refunds

_HOUR_MS: Final = 3_600_000
_REFUNDS: Final = insert(refunds)
_COUNT: Final = Statement(
    select(func.count()).where(
        refunds.c.key_id == bindparam("key"), refunds.c.unix_ms >= bindparam("since")
    ),
    "key",
    "since",
)


@dataclass(frozen=True, slots=True)
class FlaggedKey:
    """A key that passed the number of refunds it may have in an hour, and how many it has."""

    key_id: str
    refund_count: int


def post_refunds(books: Books, plan: Plan, receipts: ReceiptBook) -> list[tuple[object, ...]]:
    """Post a plan's refunds and return their rows, to be written once the books are."""
    rows: list[tuple[object, ...]] = []
    for draft, given_back in plan.refunded:
        seq = None
        if draft is not None:
            seq = books.post(receipts.refunded(draft, given_back))
            receipts.place(seq)
        rows += [(*refund, seq) for refund in given_back]
    return rows


def write_refunds(
    connection: Connection, rows: Sequence[tuple[object, ...]], plan: Plan, *, per_hour_max: int
) -> tuple[FlaggedKey, ...]:
    """Write refunds; return the keys that pass `per_hour_max` by them, each once an hour.

    Hours are those of the clock in which refunds are posted.
    """
    if not rows:
        return ()
    _REFUNDS.run_all(connection, rows)
    found = plan.refunds
    return tuple(
        FlaggedKey(key_id, after)
        for key_id, new_count in sorted(_by_key(found).items())
        if (after := _in_hour(connection, key_id, found[0].unix_ms)) > per_hour_max
        and after - new_count <= per_hour_max
    )


def _by_key(found: Sequence[Refund]) -> Counter[str]:
    return Counter(refund.key_id for refund in found)


def _in_hour(connection: Connection, key_id: str, unix_ms: int) -> int:
    ((count,),) = _COUNT.rows(connection, key_id, unix_ms - unix_ms % _HOUR_MS)
    return int(count)
