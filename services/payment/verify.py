"""The proof of the books: recomputes every chain and sum and compares charges with metering.

It reads one snapshot in pages, so that memory does not grow with the ledger.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from kit.errors import Reason, TurnpikeError
from services.payment.ledger import (
    GENESIS_HASH,
    REVENUE,
    WRITEOFF,
    Kind,
    account_hash,
    charge_fields,
    charges_hash,
    is_refund,
    refund_fields,
    transaction_hash,
)
from services.payment.proof.receipt_checks import broken_receipts, unmatched
from services.payment.proof.receipts import covered, digest_of
from services.payment.settings import PaymentSettings
from services.payment.settlement import USAGE
from services.payment.store import PaymentStore
from services.payment.store_verify import Posted, Snapshot
from services.payment.suppliers.proof import earning_flaw, earning_flaws, payout_flaws
from turnpike.metering.v1 import metering_pb2
from turnpike.payment.v1 import payment_pb2 as pb

if TYPE_CHECKING:
    from turnpike.metering.v1.metering_pb2_grpc import MeteringServiceAsyncStub

_ABSENT: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class _Charge:
    """A charge as one side has it; `_ABSENT` sorts after every event id and ends a merge."""

    event_id: str
    account_id: str
    charge_nusd: int
    refund_nusd: int


class Verifier:
    """Proves one state of the books; `verify` may run beside normal work."""

    def __init__(
        self,
        store: PaymentStore,
        metering: "MeteringServiceAsyncStub",
        *,
        settings: PaymentSettings,
    ) -> None:
        self._store = store
        self._metering = metering
        self._page_max = settings.verify_page_max
        self._findings_max = settings.findings_max
        self._metering_s = settings.metering_s

    async def verify(self) -> pb.VerifyLedgerResponse:
        """Return what does not add up, and the sums.

        Raises:
            TurnpikeError: UNAVAILABLE, metering did not answer; LEDGER_UNAVAILABLE.
        """
        answer = pb.VerifyLedgerResponse()
        async with self._store.snapshot() as snapshot:
            await self._check_transactions(snapshot, answer)
            await self._check_account_chains(snapshot, answer)
            async for subject, detail in broken_receipts(snapshot, page_max=self._page_max):
                self._report(answer, "receipt", subject, detail)
            await self._check_earnings(snapshot, answer)
            for found in await snapshot.discrepancies(count_max=self._findings_max):
                detail = f"Expected {found.expected} nUSD, found {found.found}."
                self._report(answer, found.check, found.subject, detail)
            await self._check_usage(snapshot, answer)
            totals = await snapshot.totals()
        answer.charged_nusd = totals.charged_nusd
        answer.writeoff_nusd = totals.writeoff_nusd
        answer.refunded_nusd = totals.refunded_nusd
        answer.open_lease_count = totals.open_lease_count
        answer.open_hold_count = totals.open_hold_count
        answer.held_nusd = totals.held_nusd
        answer.debt_nusd = totals.debt_nusd
        answer.owed_nusd = totals.owed_nusd
        answer.is_clean = not answer.findings
        return answer

    async def _check_transactions(
        self, snapshot: Snapshot, answer: pb.VerifyLedgerResponse
    ) -> None:
        seq, chained = 0, GENESIS_HASH
        while page := await snapshot.posted(after=seq, count_max=self._page_max):
            for posted in page:
                for check, detail in _flaws(posted, seq, chained):
                    self._report(answer, check, str(posted.seq), detail)
                for check, subject, detail in unmatched(posted):
                    self._report(answer, check, subject, detail)
                seq, chained = posted.seq, posted.hash
            answer.transaction_count += len(page)
        if await snapshot.head() != (seq, chained):
            detail = "The head is not the last transaction; later ones are missing."
            self._report(answer, "chain", str(seq), detail)

    async def _check_account_chains(
        self, snapshot: Snapshot, answer: pb.VerifyLedgerResponse
    ) -> None:
        account_id, seq, chained = "", 0, GENESIS_HASH
        while page := await snapshot.links(after=(account_id, seq), count_max=self._page_max):
            for link in page:
                if link["account_id"] != account_id:
                    account_id, seq, chained = link["account_id"], 0, GENESIS_HASH
                if not _is_link(link, seq, chained):
                    subject = f"{account_id}:{link['account_seq']}"
                    self._report(answer, "chain", subject, "The account's chain is broken here.")
                seq, chained = link["account_seq"], link["hash"]

    async def _check_earnings(self, snapshot: Snapshot, answer: pb.VerifyLedgerResponse) -> None:
        after = ""
        while page := await snapshot.earnings(after=after, count_max=self._page_max):
            for row in page:
                if (flaw := earning_flaw(row)) is not None:
                    self._report(answer, "earning", row["event_id"], flaw)
            after = page[-1]["event_id"]
            answer.earning_count += len(page)

    async def _check_usage(self, snapshot: Snapshot, answer: pb.VerifyLedgerResponse) -> None:
        applied = await snapshot.applied_seq(USAGE)
        if not applied:
            return
        first = await self._list_charges(applied, "")
        bound = min(applied, first.applied_stream_seq)
        answer.compared_stream_seq = bound
        theirs = self._recorded(first, bound)
        ours = self._charged(snapshot, bound)
        end = _Charge(_ABSENT, "", 0, 0)
        mine, other = await anext(ours, end), await anext(theirs, end)
        while mine is not end or other is not end:
            event_id = min(mine.event_id, other.event_id)
            detail = _difference(mine, other)
            if detail is not None:
                self._report(answer, "usage", event_id, detail)
            if mine.event_id == event_id:
                mine = await anext(ours, end)
                answer.charge_count += 1
            if other.event_id == event_id:
                other = await anext(theirs, end)

    async def _charged(self, snapshot: Snapshot, bound: int) -> AsyncIterator[_Charge]:
        after = ""
        while page := await snapshot.charges(
            after=after, stream_seq_max=bound, count_max=self._page_max
        ):
            for row in page:
                yield _Charge(**row)
            after = page[-1]["event_id"]

    async def _recorded(
        self, page: metering_pb2.ListChargesResponse, bound: int
    ) -> AsyncIterator[_Charge]:
        while True:
            for row in page.charges:
                if row.charge_nusd and row.stream_seq <= bound:
                    yield _Charge(row.event_id, row.account_id, row.charge_nusd, row.refund_nusd)
            if not page.next_page_token:
                return
            page = await self._list_charges(bound, page.next_page_token)

    async def _list_charges(self, bound: int, token: str) -> metering_pb2.ListChargesResponse:
        request = metering_pb2.ListChargesRequest(
            stream_seq_max=bound, page_size=self._page_max, page_token=token
        )
        try:
            return await self._metering.ListCharges(request, timeout=self._metering_s)
        except grpc.aio.AioRpcError as error:
            raise TurnpikeError(
                Reason.UNAVAILABLE, "Metering does not answer; charges cannot be compared."
            ) from error

    def _report(
        self, answer: pb.VerifyLedgerResponse, check: str, subject: str, detail: str
    ) -> None:
        if len(answer.findings) < self._findings_max:
            answer.findings.add(check=check, subject=subject, detail=detail)


def _flaws(posted: Posted, previous_seq: int, previous: bytes) -> Iterator[tuple[str, str]]:
    draft = posted.draft
    if posted.seq != previous_seq + 1:
        yield "chain", f"Expected transaction {previous_seq + 1}, found {posted.seq}."
    total = sum(line.amount_nusd for line in draft.postings)
    if total or not draft.postings:
        yield "zero_sum", f"Expected a sum of 0 nUSD, found {total}."
    if posted.hash != transaction_hash(previous, posted.seq, draft):
        yield "chain", "The hash does not follow from the transaction and the one before."
    if posted.chained_accounts != draft.customers():
        yield "chain", "The accounts' chains do not hold this transaction."
    yield from _charge_flaws(posted)
    yield from _refund_flaws(posted)
    yield from (("earning", flaw) for flaw in earning_flaws(draft, posted.earning_rows))
    yield from (("payout", flaw) for flaw in payout_flaws(draft, posted.payout_rows))


def _charge_flaws(posted: Posted) -> Iterator[tuple[str, str]]:
    if posted.draft.kind != Kind.SETTLEMENT:
        if posted.charge_rows:
            yield "usage", "Charges name a transaction that settles nothing."
        return
    amounts = {line.ledger_account: line.amount_nusd for line in posted.draft.postings}
    charged = sum(row["charge_nusd"] for row in posted.charge_rows)
    written_off = sum(row["writeoff_nusd"] for row in posted.charge_rows)
    if charged != amounts.get(REVENUE, 0):
        yield "usage", f"Expected charges of {amounts.get(REVENUE, 0)} nUSD, found {charged}."
    if written_off != -amounts.get(WRITEOFF, 0):
        expected = -amounts.get(WRITEOFF, 0)
        yield "usage", f"Expected write-offs of {expected} nUSD, found {written_off}."
    if _detail_hash(map(charge_fields, posted.charge_rows), posted) != posted.draft.detail_hash:
        yield "usage", "The charges are not those that were posted."


def _refund_flaws(posted: Posted) -> Iterator[tuple[str, str]]:
    if posted.draft.kind != Kind.REFUND:
        if posted.refund_rows:
            yield "usage", "Refunds name a transaction that gives nothing back."
        return
    lines = posted.draft.postings
    expected = -sum(line.amount_nusd for line in lines if is_refund(line.ledger_account))
    found = sum(row["refunded_nusd"] for row in posted.refund_rows)
    if found != expected:
        yield "usage", f"Expected refunds of {expected} nUSD, found {found}."
    if _detail_hash(map(refund_fields, posted.refund_rows), posted) != posted.draft.detail_hash:
        yield "usage", "The refunds are not those that were posted."


def _detail_hash(rows: Iterable[tuple[str, int, int, int]], posted: Posted) -> bytes:
    return covered(charges_hash(rows), [digest_of(each["body"]) for each in posted.receipt_rows])


def _is_link(link: Mapping[str, Any], previous_seq: int, previous: bytes) -> bool:
    of_transaction = link["of_transaction"] or b""
    expected = account_hash(previous, link["account_seq"], of_transaction)
    return (link["account_seq"], link["hash"]) == (previous_seq + 1, expected)


def _difference(mine: _Charge, other: _Charge) -> str | None:
    if mine == other:
        return None
    if mine.event_id < other.event_id:
        return f"Charged {mine.charge_nusd} nUSD; metering has no such charge."
    if mine.event_id > other.event_id:
        return f"Metering has {other.charge_nusd} nUSD; the ledger has no such charge."
    return (
        f"Charged {mine.charge_nusd} nUSD to {mine.account_id} and gave back {mine.refund_nusd}; "
        f"metering has {other.charge_nusd} nUSD for {other.account_id} and {other.refund_nusd}."
    )
