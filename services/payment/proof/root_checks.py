"""Kept roots against the ledger: every row that a root covers is as it was when it was signed.

A kept line tells the hash of each transaction it covers, so each is judged by itself, on the hash
of the one before that was kept: where somebody changed one and computed all later hashes anew, the
one that was changed is named and those behind it are not.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.payment.ledger import (
    Kind,
    charge_fields,
    charges_hash,
    refund_fields,
    transaction_hash,
)
from services.payment.proof.merkle import Tree
from services.payment.proof.receipt_checks import RECEIPT, subject_of, unmatched
from services.payment.proof.receipts import covered, digest_of, mark
from services.payment.proof.roots import BATCH, Detail, Root, details_hash, read_line
from services.payment.proof.signing import Keyring
from services.payment.proof.store import ProofStore
from services.payment.store_tables import Row
from services.payment.store_verify import Posted, Snapshot

ROOT: Final = "root"
TRANSACTION: Final = "transaction"


class Finding(NamedTuple):
    """What does not fit: the kind of row, which one, and a sentence."""

    check: str
    subject: str
    detail: str


class Trail(NamedTuple):
    """What the next line has to follow: hashes are hex, `last_seq` and `ledger_hash` a batch's.

    `is_rewritten`, 0 or 1, tells that a row was named, so that all later hashes are others.
    """

    number: int = 0
    hash: str = bytes(32).hex()
    last_seq: int = 0
    ledger_hash: str = bytes(32).hex()
    is_rewritten: int = 0


@dataclass(slots=True)
class Report:
    """What lines led to; `findings` are the first `findings_max`."""

    trail: Trail
    findings_max: int
    findings: list[Finding] = field(default_factory=list)
    root_count: int = 0
    transaction_count: int = 0
    receipt_count: int = 0

    def add(self, check: str, subject: str, detail: str) -> None:
        """Keep a finding while there is room."""
        if len(self.findings) < self.findings_max:
            self.findings.append(Finding(check, subject, detail))


class RootChecker:
    """Compares lines, in order, with the ledger."""

    def __init__(self, store: ProofStore, keys: Keyring, *, page_max: int) -> None:
        self._store = store
        self._keys = keys
        self._page_max = page_max

    async def check(self, line: str, report: Report) -> None:
        """Compare one line and move the report's trail behind it.

        Raises:
            TurnpikeError: LEDGER_UNAVAILABLE.
        """
        report.root_count += 1
        try:
            root, details = read_line(line)
        except (ValueError, RecursionError) as error:
            subject = str(report.trail.number + 1)
            report.add(ROOT, subject, f"The line behind root {report.trail.number}: {error}")
            return
        before = len(report.findings)
        for detail in [*_line_flaws(root, details, report.trail), root.flaw(self._keys)]:
            if detail:
                report.add(ROOT, str(root.number), detail)
        found = await self._store.roots(after=root.number - 1, count_max=1)
        if not found or found[0] != root:
            report.add(ROOT, str(root.number), "The ledger's own copy is missing or another one.")
        if root.fields["kind"] == BATCH:
            await self._check_batch(root, details, report)
            trail = (root.span[1], root.fields["ledger_hash"])
        else:
            await self._check_day(root, report)
            trail = report.trail[2:4]
        is_rewritten = report.trail.is_rewritten or before < len(report.findings)
        report.trail = Trail(root.number, root.hash.hex(), *trail, int(is_rewritten))

    async def _check_batch(self, root: Root, details: Sequence[Detail], report: Report) -> None:
        tree, before = Tree(), len(report.findings)
        is_rewritten = bool(report.trail.is_rewritten)
        previous = bytes.fromhex(root.fields["ledger_hash_before"])
        async with self._store.snapshot() as snapshot:
            stored = _stored(snapshot, root, self._page_max)
            posted = await anext(stored, None)
            for detail in details:
                while posted is not None and posted.seq < detail.seq:
                    report.add(TRANSACTION, str(posted.seq), "No kept root tells of it.")
                    posted = await anext(stored, None)
                match = posted if posted is not None and posted.seq == detail.seq else None
                for finding in _differences(match, detail, previous, is_rewritten=is_rewritten):
                    report.add(*finding)
                    is_rewritten = True
                if match is not None:
                    for receipt in match.receipt_rows:
                        tree.add(receipt["hash"])
                    posted = await anext(stored, None)
                report.transaction_count += 1
                report.receipt_count += len(detail.marks)
                previous = detail.hash
        if not is_rewritten and before == len(report.findings) and not _is_tree(tree, root):
            detail_text = "The tree over the receipts' hashes is not the one that was signed."
            report.add(ROOT, str(root.number), detail_text)

    async def _check_day(self, root: Root, report: Report) -> None:
        tree, after = Tree(), 0
        day = int(root.fields["day"])
        while page := await self._store.batches_of(day, after=after, count_max=self._page_max):
            for batch in page:
                tree.add(batch["hash"])
            after = page[-1]["number"]
        if not _is_tree(tree, root):
            detail = "The tree over the day's roots is not the one that was signed."
            report.add(ROOT, str(root.number), detail)


def _line_flaws(root: Root, details: Sequence[Detail], trail: Trail) -> Iterator[str]:
    if root.number != trail.number + 1:
        yield f"Expected root {trail.number + 1} here."
    elif root.fields["previous"] != trail.hash:
        yield "It does not follow the root before."
    if details_hash(details) != root.fields["details"]:
        yield "Its transactions are not those that were signed."
    if root.fields["kind"] != BATCH:
        return
    first, last = root.span
    if [detail.seq for detail in details] != list(range(first, last + 1)):
        yield f"Its transactions are not {first} to {last}."
    if (first - 1, root.fields["ledger_hash_before"]) != (trail.last_seq, trail.ledger_hash):
        yield f"It does not go on behind transaction {trail.last_seq}."


async def _stored(snapshot: Snapshot, root: Root, page_max: int) -> AsyncIterator[Posted]:
    first, last = root.span
    after = first - 1
    while after < last:
        page = await snapshot.posted(after=after, count_max=min(page_max, last - after))
        if not page:
            return
        for posted in page:
            if posted.seq > last:
                return
            yield posted
        after = page[-1].seq


def _differences(
    posted: Posted | None, detail: Detail, previous: bytes, *, is_rewritten: bool
) -> Iterator[Finding]:
    """Yield what of a transaction and the rows beside it is not as it was signed.

    Where something before it was, its own hash is expected to be another one.
    """
    if posted is None:
        yield Finding(TRANSACTION, str(detail.seq), "It is missing.")
        for place, _ in _places(detail):
            yield Finding(RECEIPT, f"{detail.account_id}:{place}", "Its transaction is missing.")
        return
    if transaction_hash(previous, posted.seq, posted.draft) != detail.hash:
        text = "The transaction or its entries are not those that were signed."
        yield Finding(TRANSACTION, str(posted.seq), text)
    elif posted.hash != detail.hash and not is_rewritten:
        text = "Its stored hash is not the one that was signed."
        yield Finding(TRANSACTION, str(posted.seq), text)
    elif _detail_hash(posted) != posted.draft.detail_hash:
        text = "The rows beside it are not those that were signed."
        yield Finding(TRANSACTION, str(posted.seq), text)
    yield from _receipt_differences(posted, detail)
    for found in unmatched(posted):
        yield Finding(*found)


def _receipt_differences(posted: Posted, detail: Detail) -> Iterator[Finding]:
    stored = {(row["account_id"], row["receipt_seq"]): row for row in posted.receipt_rows}
    for place, signed in _places(detail):
        row = stored.pop((detail.account_id, place), None)
        subject = f"{detail.account_id}:{place}"
        if row is None:
            yield Finding(RECEIPT, subject, f"It is missing from transaction {detail.seq}.")
        elif mark(row["body"]).hex() != signed:
            yield Finding(RECEIPT, subject, "It is not the one that was signed.")
    for extra in stored.values():
        text = f"It was not there when transaction {detail.seq} was signed."
        yield Finding(RECEIPT, subject_of(extra), text)


def _places(detail: Detail) -> Iterator[tuple[int, str]]:
    return enumerate(detail.marks, detail.first)


def _detail_hash(posted: Posted) -> bytes:
    if posted.draft.kind not in (Kind.SETTLEMENT, Kind.REFUND):
        return posted.draft.detail_hash
    is_charge = posted.draft.kind == Kind.SETTLEMENT
    rows: Sequence[Row] = posted.charge_rows if is_charge else posted.refund_rows
    fields = charge_fields if is_charge else refund_fields
    digests = [digest_of(each["body"]) for each in posted.receipt_rows]
    return covered(charges_hash(map(fields, rows)), digests)


def _is_tree(tree: Tree, root: Root) -> bool:
    return (str(tree.size), tree.root().hex()) == (root.fields["leaf_count"], root.fields["root"])
