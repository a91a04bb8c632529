"""The border of the payment room: checks what was asked and translates; it decides nothing."""

from typing import TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from kit.errors import Reason, TurnpikeError
from services.payment.batch import AMOUNT_NUSD_MAX, ID_LENGTH_MAX
from services.payment.leases import Leases
from services.payment.ledger import ACCOUNT_ID_LENGTH_MAX
from services.payment.promos.marks import NEVER_UNIX_MS, PROMO
from services.payment.promos.store import PromoTerms
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore
from services.payment.store_leases import LeaseTerms
from services.payment.verify import Verifier
from turnpike.payment.v1 import payment_pb2 as pb
from turnpike.payment.v1.payment_pb2_grpc import PaymentServiceServicer

_PAGE_SIZE_DEFAULT = 1_000
_PAGE_SIZE_MAX = 10_000
_SOURCES = ("manual", PROMO)

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]


class PaymentServicer(PaymentServiceServicer):
    """Serves `turnpike.payment.v1.PaymentService`."""

    def __init__(
        self,
        store: PaymentStore,
        leases: Leases,
        verifier: Verifier,
        *,
        settings: PaymentSettings,
    ) -> None:
        self._store = store
        self._leases = leases
        self._verifier = verifier
        self._settings = settings

    async def LeaseCredit(
        self, request: pb.LeaseCreditRequest, context: Context
    ) -> pb.LeaseCreditResponse:
        terms = LeaseTerms(
            account_id=_account(request.account_id),
            key_id=_id(request.key_id, "key_id"),
            holder_id=request.holder_id,
            need_nusd=_amount(request.need_nusd, "need_nusd", amount_max=AMOUNT_NUSD_MAX),
            want_nusd=max(0, request.want_nusd),
            request_id=_id(request.request_id, "request_id"),
            episode_id=_printable(request.episode_id, "episode_id"),
        )
        grant = await self._leases.grant(terms)
        duration = Duration()
        duration.FromMilliseconds(round(self._settings.lease_s * 1000))
        return pb.LeaseCreditResponse(**grant._asdict(), duration=duration)

    async def ReturnCredit(
        self, request: pb.ReturnCreditRequest, context: Context
    ) -> pb.ReturnCreditResponse:
        if request.undrawn_nusd < 0:
            raise _invalid("undrawn_nusd", f"is {request.undrawn_nusd}; it must not be negative")
        released = await self._leases.give_back(
            lease_id=_id(request.lease_id, "lease_id"),
            undrawn_nusd=request.undrawn_nusd,
            request_id=_id(request.request_id, "request_id"),
        )
        return pb.ReturnCreditResponse(released_nusd=released)

    async def CreditAccount(
        self, request: pb.CreditAccountRequest, context: Context
    ) -> pb.CreditAccountResponse:
        if request.source not in _SOURCES:
            raise _invalid("source", f"must be one of {', '.join(_SOURCES)}")
        account_id = _account(request.account_id)
        amount_nusd = _amount(
            request.amount_nusd, "amount_nusd", amount_max=self._settings.credit_max_nusd
        )
        request_id = _id(request.request_id, "request_id")
        ends_at_unix_ms = self._end(request)
        if request.source == PROMO:
            terms = PromoTerms(account_id, amount_nusd, ends_at_unix_ms, request_id)
            balance = await self._store.give(terms)
        else:
            balance = await self._store.credit(
                account_id=account_id,
                amount_nusd=amount_nusd,
                source=request.source,
                request_id=request_id,
            )
        return pb.CreditAccountResponse(balance=pb.Balance(account_id=account_id, **balance))

    def _end(self, request: pb.CreditAccountRequest) -> int:
        """Return when a gift ends, Unix milliseconds; 0 for never."""
        if not request.HasField("expire_time"):
            return 0
        if request.source != PROMO:
            raise _invalid("expire_time", f"is for credit of source {PROMO} alone")
        ends_at_unix_ms = request.expire_time.ToMilliseconds()
        if not 0 < ends_at_unix_ms < NEVER_UNIX_MS:
            raise _invalid("expire_time", "must be between 1970 and the year 9999")
        return ends_at_unix_ms

    async def GetBalance(
        self, request: pb.GetBalanceRequest, context: Context
    ) -> pb.GetBalanceResponse:
        account_id = _account(request.account_id)
        balance = await self._store.balance(account_id)
        return pb.GetBalanceResponse(balance=pb.Balance(account_id=account_id, **balance))

    async def ListBalances(
        self, request: pb.ListBalancesRequest, context: Context
    ) -> pb.ListBalancesResponse:
        if not 0 <= request.page_size <= _PAGE_SIZE_MAX:
            raise _invalid("page_size", f"is {request.page_size}; 1 to {_PAGE_SIZE_MAX} is allowed")
        size = request.page_size or _PAGE_SIZE_DEFAULT
        rows = await self._store.balances(after=request.page_token, count_max=size)
        return pb.ListBalancesResponse(
            balances=[pb.LedgerBalance(ledger_account=n, balance_nusd=a) for n, a in rows],
            next_page_token=rows[-1][0] if len(rows) == size else "",
        )

    async def VerifyLedger(
        self, request: pb.VerifyLedgerRequest, context: Context
    ) -> pb.VerifyLedgerResponse:
        return await self._verifier.verify()

    async def RebuildLedger(
        self, request: pb.RebuildLedgerRequest, context: Context
    ) -> pb.RebuildLedgerResponse:
        corrected, count = await self._store.rebuild()
        return pb.RebuildLedgerResponse(corrected_count=corrected, ledger_account_count=count)


def _id(value: str, name: str, *, length_max: int = ID_LENGTH_MAX) -> str:
    if not value:
        raise TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    return _printable(value, name, length_max=length_max)


def _printable(value: str, name: str, *, length_max: int = ID_LENGTH_MAX) -> str:
    if len(value) > length_max or not value.isprintable():
        raise _invalid(name, f"must be printable and at most {length_max} characters long")
    return value


def _account(value: str) -> str:
    return _id(value, "account_id", length_max=ACCOUNT_ID_LENGTH_MAX)


def _amount(value: int, name: str, *, amount_max: int) -> int:
    if not 0 < value <= amount_max:
        raise _invalid(name, f"is {value}; 1 to {amount_max} is allowed")
    return value


def _invalid(name: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} {what}.", param=name)
