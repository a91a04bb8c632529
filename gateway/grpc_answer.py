"""One gRPC call on its way: its headers, its deadline, and the pump that writes its answer.

The next batch is asked for when the last one is written, so a slow client slows the upstream down.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc
import msgspec
from grpc import aio
from multidict import MultiMapping

from gateway.admission import Ticket, router_request
from gateway.bodies import LongBody
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.grpc_batches import Batches
from gateway.grpc_identity import Identities
from gateway.grpc_request import body_of
from gateway.running import Running
from gateway.serve import Way, early_headers, ended_by
from gateway.stream import RouterCall, route_headers
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.money import format_usd
from kit.rpc.status import error_from_rpc
from kit.rpc.streams import close_stream
from turnpike.router.v1 import router_pb2

Context: TypeAlias = aio.ServicerContext[Any, Any]
RUN_ROUTE: Final = "grpc turnpike.router.v1.RouterService/Run"
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


@dataclass(frozen=True, slots=True)
class GrpcCall:
    """A request as it came over gRPC."""

    message: router_pb2.RunRequest
    context: Context
    identities: Identities

    @property
    def headers(self) -> MultiMapping[str]:
        """Its metadata, with the key that its certificate stands for; see `Identities.headers`."""
        return self.identities.headers(self.context)

    def timeout_ms(self, asked_ms: int) -> int:
        """Return the time that the request and the call's own deadline leave, milliseconds."""
        left_s = self.context.time_remaining()
        return asked_ms if left_s is None else max(1, min(asked_ms, int(left_s * 1000)))


class GrpcAnswer(msgspec.Struct, eq=False):
    """One answer on its way to a caller; `has_begun` once its first message is written."""

    context: Context
    batches: Batches
    exchange: Exchange
    running: Running
    headers: dict[str, str]
    clock: Clock
    has_begun: bool = False

    async def pump(self, call: RouterCall) -> None:
        """Write every batch; what fails after the first one is noted in the report.

        Raises:
            TurnpikeError: Before anything was written.
            CancelledError: The client left.
        """
        try:
            await self._pump(call)
        except grpc.RpcError as error:
            self._fail(error_from_rpc(error), error)
        except TurnpikeError as error:
            self._fail(error, error.__cause__)
        except asyncio.CancelledError:
            self._fail(ended_by(self.running), None)

    async def _pump(self, call: RouterCall) -> None:
        report = self.exchange.report
        async for batch in call:
            if report.route is None and batch.HasField("route"):
                await self._begin(batch.route)
            if batch.HasField("finish"):
                await self._end(batch)
                return
            if batch.HasField("error"):
                await self._break(batch)
                return
            message = self.batches.middle(batch)
            if message is not None:
                await self._write(message)
        raise TurnpikeError(Reason.INTERNAL, "The router ended without an answer.")

    def _fail(self, error: TurnpikeError, cause: BaseException | None) -> None:
        if not self.has_begun:
            raise error from cause
        self.exchange.report.error = error

    async def _begin(self, route: router_pb2.Route) -> None:
        report = self.exchange.report
        report.route, report.request_id = route, route.request_id
        report.ttft_s = self.clock.monotonic_s() - self.exchange.start_s
        self.batches.begin(route)
        headers = {"X-Episode-Id": route.request_id, **self.headers}
        headers |= {**route_headers(route, ()), "X-Request-Id": route.request_id}
        await self.context.send_initial_metadata(metadata(headers))

    async def _end(self, batch: router_pb2.RunResponse) -> None:
        message, report = self.batches.last(batch), self.exchange.report
        report.usage, report.charge_nusd = batch.finish.usage, batch.finish.charge_nusd
        cost = {"X-Turnpike-Cost": format_usd(report.charge_nusd)}
        self.context.set_trailing_metadata(metadata(cost))
        await self._write(message)

    async def _break(self, batch: router_pb2.RunResponse) -> None:
        error = TurnpikeError(Reason(batch.error.reason), batch.error.message)
        self.exchange.report.charge_nusd = batch.error.charge_nusd
        if self.has_begun:
            await self._write(self.batches.broken(batch, error))
        raise error

    async def _write(self, message: router_pb2.RunResponse) -> None:
        """Write when the client takes it; the sweep sees since when it does not."""
        self.running.writing_since_s = self.clock.monotonic_s()
        self.has_begun = True
        await self.context.write(message)
        self.running.writing_since_s = 0.0


def metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return headers as gRPC's metadata, which takes printable ASCII only."""
    return tuple((name.lower(), _UNPRINTABLE.sub("?", value)) for name, value in headers.items())


async def _read(deps: Deps, call: GrpcCall, exchange: Exchange) -> bytes:
    if deps.readiness.is_stopping:
        raise TurnpikeError(Reason.UNAVAILABLE, "The gateway is stopping.", retry_after_s="1")
    body = body_of(call.message)
    if len(body) > deps.settings.body_bytes_max:
        exchange.long_body = LongBody(deps.settings, deps.long_bodies)
        exchange.long_body.keep_whole(body)
    return body


async def _run(
    deps: Deps,
    call: GrpcCall,
    exchange: Exchange,
    ticket: Ticket,
    running: Running,
    traceparent: str,
) -> None:
    asked = ticket.call
    ticket.call = msgspec.structs.replace(asked, timeout_ms=call.timeout_ms(asked.timeout_ms))
    answer = GrpcAnswer(
        context=call.context,
        batches=Batches(
            api=exchange.api,
            call=asked,
            dialect=exchange.dialect,
            is_typed=call.message.HasField("chat"),
        ),
        exchange=exchange,
        running=running,
        headers=early_headers(deps, call.headers, ticket),
        clock=deps.clock,
    )
    stream = deps.router.Run(router_request(ticket, traceparent))
    try:
        await answer.pump(stream)
    finally:
        await close_stream(stream)


RUN: Final = Way(_read, _run, RUN_ROUTE)
"""How requests to a model come and go over gRPC."""
