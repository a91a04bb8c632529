"""What verification recomputes of earnings and payouts; pure, over rows as they are stored."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from services.payment.ledger import Draft, Kind, Posting, balanced
from services.payment.suppliers.earnings import (
    HASHED_COUNT,
    Earning,
    earnings_hash,
    earnings_postings,
    owed_nusd,
    payee_account,
    payouts,
)

_EARNED: Final = Earning._fields[:HASHED_COUNT]
_HASHED: Final = ("payout_id", "payee_id", "amount_nusd", "rail", "reference")


def earning_flaws(draft: Draft, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what a transaction and the earnings that name it do not have in common."""
    if draft.kind != Kind.EARNING:
        if rows:
            yield "Earnings name a transaction that owes nothing to others."
        return
    expected = {line.ledger_account: line.amount_nusd for line in draft.postings}
    found = _owed(rows)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name, 0) != found.get(name, 0):
            amounts = f"{expected.get(name, 0)} nUSD for {name}, found {found.get(name, 0)}"
            yield f"Expected earnings of {amounts}."
    hashed = (tuple(row[name] for name in _EARNED) for row in rows)
    if earnings_hash(hashed) != draft.detail_hash:
        yield "The earnings are not those that were posted."


def earning_flaw(row: Mapping[str, Any]) -> str | None:
    """Return why an earning does not follow from its charge, None when it does.

    Beside its own columns a row has `charged_nusd`, None without a charge, `refund_nusd` and
    `refunded_nusd` of its refund, and `posted_kind`, that of its transaction or None.
    """
    if row["charged_nusd"] is None:
        return "There is no charge for this earning."
    paid_nusd = row["charged_nusd"] - row["refunded_nusd"]
    if paid_nusd != row["paid_nusd"]:
        return f"Expected {paid_nusd} nUSD paid, found {row['paid_nusd']}."
    owed = owed_nusd(
        paid_nusd=paid_nusd,
        cost_nusd=row["cost_nusd"],
        fee_bps=row["fee_bps"],
        is_refused_supply=row["refund_nusd"] > 0 and bool(row["supplier_id"]),
    )
    if owed != row["owed_nusd"]:
        return f"Expected {owed} nUSD owed, found {row['owed_nusd']}."
    if owed and row["posted_kind"] != Kind.EARNING:
        return f"{owed} nUSD are owed and were not posted."
    return None


def payout_postings(payee_id: str, rail: str, amount_nusd: int) -> tuple[Posting, ...]:
    """Return the postings of a payout.

    Raises:
        ValueError: The payee is none.
    """
    account = payee_account(payee_id)
    if account is None:
        raise ValueError(f"{payee_id} is no payee.")
    return balanced(Posting(account, -amount_nusd), Posting(payouts(rail), amount_nusd))


def payout_hash(row: Mapping[str, Any]) -> bytes:
    """Return the hash over a payout, which its transaction covers."""
    parts = [str(row[name]).encode() for name in _HASHED]
    return hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).digest()


def payout_flaws(draft: Draft, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what a transaction and the payouts that name it do not have in common."""
    if draft.kind != Kind.PAYOUT:
        if rows:
            yield "A payout names a transaction that pays nobody."
        return
    if len(rows) != 1:
        yield f"Expected one payout, found {len(rows)}."
        return
    (row,) = rows
    if payee_account(row["payee_id"]) is None or draft.postings != payout_postings(
        row["payee_id"], row["rail"], row["amount_nusd"]
    ):
        yield "The postings are not those of the payout."
    if payout_hash(row) != draft.detail_hash:
        yield "The payout is not the one that was posted."


def _owed(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found = (Earning(**{name: row[name] for name in Earning._fields}) for row in rows)
    return {line.ledger_account: line.amount_nusd for line in earnings_postings(found)}
