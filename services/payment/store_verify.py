"""Statements that read the books for their proof, a page at a time."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, case, func, or_, select, tuple_

from services.payment import ledger
from services.payment.caps.store_keeping import wrong_use
from services.payment.ledger import Draft, Posting
from services.payment.mpp.store_checks import CHECKS as CHANNEL_CHECKS
from services.payment.proof.tables import receipt_heads, receipts
from services.payment.store_discrepancies import Check, Discrepancy, unequal
from services.payment.store_engine import Reader
from services.payment.store_leases import OPEN
from services.payment.store_settlement import applied_seq
from services.payment.store_tables import (
    Row,
    account_chain,
    accounts,
    balances,
    charges,
    entries,
    holds,
    leases,
    ledger_head,
    refunds,
    transactions,
)
from services.payment.suppliers.store_verify import (
    EARNINGS,
    below_nothing,
    unposted_payouts,
    wrong_marks,
)
from services.payment.suppliers.tables import IS_OWED, earnings, payouts

_PAGE: Final = (
    select(transactions)
    .where(transactions.c.seq > bindparam("after"))
    .order_by(transactions.c.seq)
    .limit(bindparam("count_max"))
)
_CHAIN: Final = (
    select(account_chain, transactions.c.hash.label("of_transaction"))
    .outerjoin(transactions, transactions.c.seq == account_chain.c.txn_seq)
    .where(
        tuple_(account_chain.c.account_id, account_chain.c.account_seq)
        > tuple_(bindparam("account_id"), bindparam("account_seq"))
    )
    .order_by(account_chain.c.account_id, account_chain.c.account_seq)
    .limit(bindparam("count_max"))
)
_RECEIPTS: Final = (
    select(receipts)
    .where(
        tuple_(receipts.c.account_id, receipts.c.receipt_seq)
        > tuple_(bindparam("account_id"), bindparam("receipt_seq"))
    )
    .order_by(receipts.c.account_id, receipts.c.receipt_seq)
    .limit(bindparam("count_max"))
)
_CHARGES: Final = (
    select(
        charges.c.event_id,
        charges.c.account_id,
        charges.c.charge_nusd,
        func.coalesce(refunds.c.refund_nusd, 0).label("refund_nusd"),
    )
    .outerjoin(refunds, refunds.c.event_id == charges.c.event_id)
    .where(charges.c.event_id > bindparam("after"), charges.c.charge_nusd != 0)
    .where(charges.c.stream_seq <= bindparam("stream_seq_max"))
    .order_by(charges.c.event_id)
    .limit(bindparam("count_max"))
)


@dataclass(frozen=True, slots=True)
class Posted:
    """A stored transaction with everything kept beside it."""

    seq: int
    draft: Draft
    hash: bytes
    chained_accounts: tuple[str, ...]
    charge_rows: tuple[Row, ...]
    refund_rows: tuple[Row, ...]
    receipt_rows: tuple[Row, ...]
    earning_rows: tuple[Row, ...] = ()
    payout_rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the whole room; nano-USD."""

    charged_nusd: int
    writeoff_nusd: int
    refunded_nusd: int
    open_lease_count: int
    open_hold_count: int
    held_nusd: int
    debt_nusd: int
    owed_nusd: int


class Snapshot:
    """One state of the whole room, read a page at a time."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    async def posted(self, *, after: int, count_max: int) -> list[Posted]:
        """Return transactions in order, from the one after `after`."""
        return await self._read(partial(_posted_page, after=after, count_max=count_max))

    async def links(self, *, after: tuple[str, int], count_max: int) -> Sequence[Row]:
        """Return links of the accounts' chains in order, from the one after (account, seq)."""
        return await self._read(partial(_chain_page, after=after, count_max=count_max))

    async def receipts(self, *, after: tuple[str, int], count_max: int) -> Sequence[Row]:
        """Return receipts by account and place, from the one after (account, place)."""
        where = {"account_id": after[0], "receipt_seq": after[1], "count_max": count_max}
        return await self._read(lambda connection: _rows(connection, _RECEIPTS, where))

    async def receipt_heads(self) -> dict[str, tuple[int, bytes]]:
        """Return the place and hash of each account's last receipt."""
        found = await self._read(lambda connection: _rows(connection, select(receipt_heads), {}))
        return {row["account_id"]: (row["receipt_seq"], row["hash"]) for row in found}

    async def charges(self, *, after: str, stream_seq_max: int, count_max: int) -> Sequence[Row]:
        """Return charges that cost something by event id, from the one after `after`."""
        where = {"after": after, "stream_seq_max": stream_seq_max, "count_max": count_max}
        return await self._read(lambda connection: _rows(connection, _CHARGES, where))

    async def earnings(self, *, after: str, count_max: int) -> Sequence[Row]:
        """Return earnings by event id, each with its charge, refund and kind of transaction."""
        where = {"after": after, "count_max": count_max}
        return await self._read(lambda connection: _rows(connection, EARNINGS, where))

    async def head(self) -> tuple[int, bytes]:
        """Return the ledger's last position and hash."""
        return await self._read(_head)

    async def applied_seq(self, stream: str) -> int:
        """Return the last stream position up to which everything was applied."""
        return await self._read(lambda connection: applied_seq(connection, stream))

    async def totals(self) -> Totals:
        """Return the sums that a verification reports."""
        return await self._read(_totals)

    async def discrepancies(self, *, count_max: int) -> list[Discrepancy]:
        """Return what SQL alone can tell: wrong projections, leases, charges and signs."""
        found: list[Discrepancy] = []
        for check in _CHECKS:
            found += await self._read(partial(check, count_max=count_max))
        return found


def _posted_page(connection: Connection, *, after: int, count_max: int) -> list[Posted]:
    """Return transactions in order, from the one after `after`."""
    rows = _rows(connection, _PAGE, {"after": after, "count_max": count_max})
    if not rows:
        return []
    bounds = (rows[0]["seq"], rows[-1]["seq"])
    lines = _grouped(connection, select(entries).order_by(entries.c.ledger_account), bounds)
    links = _grouped(connection, select(account_chain), bounds)
    charged = _grouped(connection, select(charges), bounds)
    given_back = _grouped(connection, select(refunds), bounds)
    proofs = _grouped(connection, select(receipts).order_by(receipts.c.receipt_seq), bounds)
    earned = _grouped(connection, select(earnings), bounds)
    paid = _grouped(connection, select(payouts), bounds)
    return [
        Posted(
            seq=row["seq"],
            draft=_draft(row, lines[row["seq"]]),
            hash=row["hash"],
            chained_accounts=tuple(sorted(link["account_id"] for link in links[row["seq"]])),
            charge_rows=tuple(charged[row["seq"]]),
            refund_rows=tuple(given_back[row["seq"]]),
            receipt_rows=tuple(proofs[row["seq"]]),
            earning_rows=tuple(earned[row["seq"]]),
            payout_rows=tuple(paid[row["seq"]]),
        )
        for row in rows
    ]


def _chain_page(connection: Connection, *, after: tuple[str, int], count_max: int) -> Sequence[Row]:
    where = {"account_id": after[0], "account_seq": after[1], "count_max": count_max}
    return _rows(connection, _CHAIN, where)


def _head(connection: Connection) -> tuple[int, bytes]:
    row = connection.execute(select(ledger_head)).one()
    return row.seq, row.hash


def _wrong_balances(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    sums = (
        select(entries.c.ledger_account, func.sum(entries.c.amount_nusd).label("total"))
        .group_by(entries.c.ledger_account)
        .subquery()
    )
    name = func.coalesce(balances.c.ledger_account, sums.c.ledger_account)
    total = func.coalesce(sums.c.total, 0)
    stored = func.coalesce(balances.c.balance_nusd, 0)
    query = select(name, total, stored).select_from(
        balances.outerjoin(sums, sums.c.ledger_account == balances.c.ledger_account, full=True)
    )
    return unequal(
        connection, "projection", query.where(total != stored).order_by(name).limit(count_max)
    )


def _wrong_charged(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    sums = (
        select(charges.c.account_id, func.sum(charges.c.charged_nusd).label("total"))
        .group_by(charges.c.account_id)
        .subquery()
    )
    given_back = (
        select(refunds.c.account_id, func.sum(refunds.c.refunded_nusd).label("total"))
        .group_by(refunds.c.account_id)
        .subquery()
    )
    total = func.coalesce(sums.c.total, 0) - func.coalesce(given_back.c.total, 0)
    query = (
        select(accounts.c.account_id, total, accounts.c.charged_nusd)
        .outerjoin(sums, sums.c.account_id == accounts.c.account_id)
        .outerjoin(given_back, given_back.c.account_id == accounts.c.account_id)
        .where(total != accounts.c.charged_nusd)
        .order_by(accounts.c.account_id)
    )
    return unequal(connection, "projection", query.limit(count_max))


def _wrong_leases(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    left = leases.c.granted_nusd - leases.c.captured_nusd - leases.c.released_nusd
    owner = ("customer:" + leases.c.account_id + ":held").label("ledger_account")
    sums = select(owner, func.sum(left).label("total")).group_by(leases.c.account_id).subquery()
    held = (
        select(balances).where(balances.c.ledger_account.like("customer:%:held")).subquery("held")
    )
    name = func.coalesce(held.c.ledger_account, sums.c.ledger_account)
    total = func.coalesce(sums.c.total, 0)
    stored = func.coalesce(held.c.balance_nusd, 0)
    query = select(name, total, stored).select_from(
        held.outerjoin(sums, sums.c.ledger_account == held.c.ledger_account, full=True)
    )
    return unequal(
        connection, "lease", query.where(total != stored).order_by(name).limit(count_max)
    )


def _unposted_charges(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    query = (
        select(charges.c.event_id, charges.c.charge_nusd, charges.c.charge_nusd * 0)
        .outerjoin(transactions, transactions.c.seq == charges.c.txn_seq)
        .where(charges.c.charge_nusd != 0, transactions.c.seq.is_(None))
        .order_by(charges.c.event_id)
        .limit(count_max)
    )
    return unequal(connection, "usage", query)


def _wrong_refunds(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    """Find refunds of more than was paid, of nothing, or without a transaction."""
    paid = func.coalesce(charges.c.charged_nusd, 0)
    is_unposted = transactions.c.seq.is_(None) & (refunds.c.refunded_nusd != 0)
    query = (
        select(refunds.c.event_id, paid, refunds.c.refunded_nusd)
        .outerjoin(charges, charges.c.event_id == refunds.c.event_id)
        .outerjoin(transactions, transactions.c.seq == refunds.c.txn_seq)
        .where(or_(refunds.c.refunded_nusd > paid, is_unposted))
        .order_by(refunds.c.event_id)
        .limit(count_max)
    )
    return unequal(connection, "usage", query)


def _overdrawn(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    name, stored = balances.c.ledger_account, balances.c.balance_nusd
    is_spendable = or_(name.like("customer:%:available"), name.like("customer:%:held"))
    is_wrong = case((is_spendable, stored < 0), (name.like("customer:%:debt"), stored > 0))
    query = select(name, stored * 0, stored).where(is_wrong).order_by(name).limit(count_max)
    return unequal(connection, "constraint", query)


def _wrong_caps(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    return [Discrepancy("cap", *row) for row in wrong_use(connection, count_max=count_max)]


def _unposted_payouts(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    return unequal(connection, "payout", unposted_payouts(count_max))


def _wrong_marks(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    return unequal(connection, "promo", wrong_marks(count_max))


def _below_nothing(connection: Connection, *, count_max: int) -> list[Discrepancy]:
    return unequal(connection, "constraint", below_nothing(count_max))


def _totals(connection: Connection) -> Totals:
    charged, written_off = connection.execute(
        select(func.sum(charges.c.charged_nusd), func.sum(charges.c.writeoff_nusd))
    ).one()
    given_back = connection.execute(select(func.sum(refunds.c.refunded_nusd))).scalar()
    name, total = balances.c.ledger_account, select(func.sum(balances.c.balance_nusd))
    held = total.where(name.like("customer:%:held"))
    debt, owed = total.where(name.like(ledger.DEBTS)), total.where(IS_OWED)
    return Totals(
        charged_nusd=int(charged or 0),
        writeoff_nusd=int(written_off or 0),
        refunded_nusd=int(given_back or 0),
        open_lease_count=_count(connection, select(leases).where(leases.c.state == OPEN)),
        open_hold_count=_count(connection, select(holds)),
        held_nusd=int(connection.execute(held).scalar() or 0),
        debt_nusd=-int(connection.execute(debt).scalar() or 0),
        owed_nusd=int(connection.execute(owed).scalar() or 0),
    )


def _grouped(
    connection: Connection, query: Select[Any], bounds: tuple[int, int]
) -> dict[int, list[Row]]:
    of = query.selected_columns["txn_seq"]
    rows: defaultdict[int, list[Row]] = defaultdict(list)
    for row in _rows(connection, query.where(of.between(*bounds)), {}):
        rows[row["txn_seq"]].append(row)
    return rows


def _draft(row: Row, lines: Sequence[Row]) -> Draft:
    postings = tuple(Posting(line["ledger_account"], line["amount_nusd"]) for line in lines)
    return Draft(row["kind"], row["reference"], row["unix_ms"], postings, row["detail_hash"])


def _rows(connection: Connection, query: Select[Any], where: Mapping[str, object]) -> Sequence[Row]:
    return [row._asdict() for row in connection.execute(query, where)]


def _count(connection: Connection, query: Select[Any]) -> int:
    return int(connection.execute(select(func.count()).select_from(query.subquery())).scalar_one())


_CHECKS: Final[tuple[Check, ...]] = (
    _wrong_balances,
    _wrong_charged,
    _wrong_leases,
    _unposted_charges,
    _wrong_refunds,
    _overdrawn,
    _wrong_caps,
    _below_nothing,
    _unposted_payouts,
    _wrong_marks,
    *CHANNEL_CHECKS,
)
