"""An answer of bytes, such as sound: pieces from the router to the client's socket.

There is no place for a comment or an error in it: while the upstream is silent nothing is sent, and
an answer that breaks ends its connection in the middle of its body.
"""

import grpc
from aiohttp import web

from gateway.stream import Batches, StreamAnswer, route_headers
from gateway.wire import EventStream
from kit.errors import Reason, TurnpikeError
from kit.rpc.status import error_from_rpc
from turnpike.router.v1 import router_pb2


class BinaryAnswer(StreamAnswer):
    """One answer of bytes on its way to the client."""

    async def pump(self, call: Batches) -> web.StreamResponse:
        """Write every piece and return the finished response.

        Raises:
            TurnpikeError: Before anything was written.
        """
        try:
            async for batch in call:
                response = self.response or self._open_for(batch)
                if batch.HasField("finish"):
                    return self._finished(response, batch.finish)
                if batch.HasField("error"):
                    self.report.charge_nusd = batch.error.charge_nusd
                    return await self.fail(
                        TurnpikeError(Reason(batch.error.reason), batch.error.message)
                    )
                self.wrote_s = self.clock.monotonic_s()
                if batch.data and response.put(batch.data):
                    await self._drained(response)
        except grpc.RpcError as error:
            return await self.fail(error_from_rpc(error))
        return await self.fail(
            TurnpikeError(Reason.INTERNAL, "The router ended without an answer.")
        )

    async def fail(self, error: TurnpikeError) -> web.StreamResponse:
        """Break off an answer that is under way.

        Raises:
            TurnpikeError: The same, when nothing was written yet.
        """
        if self.response is None:
            raise error
        self.report.error = error
        return self.response

    def _open_for(self, batch: router_pb2.RunResponse) -> EventStream:
        report, route = self.report, batch.route
        report.route, report.request_id = route, route.request_id
        report.ttft_s = self.clock.monotonic_s() - self.start_s
        ignored = self.ticket.call.ignored
        headers = {**self.headers, **route_headers(route, ignored)}
        headers["Content-Type"] = batch.content_type
        headers["X-Request-Id"] = report.request_id
        headers.setdefault("X-Episode-Id", report.request_id)
        unix_s = self.clock.unix_ms() // 1000
        self.response = EventStream(self.request, headers, unix_s=unix_s)
        return self.response

    def _finished(self, response: EventStream, finish: router_pb2.Finish) -> web.StreamResponse:
        self.report.usage, self.report.charge_nusd = finish.usage, finish.charge_nusd
        response.end()
        return response
