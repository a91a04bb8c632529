"""The border of the metering room: checks what was asked and translates; it decides nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias, cast

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kit.errors import Reason, TurnpikeError
from services.metering.pages import decode_token, encode_token, page_size
from services.metering.records import OUTCOME_SUFFIX
from services.metering.rollup import HOUR_MS
from services.metering.store import FoundRow, MeteringStore, Wanted
from services.metering.store_decisions import DecisionStore
from turnpike.metering.v1 import metering_pb2 as pb
from turnpike.metering.v1.metering_pb2_grpc import MeteringServiceServicer
from turnpike.type.v1.usage_pb2 import TokenUsage

_ID_LENGTH_MAX: Final = 200
_NS_PER_MS: Final = 1_000_000
_SECONDS_MAX: Final = 253_402_300_799

Context: TypeAlias = grpc.aio.ServicerContext[Message, Message]
Filtered: TypeAlias = pb.ListUsageRequest | pb.SummarizeUsageRequest


class MeteringServicer(MeteringServiceServicer):
    """Serves `turnpike.metering.v1.MeteringService`."""

    def __init__(self, store: MeteringStore, decisions: DecisionStore) -> None:
        self._store = store
        self._decisions = decisions

    async def ListUsage(
        self, request: pb.ListUsageRequest, context: Context
    ) -> pb.ListUsageResponse:
        size = page_size(request.page_size, default=100, size_max=1_000)
        token = request.page_token
        (before,) = decode_token(token, "u", str) if token else ("",)
        wanted = replace(_wanted(request), episode_id=_id(request.episode_id, "episode_id"))
        rows = await self._store.records(wanted, before=str(before), count_max=size + 1)
        answer = pb.ListUsageResponse(records=map(_record, rows[:size]))
        if len(rows) > size:
            answer.next_page_token = encode_token("u", rows[size - 1].event_id)
        return answer

    async def SummarizeUsage(
        self, request: pb.SummarizeUsageRequest, context: Context
    ) -> pb.SummarizeUsageResponse:
        size = page_size(request.page_size, default=1_000, size_max=10_000)
        token = request.page_token
        before = decode_token(token, "s", int, str, str, str) if token else None
        rows = await self._store.sums(
            _wanted(request, step_ms=HOUR_MS),
            before=cast("tuple[int, str, str, str] | None", before),  # its types were checked
            count_max=size + 1,
        )
        answer = pb.SummarizeUsageResponse(summaries=map(_summary, rows[:size]))
        if len(rows) > size:
            last = rows[size - 1]
            key = (last.hour_unix_ms, last.account_id, last.key_id, last.model_id)
            answer.next_page_token = encode_token("s", *key)
        return answer

    async def ListCharges(
        self, request: pb.ListChargesRequest, context: Context
    ) -> pb.ListChargesResponse:
        size = page_size(request.page_size, default=1_000, size_max=10_000)
        if request.stream_seq_max < 0:
            message = f"stream_seq_max is {request.stream_seq_max}; it must not be negative."
            raise TurnpikeError(Reason.INVALID_VALUE, message, param="stream_seq_max")
        token = request.page_token
        (after,) = decode_token(token, "c", str) if token else ("",)
        rows, applied = await self._store.charges(
            after=str(after), stream_seq_max=request.stream_seq_max, count_max=size + 1
        )
        answer = pb.ListChargesResponse(applied_stream_seq=applied)
        answer.charges.extend(map(_charge, rows[:size]))
        if len(rows) > size:
            answer.next_page_token = encode_token("c", rows[size - 1].event_id)
        return answer

    async def ListRouteDecisions(
        self, request: pb.ListRouteDecisionsRequest, context: Context
    ) -> pb.ListRouteDecisionsResponse:
        size = page_size(request.page_size, default=1_000, size_max=10_000)
        token = request.page_token
        (after,) = decode_token(token, "d", str) if token else ("",)
        request_id = _id(request.request_id, "request_id")
        rows = await self._decisions.decisions(
            event_id=request_id + OUTCOME_SUFFIX if request_id else "",
            after=str(after),
            count_max=size + 1,
        )
        answer = pb.ListRouteDecisionsResponse(decisions=map(_decision, rows[:size]))
        if len(rows) > size:
            answer.next_page_token = encode_token("d", str(rows[size - 1]["event_id"]))
        return answer

    async def GetRouteSnapshot(
        self, request: pb.GetRouteSnapshotRequest, context: Context
    ) -> pb.GetRouteSnapshotResponse:
        snapshot_id = _id(request.snapshot_id, "snapshot_id")
        data = await self._decisions.snapshot(snapshot_id)
        if data is None:
            message = f"There is no snapshot {snapshot_id}; it was lost or is too old."
            raise TurnpikeError(Reason.NOT_FOUND, message, param="snapshot_id")
        return pb.GetRouteSnapshotResponse(data=data)


def _decision(row: Mapping[str, Any]) -> pb.RouteDecision:
    return pb.RouteDecision(
        request_id=str(row["event_id"]).removesuffix(OUTCOME_SUFFIX),
        data=row["data"],
        **{name: row[name] for name in _OF_RECORD},
    )


_OF_RECORD: Final = (
    "prompt_token_count",
    "completion_token_count",
    "duration_ms",
    "ttft_ms",
    "outcome",
    "start_unix_ms",
    "deployment",
    "model_id",
)


def _wanted(request: Filtered, *, step_ms: int = 1) -> Wanted:
    start = _unix_ms(request, "start_time")
    return Wanted(
        account_id=_id(request.account_id, "account_id"),
        key_id=_id(request.key_id, "key_id"),
        model_id=_id(request.model_id, "model_id"),
        start_unix_ms=None if start is None else start - start % step_ms,
        end_unix_ms=_unix_ms(request, "end_time"),
    )


def _id(value: str, name: str) -> str:
    if len(value) > _ID_LENGTH_MAX or not value.isprintable():
        message = f"{name} must be printable and at most {_ID_LENGTH_MAX} characters long."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param=name)
    return value


def _unix_ms(request: Filtered, name: str) -> int | None:
    """Return a bound in Unix milliseconds, rounded up, as records have whole milliseconds."""
    if not request.HasField(cast("Any", name)):  # both requests have both times
        return None
    moment: Timestamp = getattr(request, name)
    if not (0 <= moment.seconds <= _SECONDS_MAX and 0 <= moment.nanos < 1000 * _NS_PER_MS):
        message = f"{name} must lie between the years 1970 and 9999."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param=name)
    return moment.seconds * 1000 - (-moment.nanos // _NS_PER_MS)


def _time(unix_ms: int) -> Timestamp:
    seconds, rest = divmod(unix_ms, 1000)
    return Timestamp(seconds=seconds, nanos=rest * _NS_PER_MS)


def _record(row: FoundRow) -> pb.UsageRecord:
    return pb.UsageRecord(
        request_id=row.event_id.removesuffix(OUTCOME_SUFFIX),
        account_id=row.account_id,
        key_id=row.key_id,
        model_id=row.model_id,
        deployment=row.deployment,
        provider=row.provider,
        usage=TokenUsage(
            prompt_token_count=row.prompt_token_count,
            completion_token_count=row.completion_token_count,
            cached_prompt_token_count=row.cached_prompt_token_count,
            reasoning_token_count=row.reasoning_token_count,
            source=row.usage_source,
            unit_count=row.unit_count or 0,
        ),
        charge_nusd=row.charge_nusd,
        outcome=row.outcome,
        finish_reason=row.finish_reason,
        start_time=_time(row.start_unix_ms),
        duration_ms=row.duration_ms,
        ttft_ms=row.ttft_ms,
        is_streaming=row.is_streaming,
        attempt_count=row.attempt_count,
        unit=row.unit or "",
        refund_nusd=row.refund_nusd or 0,
        episode_id=row.episode_id or "",
        is_byok=bool(row.is_byok),
    )


def _charge(row: FoundRow) -> pb.Charge:
    return pb.Charge(
        event_id=row.event_id,
        account_id=row.account_id,
        charge_nusd=row.charge_nusd,
        stream_seq=row.stream_seq,
        refund_nusd=row.refund_nusd or 0,
    )


def _summary(row: FoundRow) -> pb.UsageSummary:
    return pb.UsageSummary(
        hour_time=_time(row.hour_unix_ms),
        account_id=row.account_id,
        key_id=row.key_id,
        model_id=row.model_id,
        request_count=row.request_count,
        prompt_token_count=row.prompt_token_count,
        completion_token_count=row.completion_token_count,
        charge_nusd=row.charge_nusd,
    )
