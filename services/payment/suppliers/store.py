"""The store of what is owed to others: payees, payouts, earnings and their sums."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, select, tuple_

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from services.payment.ledger import Draft, Kind
from services.payment.promos.marks import SPENT
from services.payment.store_answers import ask, remember
from services.payment.store_books import Books
from services.payment.store_engine import Transactions
from services.payment.store_tables import Row, balances
from services.payment.suppliers.earnings import payee_account, payee_of
from services.payment.suppliers.proof import payout_hash, payout_postings
from services.payment.suppliers.tables import IS_OWED, earnings, payouts

UNIX_MS_MAX: Final = 253_402_300_799_999


@dataclass(frozen=True, slots=True)
class PayoutTerms:
    """A payout that was made outside: to whom, how much, nano-USD, how, and its name there."""

    payee_id: str
    amount_nusd: int
    rail: str
    reference: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """From when on and until when, Unix milliseconds; the end is not part of it."""

    start_unix_ms: int = 0
    end_unix_ms: int = UNIX_MS_MAX

    def holds(self, column: ColumnElement[int]) -> ColumnElement[bool]:
        """Return the condition that a time is within."""
        return (column >= self.start_unix_ms) & (column < self.end_unix_ms)


class SuppliersStore:
    """Each method is one transaction."""

    def __init__(self, transactions: Transactions, *, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def pay(self, terms: PayoutTerms) -> tuple[Row, int]:
        """Book a payout once per request id; return its row and what is owed after it, nano-USD.

        Raises:
            TurnpikeError: NOT_FOUND, nothing was ever owed to that payee; INVALID_VALUE, more than
                is owed; ALREADY_EXISTS, a used request id or reference; LEDGER_UNAVAILABLE.
        """
        return await self._transactions.write(
            lambda connection: _pay(connection, terms, now_ms=self._clock.unix_ms())
        )

    async def payees(self, *, after: str, count_max: int) -> list[Row]:
        """Return payees by ledger account, from the one after `after`."""
        return await self._transactions.read(partial(_payees, after=after, count_max=count_max))

    async def payouts(self, *, payee_id: str, after: str, count_max: int) -> Sequence[Row]:
        """Return payouts by id, from the one after `after`; of one payee where one is named."""
        query = select(payouts).where(payouts.c.payout_id > after)
        if payee_id:
            query = query.where(payouts.c.payee_id == payee_id)
        return await self._rows(query.order_by(payouts.c.payout_id).limit(count_max))

    async def earnings(
        self, *, payee_id: str, span: Span, after: str, count_max: int
    ) -> Sequence[Row]:
        """Return a payee's earnings by event id, from the one after `after`."""
        kind, _, name = payee_id.partition(":")
        is_theirs = (
            earnings.c.supplier_id == name
            if kind == "supplier"
            else (earnings.c.supplier_id == "") & (earnings.c.provider == name)
        )
        query = select(earnings).where(is_theirs, earnings.c.event_id > after)
        query = query.where(span.holds(earnings.c.unix_ms))
        return await self._rows(query.order_by(earnings.c.event_id).limit(count_max))

    async def costs(
        self, *, span: Span, after: tuple[str, str, str], count_max: int
    ) -> Sequence[Row]:
        """Return sums by provider, supplier and model, from those after `after`."""
        by = (earnings.c.provider, earnings.c.supplier_id, earnings.c.model_id)
        query = (
            select(
                *by,
                func.count().label("request_count"),
                func.sum(earnings.c.paid_nusd).label("paid_nusd"),
                func.sum(earnings.c.owed_nusd).label("owed_nusd"),
            )
            .where(span.holds(earnings.c.unix_ms), tuple_(*by) > tuple_(*after))
            .group_by(*by)
            .order_by(*by)
            .limit(count_max)
        )
        return await self._rows(query)

    async def promo_spent_nusd(self) -> int:
        """Return what gifts have paid for in all, nano-USD."""
        query = select(balances.c.balance_nusd).where(balances.c.ledger_account == SPENT)
        found = await self._rows(query)
        return int(found[0]["balance_nusd"]) if found else 0

    async def _rows(self, query: Select[Any]) -> Sequence[Row]:
        return await self._transactions.read(
            lambda connection: [row._asdict() for row in connection.execute(query)]
        )


def _pay(connection: Connection, terms: PayoutTerms, *, now_ms: int) -> tuple[Row, int]:
    books = Books(connection)
    asked = ["payout", terms.payee_id, terms.amount_nusd, terms.rail, terms.reference]
    answered = ask(connection, terms.request_id, asked)
    if answered is not None:
        return answered["payout"], int(answered["owed_nusd"])
    owed = _owed(books, terms)
    _check_reference(connection, terms)
    row: Row = {
        "payout_id": terms.request_id,
        "payee_id": terms.payee_id,
        "amount_nusd": terms.amount_nusd,
        "rail": terms.rail,
        "reference": terms.reference,
        "unix_ms": now_ms,
    }
    postings = payout_postings(terms.payee_id, terms.rail, terms.amount_nusd)
    seq = books.post(Draft(Kind.PAYOUT, terms.request_id, now_ms, postings, payout_hash(row)))
    books.flush()
    row["txn_seq"] = seq
    connection.execute(payouts.insert(), row)
    answer = {"payout": row, "owed_nusd": owed - terms.amount_nusd}
    remember(connection, terms.request_id, asked, answer, now_ms=now_ms, is_kept=True)
    return row, owed - terms.amount_nusd


def _owed(books: Books, terms: PayoutTerms) -> int:
    """Return what a payee is owed, which is enough for the payout."""
    account = payee_account(terms.payee_id)
    owed = 0 if account is None else books.balances([account])[account]
    if terms.amount_nusd > owed:
        raise TurnpikeError(
            Reason.INVALID_VALUE,
            f"amount_nusd is {terms.amount_nusd}; {owed} is owed to {terms.payee_id}.",
            param="amount_nusd",
        )
    return owed


def _check_reference(connection: Connection, terms: PayoutTerms) -> None:
    query = select(payouts.c.payout_id).where(
        payouts.c.rail == terms.rail, payouts.c.reference == terms.reference
    )
    booked = connection.execute(query).scalar()
    if booked is not None:
        raise TurnpikeError(
            Reason.ALREADY_EXISTS,
            f"reference is that of payout {booked} already; each is booked once.",
            param="reference",
        )


def _payees(connection: Connection, *, after: str, count_max: int) -> list[Row]:
    query = (
        select(balances)
        .where(IS_OWED, balances.c.ledger_account > after)
        .order_by(balances.c.ledger_account)
        .limit(count_max)
    )
    owed = {row.ledger_account: row.balance_nusd for row in connection.execute(query)}
    names = {payee_of(account): account for account in owed}
    sums = (
        select(payouts.c.payee_id, func.sum(payouts.c.amount_nusd))
        .where(payouts.c.payee_id.in_(list(names)))
        .group_by(payouts.c.payee_id)
    )
    paid = {payee_id: int(amount) for payee_id, amount in connection.execute(sums)}
    return [
        {
            "ledger_account": account,
            "payee_id": payee_id,
            "paid_nusd": paid.get(payee_id, 0),
            "owed_nusd": owed[account],
            "earned_nusd": owed[account] + paid.get(payee_id, 0),
        }
        for payee_id, account in names.items()
    ]
