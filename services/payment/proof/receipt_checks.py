"""Receipts against what they are about: their chain, their charges, and what follows from them.

A finding's subject is `<account>:<place>` for a receipt, and the event id for a charge or a refund.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from services.payment.ledger import GENESIS_HASH
from services.payment.proof.receipts import CHARGE, REFUND, fields_of, receipt_hash
from services.payment.store_verify import Posted, Snapshot

RECEIPT = "receipt"
_AMOUNTS = ("charge_nusd", "charged_nusd", "writeoff_nusd")


async def broken_receipts(snapshot: Snapshot, *, page_max: int) -> AsyncIterator[tuple[str, str]]:
    """Yield what is wrong with the accounts' chains of receipts: subject and sentence.

    Memory grows with the number of accounts, not with the ledger.
    """
    heads = await snapshot.receipt_heads()
    account_id, seq, chained = "", 0, GENESIS_HASH
    while page := await snapshot.receipts(after=(account_id, seq), count_max=page_max):
        for row in page:
            if row["account_id"] != account_id:
                if flaw := _open_end(heads.pop(account_id, (0, GENESIS_HASH)), seq, chained):
                    yield f"{account_id}:{seq}", flaw
                account_id, seq, chained = row["account_id"], 0, GENESIS_HASH
            if flaw := _broken(row, seq, chained):
                yield subject_of(row), flaw
            seq, chained = row["receipt_seq"], row["hash"]
    if flaw := _open_end(heads.pop(account_id, (0, GENESIS_HASH)), seq, chained):
        yield f"{account_id}:{seq}", flaw
    for name, (last, _) in heads.items():
        yield f"{name}:{last}", "The account's receipts are missing."


def unmatched(posted: Posted) -> Iterator[tuple[str, str, str]]:
    """Yield what a transaction's charges and refunds do not share with their receipts.

    Each is the kind of row, its subject and a sentence.

    One from before there were receipts has none.
    """
    if not posted.receipt_rows:
        return
    rows = {(CHARGE, row["event_id"]): row for row in posted.charge_rows}
    rows |= {(REFUND, row["event_id"]): row for row in posted.refund_rows}
    for receipt in posted.receipt_rows:
        row = rows.pop((receipt["kind"], receipt["event_id"]), None)
        if row is None:
            detail = f"Its {receipt['kind']} {receipt['event_id']} is missing."
            yield RECEIPT, subject_of(receipt), detail
        elif detail := _differs(receipt, row):
            yield receipt["kind"], row["event_id"], detail
    for kind, event_id in sorted(rows):
        yield kind, event_id, f"The {kind} has no receipt."


def subject_of(row: Mapping[str, Any]) -> str:
    """Return what a finding calls a receipt."""
    return f"{row['account_id']}:{row['receipt_seq']}"


def _broken(row: Mapping[str, Any], previous_seq: int, previous: bytes) -> str:
    if row["receipt_seq"] != previous_seq + 1:
        return f"Expected receipt {previous_seq + 1} of the account, found {row['receipt_seq']}."
    if row["hash"] != receipt_hash(previous, row["body"]):
        return "The hash does not follow from the receipt and the one before."
    try:
        fields = fields_of(row["body"])
    except ValueError as error:
        return f"It cannot be read: {error}"
    place = (fields["account_id"], fields["receipt_seq"], fields["kind"])
    if place != (row["account_id"], str(row["receipt_seq"]), row["kind"]):
        return "It is filed as another receipt than it is."
    if f"{fields['request_id']}:outcome" != row["event_id"]:
        return "It is filed under another request than its own."
    return ""


def _open_end(head: tuple[int, bytes], seq: int, chained: bytes) -> str:
    if head == (seq, chained):
        return ""
    return f"The account's last receipt is {head[0]}; {seq} is the last one that is there."


def _differs(receipt: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    try:
        fields = fields_of(receipt["body"])
    except ValueError:
        return "Its receipt cannot be read."
    names = _AMOUNTS if receipt["kind"] == CHARGE else ("refunded_nusd",)
    told = {name: fields[name] for name in (*names, "account_id", "key_id")}
    stored = {name: str(row[name]) for name in told}
    if receipt["kind"] == CHARGE:
        told |= {name: fields[name] for name in ("request_id", "model_id", "deployment")}
        stored |= {name: str(row[name]) for name in ("request_id", "model_id", "deployment")}
    for name, value in told.items():
        if stored[name] != value:
            return f"{name} is {stored[name]}; its receipt says {value}."
    return ""
