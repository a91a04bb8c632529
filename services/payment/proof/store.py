"""Statements about receipts and roots that are read, and about roots that are signed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, select

from kit.db_statements import Statement
from services.payment.proof.framing import named
from services.payment.proof.receipts import Head
from services.payment.proof.roots import BATCH, DAY, FIELDS, Root
from services.payment.proof.tables import receipts, roots
from services.payment.store_books import Books
from services.payment.store_engine import Transactions
from services.payment.store_tables import Row, charges, insert, refunds, transactions
from services.payment.store_verify import Snapshot

_ROOT: Final = insert(roots)
_TRANSACTIONS: Final = (
    select(transactions.c.seq, transactions.c.unix_ms, transactions.c.hash)
    .where(transactions.c.seq > bindparam("after"))
    .order_by(transactions.c.seq)
    .limit(bindparam("count_max"))
)
_RECEIPTS: Final = (
    select(
        receipts.c.txn_seq,
        receipts.c.account_id,
        receipts.c.receipt_seq,
        receipts.c.body,
        receipts.c.hash,
    )
    .where(receipts.c.txn_seq.between(bindparam("first"), bindparam("last")))
    .order_by(receipts.c.txn_seq, receipts.c.receipt_seq)
)
_COUNTS: Final = (
    select(receipts.c.txn_seq, func.count())
    .where(receipts.c.txn_seq.between(bindparam("first"), bindparam("last")))
    .group_by(receipts.c.txn_seq)
)
_LEAVES: Final = (
    select(receipts.c.account_id, receipts.c.receipt_seq, receipts.c.hash)
    .where(receipts.c.txn_seq.between(bindparam("first"), bindparam("last")))
    .order_by(receipts.c.txn_seq, receipts.c.receipt_seq)
)
_OF_ACCOUNT: Final = (
    select(receipts)
    .where(receipts.c.account_id == bindparam("account_id"))
    .where(receipts.c.receipt_seq > bindparam("after"))
    .order_by(receipts.c.receipt_seq)
    .limit(bindparam("count_max"))
)
_ROOTS: Final = (
    select(roots)
    .where(roots.c.number > bindparam("after"))
    .order_by(roots.c.number)
    .limit(bindparam("count_max"))
)
_NEWEST: Final = select(roots).order_by(roots.c.number.desc()).limit(1)
_COVERING: Final = (
    select(roots)
    .where(roots.c.kind == BATCH, roots.c.last_seq >= bindparam("seq"))
    .order_by(roots.c.last_seq)
    .limit(1)
)
_OF_DAY: Final = (
    select(roots.c.number, roots.c.first_seq, roots.c.last_seq, roots.c.hash)
    .where(roots.c.kind == BATCH, roots.c.day == bindparam("day"))
    .where(roots.c.number > bindparam("after"))
    .order_by(roots.c.number)
    .limit(bindparam("count_max"))
)
_LAST_DAY: Final = select(func.max(roots.c.day)).where(roots.c.kind == DAY)
_HAS_NUMBER: Final = Statement(
    select(roots.c.number).where(roots.c.number == bindparam("number")), "number"
)


class Signed(NamedTuple):
    """How far the ledger is signed; the days count from 1970-01-01, -1 for none.

    `number` and `hash` are the last root's; `seq`, `ledger_hash` and `day` the last batch root's.
    """

    number: int
    hash: bytes
    seq: int
    ledger_hash: bytes
    day: int
    closed_day: int


class Posted(NamedTuple):
    """A ledger transaction: its position, when it was posted, and its hash."""

    seq: int
    unix_ms: int
    hash: bytes


class Made(NamedTuple):
    """What a root covers of a receipt, and the transaction that it belongs to."""

    txn_seq: int
    account_id: str
    receipt_seq: int
    body: bytes
    hash: bytes


class ProofStore:
    """Receipts and roots of one database; each method is one transaction."""

    def __init__(self, ledger: Transactions) -> None:
        self._ledger = ledger

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Open one consistent state of the ledger, for its comparison with roots."""
        async with self._ledger.snapshot() as read:
            yield Snapshot(read)

    async def signed(self) -> Signed:
        """Return how far the ledger is signed."""
        return await self._ledger.read(_signed)

    async def transactions(self, *, after: int, count_max: int) -> list[Posted]:
        """Return transactions in order, from the one after `after`."""
        where = {"after": after, "count_max": count_max}
        return await self._ledger.read(
            lambda connection: [*map(Posted._make, connection.execute(_TRANSACTIONS, where))]
        )

    async def receipt_counts(self, first: int, last: int) -> dict[int, int]:
        """Return how many receipts each of a stretch of transactions has, where it has any."""
        where = {"first": first, "last": last}
        return await self._ledger.read(
            lambda connection: {row[0]: row[1] for row in connection.execute(_COUNTS, where)}
        )

    async def receipts(self, first: int, last: int) -> list[Made]:
        """Return the receipts of a stretch of transactions, in the order of a root's leaves."""
        where = {"first": first, "last": last}
        return await self._ledger.read(
            lambda connection: [*map(Made._make, connection.execute(_RECEIPTS, where))]
        )

    async def leaves(self, first: int, last: int) -> Sequence[Row]:
        """Return account, place and hash of the receipts of a stretch of transactions."""
        return await self._ledger.read(partial(_rows, _LEAVES, {"first": first, "last": last}))

    async def receipts_of(self, account_id: str, *, after: int, count_max: int) -> Sequence[Row]:
        """Return an account's receipts in order, from the one after `after`."""
        where = {"account_id": account_id, "after": after, "count_max": count_max}
        return await self._ledger.read(partial(_rows, _OF_ACCOUNT, where))

    async def receipts_about(self, account_id: str, event_id: str) -> Sequence[Row]:
        """Return an account's receipts of one outcome: its charge and, if any, its refund."""
        return await self._ledger.read(lambda connection: _about(connection, account_id, event_id))

    async def head(self, account_id: str, receipt_seq: int) -> Head:
        """Return a receipt's place and hash; the place 0 has those of nothing."""
        if not receipt_seq:
            return Head()
        where = {"account_id": account_id, "after": receipt_seq - 1, "count_max": 1}
        (row,) = await self._ledger.read(partial(_rows, _OF_ACCOUNT, where))
        return Head(row["receipt_seq"], row["hash"])

    async def add(self, root: Root, day: int) -> bool:
        """Store a root; False when another replica has signed its number."""
        return await self._ledger.write(lambda connection: _add(connection, root, day))

    async def roots(self, *, after: int, count_max: int) -> list[Root]:
        """Return roots in order, from the one after number `after`."""
        where = {"after": after, "count_max": count_max}
        return [_root(row) for row in await self._ledger.read(partial(_rows, _ROOTS, where))]

    async def covering(self, seq: int) -> Root | None:
        """Return the batch root that covers a transaction; None when none does yet."""
        found = await self._ledger.read(partial(_rows, _COVERING, {"seq": seq}))
        root = _root(found[0]) if found else None
        return root if root is not None and root.span[0] <= seq else None

    async def batches_of(self, day: int, *, after: int, count_max: int) -> Sequence[Row]:
        """Return number, span and hash of a day's batch roots, from the one after `after`."""
        where = {"day": day, "after": after, "count_max": count_max}
        return await self._ledger.read(partial(_rows, _OF_DAY, where))


def _signed(connection: Connection) -> Signed:
    newest = _rows(_NEWEST, {}, connection)
    if not newest:
        return Signed(0, bytes(32), 0, bytes(32), -1, -1)
    last = _root(_rows(_NEWEST.where(roots.c.kind == BATCH), {}, connection)[0])
    closed = connection.execute(_LAST_DAY).scalar()
    return Signed(
        number=newest[0]["number"],
        hash=newest[0]["hash"],
        seq=last.span[1],
        ledger_hash=bytes.fromhex(last.fields["ledger_hash"]),
        day=int(last.fields["day"]),
        closed_day=-1 if closed is None else int(closed),
    )


def _about(connection: Connection, account_id: str, event_id: str) -> Sequence[Row]:
    """Find the receipts of an outcome by the transactions of its charge and of its refund."""
    mine = (receipts.c.event_id == event_id) & (receipts.c.account_id == account_id)
    seq = select(charges.c.txn_seq).where(charges.c.event_id == event_id).scalar_subquery()
    given_back = select(refunds.c.txn_seq).where(refunds.c.event_id == event_id).scalar_subquery()
    query = select(receipts).where(mine, receipts.c.txn_seq.in_([seq, given_back]))
    return _rows(query.order_by(receipts.c.receipt_seq), {}, connection)


def _add(connection: Connection, root: Root, day: int) -> bool:
    Books(connection)
    if _HAS_NUMBER.rows(connection, root.number):
        return False
    row = (root.number, root.fields["kind"], day, *root.span, root.text, root.hash, root.signature)
    _ROOT.run(connection, *row)
    return True


def _root(row: Row) -> Root:
    return Root(named(FIELDS, row["body"]), row["signature"])


def _rows(query: Select[Any], where: Mapping[str, object], connection: Connection) -> list[Row]:
    return [row._asdict() for row in connection.execute(query, where)]
