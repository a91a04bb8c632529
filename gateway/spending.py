"""What one request of a machine payer holds: asked for slice by slice while its answer streams.

A request of a key draws its whole hold before it runs and has none of this. Here each slice is
held before the output that it pays for is handed over; the next one is asked for when half of the
last one is used, so that a stream rarely waits. When the payer's vouchers do not cover it, the
client is told, and the stream pauses where the held part ends.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc
import structlog

from gateway.machine.refusals import PaymentRefusedError
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.metrics import Count
from kit.rpc.status import error_from_rpc
from kit.tasks import TaskPool
from turnpike.payment.v1 import machine_pb2
from turnpike.router.v1 import router_pb2

if TYPE_CHECKING:
    from turnpike.payment.v1 import machine_pb2_grpc
    from turnpike.router.v1 import router_pb2_grpc

RECEIPT_HEADER: Final = "Payment-Receipt"
PRIVATE: Final = {"Cache-Control": "private"}
"""What goes with a receipt: it is one client's."""
_CONCLUSIONS_MAX: Final = 3
_REST_S: Final = 0.1
"""Pause before payment is asked again after it did not answer, or answered too soon."""
_WAIT_MAX_MS: Final = 60_000
"""What payment waits at most in one call."""
_log = structlog.get_logger("gateway.spending")

Tariff = Callable[[int], int]
"""Gives the most that a request can cost, nano-USD, once it has so many tokens of output."""
Tell = Callable[[machine_pb2.NeedVoucher], None]
"""Tells the client which voucher is needed."""


class SpendingCounts(NamedTuple):
    """What is counted of all requests."""

    waits: Count
    timeouts: Count
    receipts: Count
    receipts_missing: Count


@dataclass(frozen=True, slots=True)
class SpendingTerms:
    """How a request is paid; nano-USD, tokens and seconds.

    `rpc_timeout_s` is also how long a stream waits for a payment room that does not answer.
    """

    hold_nusd: int
    slice_tokens: int
    tariff: Tariff
    voucher_wait_s: float
    rpc_timeout_s: float


class Conclusion(NamedTuple):
    """How a request ended; `run_id` is the router's id, empty when it never got there."""

    run_id: str
    charge_nusd: int
    unit_count: int


class Payer(NamedTuple):
    """The parts of the gateway that a request pays with."""

    machine: "machine_pb2_grpc.MachinePaymentServiceAsyncStub"
    router: "router_pb2_grpc.RouterServiceAsyncStub"
    tasks: TaskPool
    clock: Clock
    counts: SpendingCounts


class Spending:
    """One request's hold; it is settled exactly once.

    `has_slices` when there is more to hold than was granted at first.
    """

    def __init__(self, payer: Payer, admitted: machine_pb2.Admitted, terms: SpendingTerms) -> None:
        self._payer = payer
        self._terms = terms
        self._admitted = admitted
        self._wanted_nusd = self.granted_nusd = admitted.granted_nusd
        self.has_slices = admitted.granted_nusd < terms.hold_nusd
        self._tell: Tell | None = None
        self._told = ""
        self._told_s = self._paused_s = payer.clock.monotonic_s()
        self._is_paused = False
        self._silent_since_s: float | None = None
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._is_asking = False
        self._asker: asyncio.Task[object] | None = None
        self._receipt: asyncio.Future[machine_pb2.ConcludeResponse | None] | None = None
        self._is_settled = False

    @property
    def is_sliced(self) -> bool:
        """Whether more may have to be held."""
        return self.granted_nusd < self._terms.hold_nusd

    def headers(self) -> dict[str, str]:
        """Return the headers of the answer that are known before it is, as for a charge."""
        if not self._admitted.receipt:
            return {}
        return {RECEIPT_HEADER: self._admitted.receipt, **PRIVATE}

    def tell_by(self, tell: Tell) -> None:
        """Say how the client hears of vouchers; without it nothing is asked of it."""
        self._tell = tell

    def cost_nusd(self, tokens: int) -> int:
        """Return what so much output costs at most."""
        return min(self._terms.hold_nusd, self._terms.tariff(tokens))

    def look_ahead(self, tokens: int) -> None:
        """Ask for the next slice in the background once half of the last one is used."""
        if self._is_asking or not self.is_sliced:
            return
        total_nusd = self._next_nusd(tokens)
        if total_nusd > self.granted_nusd:
            self._want(total_nusd)

    async def reach(self, tokens: int, need_nusd: int) -> None:
        """Wait until the hold covers an amount that so much output costs.

        Raises:
            TurnpikeError: `VOUCHER_TIMEOUT`; `LEDGER_UNAVAILABLE`; or why payment refused.
            ConnectionResetError: The client has gone.
        """
        if need_nusd <= self.granted_nusd:
            return
        self._want(max(need_nusd, self._next_nusd(tokens)))
        self._is_paused, self._paused_s = True, self._payer.clock.monotonic_s()
        try:
            while self.granted_nusd < need_nusd:
                if self._failure is not None:
                    raise _own_copy(self._failure)
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._is_paused = False

    def _next_nusd(self, tokens: int) -> int:
        """Return the cost up to the end of a slice, the next one when half of this one is used."""
        size = self._terms.slice_tokens
        return self.cost_nusd(size * ((tokens + size - size // 2) // size + 1))

    async def end_run(self, run_id: str, tokens: int, *, is_whole: bool) -> None:
        """Tell the router how much of a sliced answer was handed over, before its call ends.

        Raises:
            grpc.RpcError: The router does not answer.
        """
        request = router_pb2.EndRunRequest(
            request_id=run_id, completion_token_count=tokens, is_whole=is_whole
        )
        await self._payer.router.EndRun(request, timeout=self._terms.rpc_timeout_s)

    async def conclude(self, conclusion: Conclusion) -> machine_pb2.ConcludeResponse | None:
        """Say what the request cost and return its receipt; None when payment does not answer.

        It is said to the end, also when nobody waits for it any more.
        """
        if self._receipt is None:
            self._stop_asking()
            self._receipt = asyncio.get_running_loop().create_future()
            work = self._concluded(conclusion, self._receipt)
            if not self._payer.tasks.start(work, name="payment-conclusion"):
                self._receipt.set_result(None)
        return await asyncio.shield(self._receipt)

    def settle(self, conclusion: Conclusion | None) -> None:
        """End the request's spending; None when only the usage event will say what it cost.

        Then payment frees the rest by itself when the lease ends. Idempotent.
        """
        if self._is_settled:
            return
        self._is_settled = True
        self._stop_asking()
        if self._receipt is None and conclusion is not None:
            work = self._concluded(conclusion, None)
            self._payer.tasks.start(work, name="payment-conclusion")

    def _stop_asking(self) -> None:
        self._wanted_nusd = self.granted_nusd
        if self._asker is not None:
            self._asker.cancel()

    def _want(self, total_nusd: int) -> None:
        self._wanted_nusd = max(self._wanted_nusd, total_nusd)
        if self._is_asking or self._failure is not None:
            return
        self._is_asking = True
        if not self._payer.tasks.start(self._ask(), name="payment-slice"):
            self._is_asking = False
            self._fail(TurnpikeError(Reason.OVERLOADED, "Too many streams pay.", retry_after_s="1"))

    async def _ask(self) -> None:
        """Raise the hold to what is wanted, however long the vouchers for it take."""
        self._asker = asyncio.current_task()
        failure: Exception | None = _broken()
        try:
            while self.granted_nusd < self._wanted_nusd:
                await self._extend_in_time()
            failure = None
        except (TurnpikeError, ConnectionResetError) as error:
            failure = error
        finally:
            # Also where it broke by a bug: a pump that waits must hear of it.
            self._is_asking, self._asker = False, None
            if failure is not None:
                self._fail(failure)

    async def _extend_in_time(self) -> None:
        """Ask once; a room that does not answer is asked again as long as nobody waits for it."""
        try:
            await self._extend()
        except grpc.RpcError as rpc_error:
            error, now_s = error_from_rpc(rpc_error), self._payer.clock.monotonic_s()
            if error.outward.http_status < 500:
                raise error from rpc_error
            if self._silent_since_s is None:
                self._silent_since_s = now_s
            since_s = max(self._silent_since_s, self._paused_s)
            if self._is_paused and now_s - since_s >= self._terms.rpc_timeout_s:
                raise _unavailable() from rpc_error
            await asyncio.sleep(_REST_S)
        else:
            self._silent_since_s = None

    async def _extend(self) -> None:
        """Ask once for what is wanted, and wait for the voucher that it takes."""
        request = machine_pb2.ExtendRequest(
            lease_id=self._admitted.lease_id, total_nusd=self._wanted_nusd
        )
        answer = await self._payer.machine.Extend(request, timeout=self._terms.rpc_timeout_s)
        if answer.HasField("granted_nusd"):
            if answer.granted_nusd <= self.granted_nusd:
                # Nothing came of it; that must not become a loop without a pause.
                await asyncio.sleep(_REST_S)
            self.granted_nusd = max(self.granted_nusd, answer.granted_nusd)
            self._changed.set()
        elif answer.HasField("need"):
            await self._await_voucher(answer.need)
        else:
            raise PaymentRefusedError(answer.refusal)

    async def _await_voucher(self, need: machine_pb2.NeedVoucher) -> None:
        """Tell the client once of each voucher, and wait until it is there.

        Raises:
            TurnpikeError: `VOUCHER_TIMEOUT`.
            ConnectionResetError: The client has gone.
        """
        if self._told == need.required_cumulative:
            # It was there, or never will be; that must not become a loop without a pause.
            await asyncio.sleep(_REST_S)
        else:
            self._told, self._told_s = need.required_cumulative, self._payer.clock.monotonic_s()
            self._payer.counts.waits.value += 1
            if self._tell is not None:
                self._tell(need)
        while True:
            left_s = self._voucher_left_s()
            if left_s <= 0:
                self._payer.counts.timeouts.value += 1
                raise TurnpikeError(
                    Reason.VOUCHER_TIMEOUT,
                    f"No voucher came within {self._terms.voucher_wait_s:g} s.",
                )
            request = machine_pb2.AwaitVoucherRequest(
                channel_id=need.channel_id,
                required_cumulative=need.required_cumulative,
                wait_ms=min(_WAIT_MAX_MS, math.ceil(left_s * 1000)),
            )
            timeout_s = request.wait_ms / 1000 + self._terms.rpc_timeout_s
            try:
                answer = await self._payer.machine.AwaitVoucher(request, timeout=timeout_s)
            except grpc.RpcError as error:
                if error_from_rpc(error).outward.http_status < 500:
                    raise
            else:
                if answer.is_accepted or answer.is_closed:
                    return
            if self._voucher_left_s() > 0:
                await asyncio.sleep(_REST_S)

    def _voucher_left_s(self) -> float:
        """Return how long the client still has; while the stream goes on it has all the time."""
        if not self._is_paused:
            return self._terms.voucher_wait_s
        since_s = max(self._told_s, self._paused_s)
        return since_s + self._terms.voucher_wait_s - self._payer.clock.monotonic_s()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._changed.set()

    async def _concluded(
        self,
        conclusion: Conclusion,
        receipt: asyncio.Future[machine_pb2.ConcludeResponse | None] | None,
    ) -> None:
        answer = None
        try:
            answer = await self._say(conclusion)
        finally:
            if receipt is not None and not receipt.done():
                receipt.set_result(answer)

    async def _say(self, conclusion: Conclusion) -> machine_pb2.ConcludeResponse | None:
        request = machine_pb2.ConcludeRequest(
            lease_id=self._admitted.lease_id,
            run_id=conclusion.run_id,
            charge_nusd=conclusion.charge_nusd,
            challenge_id=self._admitted.challenge_id,
            unit_count=conclusion.unit_count,
        )
        counts = self._payer.counts
        for _ in range(_CONCLUSIONS_MAX):
            try:
                answer = await self._payer.machine.Conclude(
                    request, timeout=self._terms.rpc_timeout_s
                )
            except grpc.RpcError as error:
                # The usage event charges all the same, and the lease ends by itself.
                _log.warning("payment_not_concluded", why=error_from_rpc(error).reason)
                await asyncio.sleep(_REST_S)
            else:
                counts.receipts.value += 1
                return answer
        counts.receipts_missing.value += 1
        return None


def _own_copy(error: Exception) -> Exception:
    """Return an error to raise: one that is raised twice collects both traces."""
    if isinstance(error, TurnpikeError):
        return TurnpikeError(error.reason, error.message, **error.metadata)
    return error


def _broken() -> TurnpikeError:
    return TurnpikeError(Reason.INTERNAL, "Something went wrong inside Turnpike.")


def _unavailable() -> TurnpikeError:
    return TurnpikeError(
        Reason.LEDGER_UNAVAILABLE, "The next part of the answer cannot be reserved right now."
    )
