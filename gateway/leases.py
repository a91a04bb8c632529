"""Credit leases: holds drawn in memory from money that payment has set aside.

A lease covers many requests while the balance is large and one when it is small. What a request did
not use goes back into its lease; what a lease did not use goes back to payment when it ends, when
payment asks for it, or when the gateway stops. A request of an episode that may have a cap gets a
lease of its own, and what it did not use goes back at once.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc
import msgspec
import structlog

from gateway.principal import Principal
from gateway.settings import GatewaySettings
from gateway.singly import HeldSingly
from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.ids import Uuid7Source
from kit.rpc.status import error_from_rpc
from kit.tasks import TaskPool
from turnpike.payment.v1 import payment_pb2, payment_pb2_grpc

RECALL_SUBJECT = "payment.lease_recall.v1"
_PREFETCH_REQUESTS = 8
_PREFETCH_REST_S = 1.0
_KEPT_S = 10.0
"""How long a return that payment took in part is repeated; then the lease's end frees the rest."""
_log = structlog.get_logger("gateway.leases")


@dataclass(slots=True, eq=False)
class Lease:
    """One lease; `left_nusd` can still be drawn, `owed_nusd` is to be returned.

    One that `is_alone` is for one request.
    """

    lease_id: str
    left_nusd: int
    ends_s: float
    owed_nusd: int = 0
    in_flight_count: int = 0
    is_retired: bool = False
    is_alone: bool = False
    kept_since_s: float | None = None


class Draw(msgspec.Struct, eq=False):
    """One request's hold."""

    lease: Lease
    hold_nusd: int
    is_settled: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a refill brought nothing, and how much was asked for."""

    error: TurnpikeError
    asked_nusd: int


@dataclass(slots=True)
class Purse:
    """The leases of one key; `refill` runs while payment is asked for one more."""

    account_id: str
    key_id: str
    leases: list[Lease] = field(default_factory=list)
    refill: asyncio.Future[Refusal | None] | None = None
    waiting_nusd: int = 0
    waiter_count: int = 0
    prefetch_after_s: float = 0.0


class CreditLeases:
    """Draws holds for requests and settles them."""

    def __init__(
        self,
        *,
        payment: "payment_pb2_grpc.PaymentServiceAsyncStub",
        settings: GatewaySettings,
        clock: Clock,
        holder_id: str,
        tasks: TaskPool,
    ) -> None:
        self._payment = payment
        self._settings = settings
        self._clock = clock
        self._holder_id = holder_id
        self._tasks = tasks
        self._ids = Uuid7Source()
        self._purses: dict[str, Purse] = {}
        self._retired: list[Lease] = []
        self._singly = HeldSingly()
        self._is_closed = False

    def try_draw(self, principal: Principal, need_nusd: int, episode_id: str = "") -> Draw | None:
        """Take a hold from what is there; None when payment has to be asked."""
        if episode_id and principal.account_id in self._singly:
            return None
        purse = self._purses.get(principal.key_id)
        if purse is None:
            return None
        now_s = self._clock.monotonic_s()
        for lease in purse.leases:
            if lease.left_nusd >= need_nusd and now_s < lease.ends_s:
                lease.left_nusd -= need_nusd
                lease.in_flight_count += 1
                if lease.left_nusd < _PREFETCH_REQUESTS * need_nusd:
                    self._prefetch(purse, need_nusd, now_s)
                return Draw(lease, need_nusd)
        return None

    async def draw(self, principal: Principal, need_nusd: int, episode_id: str = "") -> Draw:
        """Take a hold, asking payment for a lease when there is none to take it from.

        Raises:
            TurnpikeError: `INSUFFICIENT_QUOTA`, `BILLING_HARD_LIMIT_REACHED` and other refusals of
                payment; `LEDGER_UNAVAILABLE`; `OVERLOADED`, too many requests of the key wait.
        """
        purse = self._purse(principal)
        if purse.waiter_count >= self._settings.waiters_max:
            raise TurnpikeError(
                Reason.OVERLOADED,
                "Too many requests of this key wait for credit.",
                retry_after_s="1",
            )
        purse.waiter_count += 1
        try:
            drawn = await self._draw_shared(purse, principal, need_nusd, episode_id)
            return drawn or await self._draw_alone(purse, need_nusd, episode_id)
        finally:
            purse.waiter_count -= 1

    async def _draw_shared(
        self, purse: Purse, principal: Principal, need_nusd: int, episode_id: str
    ) -> Draw | None:
        """Take a hold from a lease for many; None when the request needs one of its own."""
        # What was asked before this request came may be refused for what has come back since.
        older = purse.refill
        purse.waiting_nusd += need_nusd
        try:
            while not (episode_id and purse.account_id in self._singly):
                drawn = self.try_draw(principal, need_nusd, episode_id)
                if drawn is not None:
                    return drawn
                refill = purse.refill or self._start_refill(purse, need_nusd)
                refusal = await asyncio.shield(refill)
                if refusal is not None:
                    drawn = self.try_draw(principal, need_nusd, episode_id)
                    if drawn is not None:
                        return drawn
                    if refill is not older and need_nusd >= refusal.asked_nusd:
                        raise _again(refusal.error)
            return None
        finally:
            purse.waiting_nusd -= need_nusd

    async def _draw_alone(self, purse: Purse, need_nusd: int, episode_id: str) -> Draw:
        """Take a hold from a lease of its own, which a caller that leaves gives back."""
        asked: asyncio.Future[Draw | Refusal] = asyncio.get_running_loop().create_future()
        work = self._ask_alone(purse, need_nusd, episode_id, asked)
        if not self._tasks.start(work, name="credit-alone"):
            raise _unavailable()
        try:
            found = await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_up)
            raise
        if isinstance(found, Refusal):
            raise found.error
        return found

    def _give_up(self, asked: asyncio.Future[Draw | Refusal]) -> None:
        found = asked.result()
        if isinstance(found, Draw):
            self.settle(found, 0)

    async def _ask_alone(
        self, purse: Purse, need_nusd: int, episode_id: str, asked: asyncio.Future[Draw | Refusal]
    ) -> None:
        found: Draw | Refusal = Refusal(_unavailable(), need_nusd)
        try:
            lease = await self._asked(purse, need_nusd, episode_id)
            if isinstance(lease, Lease):
                lease.left_nusd -= need_nusd
                lease.in_flight_count, lease.is_alone = 1, True
                self._retire(purse, [lease])
                found = Draw(lease, need_nusd)
            else:
                found = lease
        finally:
            asked.set_result(found)

    def settle(self, draw: Draw, charge_nusd: int) -> None:
        """Put back what a request did not use. Idempotent: only the first call counts."""
        if draw.is_settled:
            return
        draw.is_settled = True
        lease = draw.lease
        lease.in_flight_count -= 1
        unused_nusd = max(0, draw.hold_nusd - charge_nusd)
        if lease.is_retired:
            lease.owed_nusd += unused_nusd
            if lease.is_alone and unused_nusd:
                # The next request of the episode may need it; else the next tidying returns it.
                self._tasks.start(self._return([lease]), name="credit-return")
        else:
            lease.left_nusd += unused_nusd

    async def recall(self, account_id: str, *, holds_episodes_singly: bool = False) -> None:
        """Return everything of an account that nobody has drawn, and note how it holds episodes."""
        if holds_episodes_singly:
            now_s = self._clock.monotonic_s()
            self._singly.learn(account_id, is_singly=True, asked_s=now_s)
        for purse in list(self._purses.values()):
            if purse.account_id == account_id:
                self._retire(purse, purse.leases)
        await self._return_owed()

    def holds_episodes_singly(self, account_id: str) -> bool:
        """Return whether the account's episodes are known to need a lease for each request."""
        return account_id in self._singly

    async def tend(self, interval_s: float) -> None:
        """Return what ended leases left, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self.tidy()

    async def tidy(self) -> None:
        """Return what ended leases left, and forget keys that hold nothing."""
        now_s = self._clock.monotonic_s()
        for key_id, purse in list(self._purses.items()):
            self._retire(purse, (lease for lease in purse.leases if now_s >= lease.ends_s))
            if not purse.leases and purse.refill is None and not purse.waiter_count:
                del self._purses[key_id]
        self._singly.tidy(now_s)
        await self._return_owed()

    async def close(self) -> None:
        """Return everything that nobody has drawn; a refill that still runs gives back its own."""
        self._is_closed = True
        for purse in self._purses.values():
            self._retire(purse, purse.leases)
        await self._return_owed()

    def _purse(self, principal: Principal) -> Purse:
        purse = self._purses.get(principal.key_id)
        if purse is None:
            purse = Purse(principal.account_id, principal.key_id)
            self._purses[principal.key_id] = purse
        return purse

    def _prefetch(self, purse: Purse, need_nusd: int, now_s: float) -> None:
        if purse.refill is None and now_s >= purse.prefetch_after_s and not self._is_closed:
            purse.prefetch_after_s = now_s + _PREFETCH_REST_S
            self._start_refill(purse, need_nusd)

    def _start_refill(self, purse: Purse, need_nusd: int) -> asyncio.Future[Refusal | None]:
        refill: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        purse.refill = refill
        if not self._tasks.start(self._refill(purse, need_nusd, refill), name="credit-refill"):
            purse.refill = None
            refill.set_result(Refusal(_unavailable(), need_nusd))
        return refill

    async def _refill(
        self, purse: Purse, need_nusd: int, refill: asyncio.Future[Refusal | None]
    ) -> None:
        refusal: Refusal | None = Refusal(_unavailable(), need_nusd)
        try:
            small = [lease for lease in purse.leases if lease.left_nusd < need_nusd]
            self._retire(purse, small)
            await self._return(small)
            refusal = await self._ask(purse, need_nusd)
        finally:
            if refusal is not None:
                purse.prefetch_after_s = self._clock.monotonic_s() + _PREFETCH_REST_S
            purse.refill = None
            refill.set_result(refusal)

    async def _ask(self, purse: Purse, need_nusd: int) -> Refusal | None:
        lease = await self._asked(purse, need_nusd)
        return None if isinstance(lease, Lease) else lease

    async def _asked(self, purse: Purse, need_nusd: int, episode_id: str = "") -> Lease | Refusal:
        """Return a lease that is among the purse's, or why there is none."""
        try:
            lease = await self._lease(purse, need_nusd, episode_id)
        except grpc.RpcError as rpc_error:
            error = error_from_rpc(rpc_error)
            if error.outward.http_status >= 500:
                error = _unavailable()
            return Refusal(error, need_nusd)
        purse.leases.append(lease)
        is_over = self._clock.monotonic_s() >= lease.ends_s
        if is_over or self._is_closed or lease.left_nusd < need_nusd:
            # Nobody can draw from it, and asking again at once would end just so.
            self._retire(purse, [lease])
            await self._return([lease])
            return Refusal(_unavailable(), need_nusd)
        return lease

    async def _lease(self, purse: Purse, need_nusd: int, episode_id: str) -> Lease:
        asked_s = self._clock.monotonic_s()
        shared_nusd = purse.waiting_nusd + self._settings.lease_requests * need_nusd
        request = payment_pb2.LeaseCreditRequest(
            account_id=purse.account_id,
            key_id=purse.key_id,
            need_nusd=need_nusd,
            want_nusd=need_nusd if episode_id else shared_nusd,
            holder_id=self._holder_id,
            request_id=self._ids.new(self._clock.unix_ms()),
            episode_id=episode_id,
        )
        answer = await self._payment.LeaseCredit(request, timeout=self._settings.rpc_timeout_s)
        self._singly.learn(
            purse.account_id, is_singly=answer.holds_episodes_singly, asked_s=asked_s
        )
        life_s = answer.duration.ToMilliseconds() / 1000 - self._settings.lease_margin_s
        return Lease(answer.lease_id, answer.granted_nusd, asked_s + life_s)

    def _retire(self, purse: Purse, leases: Iterable[Lease]) -> None:
        for lease in list(leases):
            purse.leases.remove(lease)
            lease.is_retired = True
            lease.owed_nusd, lease.left_nusd = lease.left_nusd, 0
            self._retired.append(lease)

    async def _return_owed(self) -> None:
        await self._return(list(self._retired))
        self._retired = [
            lease for lease in self._retired if lease.in_flight_count or lease.owed_nusd
        ]

    async def _return(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            owed_nusd, lease.owed_nusd = lease.owed_nusd, 0
            if owed_nusd:
                lease.owed_nusd += await self._give_back(lease, owed_nusd)
            if lease.owed_nusd and lease not in self._retired:
                self._retired.append(lease)

    async def _give_back(self, lease: Lease, undrawn_nusd: int) -> int:
        """Return credit; give what payment keeps until it has heard how a request ended."""
        request = payment_pb2.ReturnCreditRequest(
            lease_id=lease.lease_id,
            undrawn_nusd=undrawn_nusd,
            request_id=self._ids.new(self._clock.unix_ms()),
        )
        try:
            answer = await self._payment.ReturnCredit(request, timeout=self._settings.rpc_timeout_s)
        except grpc.RpcError as error:
            # Not repeated: payment itself frees what no request named when the lease ends.
            _log.warning("credit_not_returned", why=error_from_rpc(error).reason)
            return 0
        kept_nusd = undrawn_nusd - answer.released_nusd
        now_s = self._clock.monotonic_s()
        if not kept_nusd:
            lease.kept_since_s = None
        elif lease.kept_since_s is None:
            lease.kept_since_s = now_s
        elif now_s - lease.kept_since_s >= _KEPT_S:
            return 0
        return kept_nusd


def _unavailable() -> TurnpikeError:
    return TurnpikeError(
        Reason.LEDGER_UNAVAILABLE,
        "Credit cannot be reserved right now; nothing was sent or charged.",
        retry_after_s="1",
    )


def _again(error: TurnpikeError) -> TurnpikeError:
    """Return one waiter's own copy: an exception that many raise collects all their traces."""
    return TurnpikeError(error.reason, error.message, **error.metadata)
