"""The pump: an answer's batches from the router to the client's socket.

Headers wait for the first batch, so that an error before it has its own status. After it an error
is one SSE event and a closed stream. The next batch is asked for when the last one is written, so
a slow client slows the upstream down.
"""

from collections.abc import AsyncIterable

import grpc
import msgspec
from aiohttp import web

from gateway.admission import Ticket
from gateway.call import Api, StreamShape
from gateway.openai.answer import KEEP_ALIVE, last_events
from gateway.running import Running
from gateway.wire import EventStream
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

SSE_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


Batches = AsyncIterable[router_pb2.RunResponse]
"""An answer as it comes from the router."""


class Report(msgspec.Struct, eq=False):
    """What became of an answer, for settlement, metrics and the access line.

    `request_id` is the router's; it is empty until the router gave one.
    """

    request_id: str = ""
    route: router_pb2.Route | None = None
    usage: usage_pb2.TokenUsage | None = None
    charge_nusd: int | None = None
    ttft_s: float = 0.0
    error: TurnpikeError | None = None


class StreamAnswer(msgspec.Struct, eq=False):
    """One streamed answer on its way to the client."""

    request: web.BaseRequest
    ticket: Ticket
    api: Api
    running: Running
    report: Report
    clock: Clock
    headers: dict[str, str]
    keep_alive_s: float
    header_hold_s: float
    start_s: float
    response: EventStream | None = None
    shape: StreamShape | None = None
    wrote_s: float = 0.0

    async def pump(self, call: Batches) -> web.StreamResponse:
        """Write every batch and return the finished response.

        Raises:
            TurnpikeError: Before anything was written.
        """
        self.running.answer = self
        try:
            async for batch in call:
                if self.report.route is None and batch.HasField("route"):
                    self._begin(batch)
                if batch.HasField("finish"):
                    return await self._end(batch)
                if batch.HasField("error"):
                    return await self._break(batch)
                sse = batch.sse
                if self.shape is not None:
                    sse = self.shape.feed(sse)
                if sse:
                    response = self.response or self._open({})
                    self.wrote_s = self.clock.monotonic_s()
                    if response.put(sse):
                        await self._drained(response)
        except grpc.RpcError as error:
            if self.response is None:
                raise error_from_rpc(error) from error
            return await self._fail(error_from_rpc(error))
        return await self.fail(
            TurnpikeError(Reason.INTERNAL, "The router ended without an answer.")
        )

    async def stay_alive(self, now_s: float) -> None:
        """Send headers or a comment when the upstream has been silent for long."""
        if self.response is None:
            if now_s - self.start_s >= self.header_hold_s:
                self._open({"X-Backend": "pending"})
        elif now_s - self.wrote_s >= self.keep_alive_s:
            self.wrote_s = now_s
            self.response.put(KEEP_ALIVE)
            await self._drained(self.response)

    async def fail(self, error: TurnpikeError) -> web.StreamResponse:
        """End an answer that is already under way with one error event.

        Raises:
            TurnpikeError: The same, when nothing was written yet.
        """
        if self.response is None:
            raise error
        return await self._fail(error)

    def _begin(self, batch: router_pb2.RunResponse) -> None:
        route = batch.route
        self.report.route = route
        self.report.request_id = route.request_id
        self.report.ttft_s = self.clock.monotonic_s() - self.start_s
        self.shape = self.api.stream(self.ticket.call, route.request_id)
        if self.shape is not None:
            self.shape.begin(batch.running_usage if batch.HasField("running_usage") else None)
        if self.response is None:
            self._open(route_headers(route, self.ticket.call.ignored))

    def _open(self, more: dict[str, str]) -> EventStream:
        headers = {**SSE_HEADERS, **self.headers, **more}
        if self.report.request_id:
            headers["X-Request-Id"] = self.report.request_id
            headers.setdefault("X-Episode-Id", self.report.request_id)
        unix_s = self.clock.unix_ms() // 1000
        self.response = EventStream(self.request, headers, unix_s=unix_s)
        self.wrote_s = self.clock.monotonic_s()
        return self.response

    async def _drained(self, response: EventStream) -> None:
        """Wait for a client that does not read; the sweep sees since when."""
        self.running.writing_since_s = self.clock.monotonic_s()
        await response.drained()
        self.running.writing_since_s = 0.0

    async def _end(self, batch: router_pb2.RunResponse) -> web.StreamResponse:
        finish = batch.finish
        self.report.usage = finish.usage
        self.report.charge_nusd = finish.charge_nusd
        if self.shape is not None:
            return await self._close(self.shape.end(batch.sse, finish))
        tail = last_events(
            finish, self.ticket.caller.dialect, include_usage=self.ticket.call.include_usage
        )
        return await self._close(batch.sse + tail)

    async def _break(self, batch: router_pb2.RunResponse) -> web.StreamResponse:
        self.report.charge_nusd = batch.error.charge_nusd
        error = TurnpikeError(Reason(batch.error.reason), batch.error.message)
        if self.response is None:
            raise error
        sse = batch.sse
        if self.shape is not None:
            sse = self.shape.feed(sse)
        return await self._fail(error, sse)

    async def _fail(self, error: TurnpikeError, before: bytes = b"") -> web.StreamResponse:
        self.report.error = error
        if not self.report.request_id:
            self.report.request_id = error.metadata.get("request_id", "")
        event = self.api.error_event(error, self.ticket.caller.dialect, self.report.request_id)
        return await self._close(before + event)

    async def _close(self, data: bytes) -> web.StreamResponse:
        response = self.response or self._open({})
        self.wrote_s = self.clock.monotonic_s()
        if response.finish(data):
            await self._drained(response)
        return response


RouterCall = grpc.aio.UnaryStreamCall[router_pb2.RunRequest, router_pb2.RunResponse]


def route_headers(route: router_pb2.Route, ignored: tuple[str, ...]) -> dict[str, str]:
    """Return the headers that are known once an upstream answers.

    `ignored` is what was left out of the request before it went to the router.
    """
    headers = {
        "X-Model-Used": route.upstream_model,
        "X-Backend": route.backend,
        "X-Deployment-Id": route.deployment_id,
        "X-Turnpike-Attempts": str(route.attempt_count),
    }
    if route.ignored_parameters:
        ignored = (*ignored, *route.ignored_parameters)
    if ignored:
        headers |= ignored_header(ignored)
    return headers


def ignored_header(ignored: tuple[str, ...]) -> dict[str, str]:
    """Return the header that names what was left out of a request."""
    return {"X-Turnpike-Ignored": ",".join(ignored)}
