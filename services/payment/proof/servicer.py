"""The border of receipts, roots and quotes: checks what was asked and translates."""

import asyncio
from collections.abc import Sequence
from typing import Final, TypeAlias

import grpc
from google.protobuf.message import Message

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.ids import Uuid7Source
from services.payment.batch import AMOUNT_NUSD_MAX, ID_LENGTH_MAX, outcome_id
from services.payment.ledger import ACCOUNT_ID_LENGTH_MAX
from services.payment.proof.bill import root_line
from services.payment.proof.proofs import Prover
from services.payment.proof.quotes import Quote, read_quote, sign_quote
from services.payment.proof.root_checks import Report, RootChecker, Trail
from services.payment.proof.roots import LINE_BYTES_MAX
from services.payment.proof.roots_file import RootsFile
from services.payment.proof.settings import ProofSettings
from services.payment.proof.signing import Keyring, Signer, public_key_of
from services.payment.proof.store import ProofStore
from turnpike.payment.v1 import receipts_pb2 as pb
from turnpike.payment.v1.receipts_pb2_grpc import ReceiptServiceServicer
from turnpike.type.v1 import usage_pb2

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]

FINDINGS_MAX: Final = 1_000
LINES_MAX: Final = 64
KEYS_MAX: Final = 16
_OWN_LINES_MAX: Final = 16
_PAGE_DEFAULT: Final = 100
_RECEIPTS_MAX: Final = 200
_ROOTS_MAX: Final = 1_000


class ReceiptServicer(ReceiptServiceServicer):
    """Serves `turnpike.payment.v1.ReceiptService`; without a signer nothing is signed."""

    def __init__(
        self,
        store: ProofStore,
        *,
        signer: Signer | None,
        file: RootsFile,
        clock: Clock,
        settings: ProofSettings,
    ) -> None:
        self._store = store
        self._prover = Prover(store)
        self._signer = signer
        self._file = file
        self._clock = clock
        self._settings = settings
        self._ids = Uuid7Source()

    async def GetReceipt(
        self, request: pb.GetReceiptRequest, context: Context
    ) -> pb.GetReceiptResponse:
        account_id = _text(request.account_id, "account_id", ACCOUNT_ID_LENGTH_MAX)
        request_id = _text(request.request_id, "request_id", ID_LENGTH_MAX)
        rows = await self._store.receipts_about(account_id, outcome_id(request_id))
        if not rows:
            raise TurnpikeError(
                Reason.NOT_FOUND,
                "The account has no receipt of this request; one that cost nothing has none.",
                param="request_id",
            )
        proven = await self._prover.prove(rows)
        return pb.GetReceiptResponse(receipts=proven.receipts, roots=proven.roots)

    async def ListReceipts(
        self, request: pb.ListReceiptsRequest, context: Context
    ) -> pb.ListReceiptsResponse:
        account_id = _text(request.account_id, "account_id", ACCOUNT_ID_LENGTH_MAX)
        size = _page_size(request.page_size, _RECEIPTS_MAX)
        after = _place(request.page_token)
        rows = await self._store.receipts_of(account_id, after=after, count_max=size)
        proven = await self._prover.prove(rows)
        return pb.ListReceiptsResponse(
            receipts=proven.receipts,
            roots=proven.roots,
            next_page_token=str(rows[-1]["receipt_seq"]) if len(rows) == size else "",
        )

    async def ListRoots(
        self, request: pb.ListRootsRequest, context: Context
    ) -> pb.ListRootsResponse:
        size = _page_size(request.page_size, _ROOTS_MAX)
        found = await self._store.roots(after=_place(request.page_token), count_max=size)
        return pb.ListRootsResponse(
            roots=map(root_line, found),
            next_page_token=str(found[-1].number) if len(found) == size else "",
        )

    async def VerifyRoots(
        self, request: pb.VerifyRootsRequest, context: Context
    ) -> pb.VerifyRootsResponse:
        if len(request.lines) > LINES_MAX:
            raise _invalid("lines", f"has {len(request.lines)} entries; {LINES_MAX} are allowed")
        offset, trail = _trail(request.page_token)
        report = Report(trail, FINDINGS_MAX)
        checker = RootChecker(
            self._store, self._keys(request.public_keys), page_max=self._settings.read_max
        )
        lines, is_own = list(request.lines), not request.lines
        if is_own:
            lines, offset = await asyncio.to_thread(
                self._file.read,
                offset=offset,
                count_max=_OWN_LINES_MAX,
                line_bytes_max=LINE_BYTES_MAX,
            )
        for line in lines:
            await checker.check(line, report)
        return pb.VerifyRootsResponse(
            findings=[pb.RootFinding(**finding._asdict()) for finding in report.findings],
            root_count=report.root_count,
            transaction_count=report.transaction_count,
            receipt_count=report.receipt_count,
            page_token=":".join(map(str, (offset, *report.trail))),
            has_more=is_own and len(lines) == _OWN_LINES_MAX,
        )

    async def GetPublicKey(
        self, request: pb.GetPublicKeyRequest, context: Context
    ) -> pb.GetPublicKeyResponse:
        if self._signer is None:
            return pb.GetPublicKeyResponse()
        return pb.GetPublicKeyResponse(
            public_key=self._signer.public_key, key_id=self._signer.key_id
        )

    async def SignQuote(
        self, request: pb.SignQuoteRequest, context: Context
    ) -> pb.SignQuoteResponse:
        if self._signer is None:
            raise TurnpikeError(Reason.UNAVAILABLE, "Quotes are off: there is no signing key.")
        now_ms, price = self._clock.unix_ms(), request.price
        quote = Quote(
            name=f"quote-{self._ids.new(now_ms)}",
            account_id=_text(request.account_id, "account_id", ACCOUNT_ID_LENGTH_MAX),
            model_id=_text(request.model_id, "model_id", ID_LENGTH_MAX),
            expires_unix_ms=now_ms + round(self._settings.quote_s * 1000),
            key_id=self._signer.key_id,
            input_pusd_per_token=_figure(price.input_pusd_per_token, "input_pusd_per_token"),
            output_pusd_per_token=_figure(price.output_pusd_per_token, "output_pusd_per_token"),
            request_pusd=_figure(price.request_pusd, "request_pusd"),
            unit_pusd=_figure(price.unit_pusd, "unit_pusd"),
            unit=price.unit,
        )
        answer = pb.SignQuoteResponse(quote_id=sign_quote(quote, self._signer))
        answer.expire_time.FromMilliseconds(quote.expires_unix_ms)
        return answer

    async def ReadQuote(
        self, request: pb.ReadQuoteRequest, context: Context
    ) -> pb.ReadQuoteResponse:
        quote = read_quote(
            request.quote_id,
            self._keys(()),
            account_id=request.account_id,
            model_id=request.model_id,
            now_ms=self._clock.unix_ms(),
        )
        price = usage_pb2.Price(
            price_id=quote.name,
            input_pusd_per_token=quote.input_pusd_per_token,
            output_pusd_per_token=quote.output_pusd_per_token,
            request_pusd=quote.request_pusd,
            unit_pusd=quote.unit_pusd,
            unit=quote.unit,
        )
        answer = pb.ReadQuoteResponse(price=price)
        answer.expire_time.FromMilliseconds(quote.expires_unix_ms)
        return answer

    def _keys(self, more: Sequence[str]) -> Keyring:
        if len(more) > KEYS_MAX:
            raise _invalid("public_keys", f"has {len(more)} entries; {KEYS_MAX} are allowed")
        own = [] if self._signer is None else [self._signer.public_key]
        try:
            return Keyring(public_key_of(key) for key in (*own, *more))
        except ValueError as error:
            raise _invalid("public_keys", "must be Ed25519 keys of 64 hex digits") from error


def _text(value: str, name: str, length_max: int) -> str:
    if not value:
        raise TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    if len(value) > length_max or not value.isprintable():
        raise _invalid(name, f"must be printable and at most {length_max} characters long")
    return value


def _figure(value: int, name: str) -> int:
    if not 0 <= value <= AMOUNT_NUSD_MAX:
        raise _invalid(f"price.{name}", f"is {value}; 0 to {AMOUNT_NUSD_MAX} is allowed")
    return value


def _page_size(value: int, size_max: int) -> int:
    if not 0 <= value <= size_max:
        raise _invalid("page_size", f"is {value}; 1 to {size_max} is allowed")
    return value or _PAGE_DEFAULT


def _place(token: str) -> int:
    if token and not (token.isascii() and token.isdigit() and len(token) < 19):
        raise _invalid("page_token", "is not one that was given out")
    return int(token or 0)


def _trail(token: str) -> tuple[int, Trail]:
    if not token:
        return 0, Trail()
    try:
        offset, number, digest, last_seq, ledger_hash, is_rewritten = token.split(":")
        trail = Trail(int(number), digest, int(last_seq), ledger_hash, int(is_rewritten))
        return int(offset), trail
    except ValueError as error:
        raise _invalid("page_token", "is not one that was given out") from error


def _invalid(name: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} {what}.", param=name)
