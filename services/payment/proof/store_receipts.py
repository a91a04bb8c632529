"""Statements that write receipts, in the settlement's own transaction."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, select

from kit.db_statements import KeyedStatement
from services.payment.batch import Charge, Plan, Refund
from services.payment.ledger import Draft
from services.payment.proof.receipts import (
    Head,
    Receipt,
    charge_receipt,
    covered,
    refund_receipt,
)
from services.payment.proof.tables import receipt_heads, receipts
from services.payment.store_tables import insert, upsert

_HEADS: Final = KeyedStatement(select(receipt_heads), receipt_heads.c.account_id)
_RECEIPTS: Final = insert(receipts)
_KEEP_HEADS: Final = upsert(receipt_heads)


class ReceiptBook:
    """The receipts of one plan: made as its drafts are posted, then written all at once."""

    def __init__(self, connection: Connection, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan
        account_ids = sorted({charges[0].account_id for _, charges in plan.posted})
        self._heads = dict.fromkeys(account_ids, Head())
        for account_id, *head in _HEADS.rows(connection, account_ids):
            self._heads[account_id] = Head(*head)
        self._made: list[Receipt] = []
        self._rows: list[tuple[object, ...]] = []

    def charged(self, draft: Draft, charges: Sequence[Charge]) -> Draft:
        """Make the receipts of charges and return their draft, which covers them."""
        outcomes, posted_ms = self._plan.outcomes, draft.unix_ms
        head = self._heads[charges[0].account_id]
        for charge in charges:
            made = charge_receipt(charge, outcomes[charge.event_id], head, posted_ms)
            head = Head(made.receipt_seq, made.hash)
            self._made.append(made)
        self._heads[charges[0].account_id] = head
        return self._covering(draft)

    def refunded(self, draft: Draft, given_back: Sequence[Refund]) -> Draft:
        """Make the receipts of refunds and return their draft, which covers them."""
        for refund in given_back:
            head = self._heads[refund.account_id]
            made = refund_receipt(refund, self._plan.outcomes[refund.event_id], head)
            self._heads[refund.account_id] = Head(made.receipt_seq, made.hash)
            self._made.append(made)
        return self._covering(draft)

    def place(self, txn_seq: int) -> None:
        """Say which transaction the receipts that were made last belong to."""
        self._rows += [
            (txn_seq, made.receipt_seq, made.kind, made.event_id, made.account_id, made.body,
             made.hash)
            for made in self._made
        ]  # fmt: skip
        self._made = []

    def write(self) -> None:
        """Write the receipts."""
        _RECEIPTS.run_all(self._connection, self._rows)
        heads = [(account_id, *head) for account_id, head in self._heads.items()]
        _KEEP_HEADS.run_all(self._connection, heads)

    def _covering(self, draft: Draft) -> Draft:
        digests = [made.digest for made in self._made]
        return replace(draft, detail_hash=covered(draft.detail_hash, digests))
