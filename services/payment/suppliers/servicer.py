"""The border of what is owed to others: checks what was asked and translates."""

import json
import re
from collections.abc import Sequence
from typing import Final, TypeAlias

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kit.errors import Reason, TurnpikeError
from services.payment.store_tables import Row
from services.payment.suppliers.earnings import COST_NUSD_MAX, payee_account
from services.payment.suppliers.store import UNIX_MS_MAX, PayoutTerms, Span, SuppliersStore
from turnpike.payment.v1 import suppliers_pb2 as pb
from turnpike.payment.v1.suppliers_pb2_grpc import SuppliersServiceServicer

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]

_PAGE_SIZE_DEFAULT: Final = 1_000
_PAGE_SIZE_MAX: Final = 10_000
_TEXT_LENGTH_MAX: Final = 200
_RAIL: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class SuppliersServicer(SuppliersServiceServicer):
    """Serves `turnpike.payment.v1.SuppliersService`."""

    def __init__(self, store: SuppliersStore) -> None:
        self._store = store

    async def ListPayees(
        self, request: pb.ListPayeesRequest, context: Context
    ) -> pb.ListPayeesResponse:
        size = _size(request.page_size)
        rows = await self._store.payees(after=request.page_token, count_max=size)
        return pb.ListPayeesResponse(
            payees=[pb.Payee(**_without(row, "ledger_account")) for row in rows],
            next_page_token=_token(rows, size, "ledger_account"),
        )

    async def CreatePayout(
        self, request: pb.CreatePayoutRequest, context: Context
    ) -> pb.CreatePayoutResponse:
        if not 0 < request.amount_nusd <= COST_NUSD_MAX:
            says = f"is {request.amount_nusd}; 1 to {COST_NUSD_MAX} is allowed"
            raise _invalid("amount_nusd", says)
        if _RAIL.fullmatch(_text(request.rail, "rail")) is None:
            raise _invalid("rail", "must be up to 32 lower-case letters, digits, - and _")
        terms = PayoutTerms(
            payee_id=_payee(request.payee_id),
            amount_nusd=request.amount_nusd,
            rail=request.rail,
            reference=_text(request.reference, "reference"),
            request_id=_text(request.request_id, "request_id"),
        )
        row, owed = await self._store.pay(terms)
        return pb.CreatePayoutResponse(payout=_payout(row), owed_nusd=owed)

    async def ListPayouts(
        self, request: pb.ListPayoutsRequest, context: Context
    ) -> pb.ListPayoutsResponse:
        size = _size(request.page_size)
        payee_id = _payee(request.payee_id) if request.payee_id else ""
        rows = await self._store.payouts(
            payee_id=payee_id, after=request.page_token, count_max=size
        )
        return pb.ListPayoutsResponse(
            payouts=[_payout(row) for row in rows],
            next_page_token=_token(rows, size, "payout_id"),
        )

    async def ListEarnings(
        self, request: pb.ListEarningsRequest, context: Context
    ) -> pb.ListEarningsResponse:
        size = _size(request.page_size)
        rows = await self._store.earnings(
            payee_id=_payee(request.payee_id),
            span=_span(request),
            after=request.page_token,
            count_max=size,
        )
        return pb.ListEarningsResponse(
            earnings=[_earning(row) for row in rows],
            next_page_token=_token(rows, size, "event_id"),
        )

    async def SummarizeCosts(
        self, request: pb.SummarizeCostsRequest, context: Context
    ) -> pb.SummarizeCostsResponse:
        size = _size(request.page_size)
        rows = await self._store.costs(
            span=_span(request), after=_after(request.page_token), count_max=size
        )
        last = [rows[-1][name] for name in _COSTS_BY] if len(rows) == size else None
        return pb.SummarizeCostsResponse(
            summaries=[_summary(row) for row in rows],
            next_page_token="" if last is None else json.dumps(last),
            promo_spent_nusd=await self._store.promo_spent_nusd(),
        )


_COSTS_BY: Final = ("provider", "supplier_id", "model_id")


def _summary(row: Row) -> pb.CostSummary:
    return pb.CostSummary(
        provider=row["provider"],
        supplier_id=row["supplier_id"],
        model_id=row["model_id"],
        request_count=row["request_count"],
        paid_nusd=int(row["paid_nusd"]),
        owed_nusd=int(row["owed_nusd"]),
    )


def _payout(row: Row) -> pb.Payout:
    return pb.Payout(**_without(row, "unix_ms", "txn_seq"), create_time=_timestamp(row["unix_ms"]))


def _earning(row: Row) -> pb.Earning:
    return pb.Earning(
        **_without(row, "unix_ms", "txn_seq", "stream_seq", "supplier_id"),
        settle_time=_timestamp(row["unix_ms"]),
    )


def _without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


def _timestamp(unix_ms: int) -> Timestamp:
    found = Timestamp()
    found.FromMilliseconds(unix_ms)
    return found


def _span(request: pb.ListEarningsRequest | pb.SummarizeCostsRequest) -> Span:
    start = request.start_time.ToMilliseconds() if request.HasField("start_time") else 0
    end = request.end_time.ToMilliseconds() if request.HasField("end_time") else UNIX_MS_MAX
    for name, moment in (("start_time", start), ("end_time", end)):
        if not 0 <= moment <= UNIX_MS_MAX:
            raise _invalid(name, "must be between 1970 and the year 9999")
    return Span(start, end)


def _after(token: str) -> tuple[str, str, str]:
    if not token:
        return "", "", ""
    try:
        provider, supplier_id, model_id = json.loads(token)
    except (ValueError, TypeError) as error:
        raise _invalid("page_token", "is not one of a page before") from error
    return str(provider), str(supplier_id), str(model_id)


def _size(page_size: int) -> int:
    if not 0 <= page_size <= _PAGE_SIZE_MAX:
        raise _invalid("page_size", f"is {page_size}; 1 to {_PAGE_SIZE_MAX} is allowed")
    return page_size or _PAGE_SIZE_DEFAULT


def _token(rows: Sequence[Row], size: int, name: str) -> str:
    return str(rows[-1][name]) if len(rows) == size else ""


def _payee(payee_id: str) -> str:
    if payee_account(_text(payee_id, "payee_id")) is None:
        raise _invalid("payee_id", "must look like supplier:<id> or provider:<name>")
    return payee_id


def _text(value: str, name: str) -> str:
    if not value:
        raise TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    if len(value) > _TEXT_LENGTH_MAX or not value.isprintable():
        raise _invalid(name, f"must be printable and at most {_TEXT_LENGTH_MAX} characters long")
    return value


def _invalid(name: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{name} {what}.", param=name)
