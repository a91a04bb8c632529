"""Streams that pay as they go: no batch is handed on before it is held.

The upstream is not read while a stream pauses, just as for a client that is slow; its keep-alive
goes on. The receipt comes before the last event.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import grpc
import msgspec
from aiohttp import web

from gateway.binary import BinaryAnswer
from gateway.machine.events import (
    before_last,
    chunk_members,
    need_voucher,
    receipt,
    text_members,
)
from gateway.spending import PRIVATE, RECEIPT_HEADER, Conclusion, Spending
from gateway.stream import Batches, Report, StreamAnswer
from gateway.wire import EventStream
from turnpike.payment.v1 import machine_pb2
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2


class PaidStream(StreamAnswer):
    """One streamed answer whose output is paid for slice by slice."""

    is_good: bool = False

    async def pump(self, call: Batches) -> web.StreamResponse:
        """Write every batch once it is held, and return the finished response.

        Raises:
            TurnpikeError: Before anything was written; or `VOUCHER_TIMEOUT` and what else ends a
                stream that cannot be paid for.
        """
        spending = _spending(self)
        spending.tell_by(self._tell)
        async with aclosing(self._held(call, spending)) as batches:
            return await super().pump(batches)

    async def _held(
        self, call: Batches, spending: Spending
    ) -> AsyncGenerator[router_pb2.RunResponse]:
        run_id, tokens, handed_over, is_whole = "", 0, 0, False
        try:
            async for batch in call:
                run_id = run_id or batch.route.request_id
                tokens, cost_nusd = _reckon(batch, tokens, spending)
                if cost_nusd > spending.granted_nusd:
                    if self.report.route is None and batch.HasField("route"):
                        self._begin(batch)
                    await spending.reach(tokens, cost_nusd)
                if batch.HasField("finish"):
                    is_whole = await _ended(spending, run_id, tokens, is_whole=True)
                else:
                    spending.look_ahead(tokens)
                yield batch
                handed_over = tokens
        finally:
            if not is_whole:
                with suppress(grpc.RpcError):
                    await _ended(spending, run_id, handed_over, is_whole=False)

    def _tell(self, need: machine_pb2.NeedVoucher) -> None:
        """Write what is needed between two batches.

        Raises:
            ConnectionResetError: The client has gone.
        """
        response = self.response or self._open({})
        self.wrote_s = self.clock.monotonic_s()
        response.put(need_voucher(need, self._members()))

    async def _end(self, batch: router_pb2.RunResponse) -> web.StreamResponse:
        self.is_good = True
        return await super()._end(batch)

    async def _close(self, data: bytes) -> web.StreamResponse:
        if self.is_good:
            data = await self._with_receipt(data)
        return await super()._close(data)

    async def _with_receipt(self, data: bytes) -> bytes:
        """Write all but the last event, and return it behind the receipt."""
        response = self.response or self._open({})
        cut = before_last(data)
        if cut and response.put(data[:cut]):
            await self._drained(response)
        concluded = await _spending(self).conclude(conclusion_of(self.report))
        if concluded is None:
            return data[cut:]
        return receipt(concluded.receipt_json, self._members()) + data[cut:]

    def _members(self) -> dict[str, object]:
        """Return what makes an event of payments an empty chunk of the client's API."""
        ticket, route = self.ticket, self.report.route
        if self.shape is not None or route is None:
            return {}
        dialect, model_id = ticket.caller.dialect, ticket.model.model_id
        if ticket.call.operation == router_pb2.OPERATION_COMPLETION:
            chunk_id = dialect.text_id_prefix + route.request_id
            return text_members(chunk_id, route.create_unix_s, model_id)
        return chunk_members(dialect.id_prefix + route.request_id, route.create_unix_s, model_id)


class PaidBinary(BinaryAnswer):
    """One answer of bytes, held whole; its receipt comes behind it, as a trailer."""

    trailer: dict[str, str] = msgspec.field(default_factory=dict)

    async def pump(self, call: Batches) -> web.StreamResponse:
        """Write every piece and return the finished response.

        Raises:
            TurnpikeError: Before anything was written.
        """
        self.headers.update(PRIVATE, Trailer=RECEIPT_HEADER)
        async with aclosing(self._concluded(call)) as batches:
            return await super().pump(batches)

    async def _concluded(self, call: Batches) -> AsyncGenerator[router_pb2.RunResponse]:
        async for batch in call:
            if batch.HasField("finish"):
                finish = batch.finish
                ended = Conclusion(
                    batch_id(self.report, batch), finish.charge_nusd, units(finish.usage)
                )
                concluded = await _spending(self).conclude(ended)
                if concluded is not None:
                    self.trailer[RECEIPT_HEADER] = concluded.receipt
            yield batch

    def _finished(self, response: EventStream, finish: router_pb2.Finish) -> web.StreamResponse:
        self.report.usage, self.report.charge_nusd = finish.usage, finish.charge_nusd
        response.end(self.trailer)
        return response


async def receipt_headers(spending: Spending, report: Report) -> dict[str, str]:
    """Conclude a plain answer and return the headers that say so."""
    concluded = await spending.conclude(conclusion_of(report))
    if concluded is None:
        return dict(PRIVATE)
    return {RECEIPT_HEADER: concluded.receipt, **PRIVATE}


def conclusion_of(report: Report) -> Conclusion:
    """Return how a request ended, whose charge is known."""
    unit_count = 0 if report.usage is None else units(report.usage)
    return Conclusion(report.request_id, report.charge_nusd or 0, unit_count)


def units(usage: usage_pb2.TokenUsage) -> int:
    """Return the content units of an answer: tokens, or what else it is sold by."""
    return usage.unit_count or usage.completion_token_count


def batch_id(report: Report, batch: router_pb2.RunResponse) -> str:
    """Return the router's id of a request, from whichever batch had it."""
    return report.request_id or batch.route.request_id


async def _ended(spending: Spending, run_id: str, tokens: int, *, is_whole: bool) -> bool:
    """Have a sliced answer charged as far as it was handed over; return `is_whole`."""
    if spending.has_slices and run_id:
        await spending.end_run(run_id, tokens, is_whole=is_whole)
    return is_whole


def _reckon(batch: router_pb2.RunResponse, tokens: int, spending: Spending) -> tuple[int, int]:
    """Return the tokens of an answer up to and with a batch, and the most that they cost."""
    if batch.HasField("finish"):
        finish = batch.finish
        return max(tokens, finish.usage.completion_token_count), finish.charge_nusd
    if batch.HasField("error"):
        # The end of what was paid for already.
        return tokens, 0
    tokens += batch.content_event_count
    if batch.HasField("running_usage"):
        tokens = max(tokens, batch.running_usage.completion_token_count)
    return tokens, spending.cost_nusd(tokens)


def _spending(answer: StreamAnswer) -> Spending:
    spending = answer.ticket.spending
    if spending is None:
        raise RuntimeError("A paid stream needs a spending.")
    return spending
