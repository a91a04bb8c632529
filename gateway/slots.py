"""Limits of requests at once: slots that auth granted, drawn in memory.

This worker is a holder: as long as it renews itself in time, its slots are its own. A request has
one from its admission to its settlement. Slots that no request uses go back after a while, or when
auth calls for them. When the holder's time runs out, its slots may soon be another's, so requests
that still have one end.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import grpc
import msgspec
import structlog

from gateway.limit_headers import Reading
from gateway.principal import Principal
from gateway.settings import GatewaySettings
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.ids import Uuid7Source
from kit.rpc.status import error_from_rpc
from turnpike.auth.v1 import auth_pb2, auth_pb2_grpc

SLOT_RECALL_SUBJECT: Final = "auth.slot_recall.v1"
_Step = auth_pb2.RenewHolderRequest
_RENEWALS_PER_LEASE: Final = 6
_IDLE_S: Final = 5.0
"""How long slots are kept for the next burst."""
_REFUSAL_S: Final = 0.25
"""How long a refusal is believed, so that a flood of requests costs few calls."""
_RETRY_S: Final = 1
_NEVER_S: Final = float("-inf")
_log = structlog.get_logger("gateway.slots")

EndKey = Callable[[str, TurnpikeError], None]
"""Ends every request of a key."""


@dataclass(slots=True, eq=False)
class Bucket:
    """One key's slots here, those in use, and what auth last said of the others.

    `is_unsure` while auth may believe that there are more.
    """

    key_id: str
    held: int = 0
    in_use: int = 0
    limit: int = 0
    free_elsewhere: int = 0
    is_unsure: bool = False
    drawn_s: float = _NEVER_S
    refused_until_s: float = _NEVER_S
    waiter_count: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SlotDraw(msgspec.Struct, eq=False):
    """One request's slot."""

    bucket: Bucket
    is_settled: bool = False


@dataclass(slots=True, eq=False)
class _Holding:
    """The time during which this worker is one holder; it draws and keeps until `ends_s`."""

    holder_id: str
    ends_s: float
    renew_s: float
    sequence: int = 0


class Slots:
    """Draws slots for the requests of keys that have such a limit; the others never come here."""

    def __init__(
        self,
        *,
        auth: "auth_pb2_grpc.AuthServiceAsyncStub",
        settings: GatewaySettings,
        clock: Clock,
        end_key: EndKey,
    ) -> None:
        self._auth = auth
        self._settings = settings
        self._clock = clock
        self._end_key = end_key
        self._ids = Uuid7Source()
        self._buckets: dict[str, Bucket] = {}
        self._holding: _Holding | None = None
        self._beginning = asyncio.Lock()
        self._failure_count = 0

    def try_draw(self, principal: Principal) -> SlotDraw | None:
        """Take a slot that is held already; None when auth has to be asked."""
        bucket = self._buckets.get(principal.key_id)
        return None if bucket is None else self._take(bucket)

    async def draw(self, principal: Principal) -> SlotDraw:
        """Take a slot, asking auth for more when all of ours are in use.

        Raises:
            TurnpikeError: `CONCURRENCY_EXCEEDED`; `AUTH_UNAVAILABLE`, or auth's refusal of the key;
                `OVERLOADED` when too many requests of the key wait already.
        """
        bucket = self._buckets.setdefault(principal.key_id, Bucket(principal.key_id))
        bucket.limit = bucket.limit or principal.concurrent_requests
        self._check_hope(bucket)
        if bucket.waiter_count >= self._settings.waiters_max:
            raise _crowded()
        bucket.waiter_count += 1
        failure_count = self._failure_count
        try:
            async with bucket.lock:
                drawn = self._take(bucket)
                if drawn is not None:
                    return drawn
                if self._failure_count != failure_count:
                    # Who waited while auth failed to answer fails with it, not one by one.
                    raise _unavailable()
                return await self._draw_alone(bucket)
        finally:
            bucket.waiter_count -= 1

    def settle(self, draw: SlotDraw) -> None:
        """Put a slot back. Idempotent: only the first call counts."""
        if not draw.is_settled:
            draw.is_settled = True
            draw.bucket.in_use -= 1

    def reading(self, principal: Principal) -> Reading | None:
        """Return what is left of the key's limit; None when nothing is known of it."""
        bucket = self._buckets.get(principal.key_id)
        if bucket is None or not bucket.limit:
            return None
        left = max(0, bucket.held - bucket.in_use) + bucket.free_elsewhere
        return Reading(bucket.limit, left, self._retry_unix_s())

    async def recall(self, key_id: str) -> None:
        """Give up those slots of a key that no request uses: another holder is short of them."""
        bucket = self._buckets.get(key_id)
        if bucket is not None and not bucket.lock.locked():
            await self._give_up(bucket)

    async def live(self, interval_s: float) -> None:
        """Renew this holder in time, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.renew()

    async def tend(self, interval_s: float) -> None:
        """Give up slots that have not been used for a while, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.tidy()

    async def renew(self) -> None:
        """Renew this holder when it is due; end what has outlived it."""
        holding, now_s = self._holding, self._clock.monotonic_s()
        if holding is None:
            return
        if now_s >= holding.ends_s:
            self._lose()
        elif self._buckets and now_s >= holding.renew_s:
            await self._renew(holding, now_s)

    async def tidy(self) -> None:
        """Give up slots that have not been used for a while, and settle what auth is unsure of."""
        idle_since_s = self._clock.monotonic_s() - _IDLE_S
        for bucket in list(self._buckets.values()):
            if bucket.lock.locked() or not (bucket.is_unsure or bucket.drawn_s <= idle_since_s):
                continue
            if not await self._give_up(bucket):
                return

    async def close(self) -> None:
        """End this holder; everything it has is free at once."""
        holding, self._holding, self._buckets = self._holding, None, {}
        if holding is None:
            return
        request = _Step(holder_id=holding.holder_id, step=_Step.STEP_END)
        try:
            await self._auth.RenewHolder(request, timeout=self._settings.rpc_timeout_s)
        except grpc.RpcError as error:
            # Not repeated: auth itself frees them when it has heard nothing for a lease.
            _log.warning("slots_not_returned", why=error_from_rpc(error).reason)

    def _take(self, bucket: Bucket) -> SlotDraw | None:
        holding = self._holding
        if bucket.in_use >= bucket.held or holding is None:
            return None
        now_s = self._clock.monotonic_s()
        if now_s >= holding.ends_s:
            return None
        bucket.in_use += 1
        bucket.drawn_s = now_s
        return SlotDraw(bucket)

    async def _draw_alone(self, bucket: Bucket) -> SlotDraw:
        self._check_hope(bucket)
        holding = await self._held()
        # Whoever waits now is asked for too, so that a burst costs few calls.
        await self._lease(holding, bucket, kept=bucket.held, needed=bucket.waiter_count)
        drawn = self._take(bucket)
        if drawn is not None:
            return drawn
        if self._holding is not holding:
            raise _unavailable()
        bucket.refused_until_s = self._clock.monotonic_s() + _REFUSAL_S
        raise self._exceeded(bucket)

    def _check_hope(self, bucket: Bucket) -> None:
        """Refuse at once what auth has just refused."""
        is_used_up = bucket.in_use >= bucket.held
        if is_used_up and self._clock.monotonic_s() < bucket.refused_until_s:
            raise self._exceeded(bucket)

    async def _held(self) -> _Holding:
        """Return the holding that runs, renewed when it is due, or else a new one."""
        failure_count = self._failure_count
        async with self._beginning:
            if self._failure_count != failure_count:
                raise _unavailable()
            await self.renew()
            if self._holding is None:
                now_s = self._clock.monotonic_s()
                holding = _Holding(self._ids.new(self._clock.unix_ms()), _NEVER_S, _NEVER_S)
                answer = await self._say(holding, _Step.STEP_BEGIN)
                self._extend(holding, answer, now_s)
                self._holding = holding
            return self._holding

    async def _renew(self, holding: _Holding, now_s: float) -> None:
        try:
            answer = await self._say(holding, _Step.STEP_RENEW, at_most_s=holding.ends_s - now_s)
        except TurnpikeError as error:
            _log.warning("slots_not_renewed", why=error.reason)
            return
        if self._holding is not holding:
            return
        if answer.is_lost:
            self._lose()
            return
        self._extend(holding, answer, now_s)

    def _extend(
        self, holding: _Holding, answer: auth_pb2.RenewHolderResponse, asked_s: float
    ) -> None:
        lease_s = answer.duration.ToMilliseconds() / 1000
        ends_s = asked_s + lease_s - min(self._settings.lease_margin_s, lease_s / 2)
        # Answers may arrive in another order than they were asked for.
        holding.ends_s = max(holding.ends_s, ends_s)
        holding.renew_s = max(holding.renew_s, asked_s + lease_s / _RENEWALS_PER_LEASE)

    def _lose(self) -> None:
        """Begin anew without slots; auth may have given them to others."""
        self._holding = None
        for bucket in self._buckets.values():
            bucket.held, bucket.is_unsure = 0, False
            if bucket.in_use:
                _log.error("slots_lost", key_id=bucket.key_id, request_count=bucket.in_use)
                self._end_key(bucket.key_id, _unavailable())

    async def _give_up(self, bucket: Bucket) -> bool:
        """Return what no request uses; False when auth cannot be told."""
        async with bucket.lock:
            holding = self._holding
            if holding is not None and (bucket.held > bucket.in_use or bucket.is_unsure):
                try:
                    await self._lease(holding, bucket, kept=min(bucket.held, bucket.in_use))
                except TurnpikeError as error:
                    _log.warning("slots_not_returned", why=error.reason)
                    return False
        is_needed = bucket.held or bucket.in_use or bucket.waiter_count or bucket.is_unsure
        if not is_needed and self._buckets.get(bucket.key_id) is bucket:
            del self._buckets[bucket.key_id]
        return True

    async def _lease(
        self, holding: _Holding, bucket: Bucket, *, kept: int, needed: int = 0
    ) -> None:
        """Ask for slots, or give some up.

        What is not kept may be another's while the answer is on its way, so it is not used.
        """
        bucket.held, bucket.is_unsure = kept, True
        holding.sequence += 1
        request = auth_pb2.LeaseSlotsRequest(
            key_id=bucket.key_id,
            holder_id=holding.holder_id,
            sequence=holding.sequence,
            kept_slot_count=kept,
            needed_slot_count=needed,
        )
        try:
            answer = await self._auth.LeaseSlots(request, timeout=self._settings.rpc_timeout_s)
        except grpc.RpcError as error:
            raise self._refusal(error) from error
        if self._holding is not holding:
            return
        if answer.is_lost:
            self._lose()
            return
        bucket.is_unsure = False
        bucket.held = answer.slot_count
        bucket.free_elsewhere = answer.free_slot_count
        bucket.limit = answer.concurrent_requests

    async def _say(
        self,
        holding: _Holding,
        step: "auth_pb2.RenewHolderRequest.Step.ValueType",
        *,
        at_most_s: float = math.inf,
    ) -> auth_pb2.RenewHolderResponse:
        request = _Step(holder_id=holding.holder_id, step=step)
        timeout_s = min(self._settings.rpc_timeout_s, at_most_s)
        try:
            return await self._auth.RenewHolder(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._refusal(error) from error

    def _refusal(self, rpc_error: grpc.RpcError) -> TurnpikeError:
        error = error_from_rpc(rpc_error)
        if error.outward.http_status < 500:
            return error
        self._failure_count += 1
        return _unavailable()

    def _retry_unix_s(self) -> int:
        return math.ceil(self._clock.unix_ms() / 1000) + _RETRY_S

    def _exceeded(self, bucket: Bucket) -> TurnpikeError:
        return TurnpikeError(
            Reason.CONCURRENCY_EXCEEDED,
            f"The limit is {bucket.limit} requests at once; try again when one has ended.",
            retry_after_s=str(_RETRY_S),
            rate_limit=str(bucket.limit),
            rate_reset_unix_s=str(self._retry_unix_s()),
        )


def _unavailable() -> TurnpikeError:
    return TurnpikeError(
        Reason.AUTH_UNAVAILABLE,
        "The limit of requests at once cannot be kept right now.",
        retry_after_s=str(_RETRY_S),
    )


def _crowded() -> TurnpikeError:
    return TurnpikeError(
        Reason.OVERLOADED,
        "Too many requests of this key wait for their turn.",
        retry_after_s=str(_RETRY_S),
    )
