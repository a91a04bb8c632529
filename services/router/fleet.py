"""The upstreams that are open now: adapters, their breakers, and the requests they run.

The fleet follows the catalogue: `adopt` opens what is new and closes what is gone as soon as its
last request has ended.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from services.router.catalog import Deployment
from services.router.health import Breaker, OpenFailures
from services.router.provider_entries import ProviderEntry
from services.router.providers.port import (
    Asked,
    Backlogged,
    Failure,
    Provider,
    ProviderError,
    Traits,
    traits_of,
)
from services.router.speed import FirstTokens, Speed
from services.router.turn_states import TurnStates

CREDENTIALS_COOL_S = 60.0
"""How long a deployment rests after its provider refused our key, seconds."""
_log = structlog.get_logger("router.fleet")


def _ignored(_name: str, _rest_s: float) -> None:
    """Tell nobody."""


OpenProvider = Callable[["Wanted"], AbstractAsyncContextManager[Provider]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deployment that should be open, and all that its adapter is made of."""

    deployment: Deployment
    entry: ProviderEntry
    fingerprint: str


@dataclass(slots=True)
class Member:
    """One deployment's adapter."""

    provider: Provider
    stack: AsyncExitStack
    fingerprint: str
    breaker: Breaker
    traits: Traits
    open_failures: OpenFailures = field(default_factory=OpenFailures)
    in_flight_count: int = 0
    speed: Speed = field(default_factory=Speed)
    first_tokens: FirstTokens = field(default_factory=FirstTokens)
    is_leaving: bool = False

    @property
    def backlog_count(self) -> int:
        """How many requests of others the upstream has, as far as the adapter knows."""
        return self.provider.backlog_count() if isinstance(self.provider, Backlogged) else 0


class Attempt:
    """One call of a deployment; exactly one of `succeeded` and `failed` may be called.

    `start_s` is the loop time at which it began.
    """

    __slots__ = ("_fleet", "_is_over", "_is_told", "_member", "_name", "deployment", "start_s")

    def __init__(self, fleet: "Fleet", deployment: Deployment, member: Member) -> None:
        self._fleet = fleet
        self._name = deployment.name
        self._member = member
        self._is_told = False
        self._is_over = False
        self.deployment = deployment
        self.start_s = 0.0

    @property
    def provider(self) -> Provider:
        """The adapter to call."""
        return self._member.provider

    @property
    def traits(self) -> Traits:
        """What the adapter has beside what all have."""
        return self._member.traits

    @property
    def is_forgetful(self) -> bool:
        """Whether the adapter may want something back of earlier answers."""
        return self._member.traits.wants_back is not None

    async def prepared(self, account_id: str, asked: Asked) -> Asked:
        """Return what is asked with what the adapter wants back of an account's earlier answers."""
        turns, wants_back = self._fleet.turns, self._member.traits.wants_back
        wanted = wants_back(*asked) if turns is not None and wants_back is not None else None
        if turns is None or wanted is None:
            return asked
        return await turns.prepared(account_id, asked, wanted)

    @property
    def speed(self) -> Speed:
        """How fast the deployment has been."""
        return self._member.speed

    @property
    def first_tokens(self) -> FirstTokens:
        """How long first tokens took."""
        return self._member.first_tokens

    def succeeded(self, now_s: float) -> None:
        """The upstream gave a whole answer, at this loop time."""
        self._is_told = True
        self._count("ok")
        self._member.breaker.succeeded(now_s)

    def failed(self, error: ProviderError) -> None:
        """The upstream failed in a way that says something about its health."""
        self._is_told = True
        self._count(error.failure)
        cool_s = error.retry_after_s
        if error.failure is Failure.CREDENTIALS:
            cool_s = max(cool_s, CREDENTIALS_COOL_S)
            _log.error("provider_refused_credentials", deployment=self._name, status=error.status)
        self._member.breaker.failed(asyncio.get_running_loop().time(), cool_s=cool_s)

    def failed_open(self, now_s: float, request_id: str) -> None:
        """The upstream gave a whole answer that broke the constraint it was asked for."""
        self._is_told = True
        self._count("invalid_output")
        self._fleet.invalid_output_counts[self._name,] += 1
        self._member.open_failures.add(now_s)
        self._fleet.revision += 1
        self._member.breaker.succeeded(now_s)
        _log.error("provider_failed_open", deployment=self._name, request_id=request_id)

    def left_unjudged(self) -> None:
        """The upstream gave a whole answer that could not be held against its constraint."""
        self._fleet.unjudged_output_counts[self._name,] += 1

    def begin(self) -> Self:
        """Begin the call, which `end` ends."""
        self._member.in_flight_count += 1
        self._member.breaker.claim()
        return self

    __enter__ = begin

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.end()

    def swap(self, other: "Attempt") -> None:
        """Change places with another call: whoever holds this one now holds that one."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, theirs)
            setattr(other, name, mine)

    def end(self) -> None:
        """End the call. Idempotent: only the first time counts."""
        if self._is_over:
            return
        self._is_over = True
        if not self._is_told:
            self._count("abandoned")
            self._member.breaker.abandoned()
        self._member.in_flight_count -= 1
        if self._member.is_leaving and not self._member.in_flight_count:
            self._fleet.dismiss(self._member)

    def _count(self, result: str) -> None:
        self._fleet.attempt_counts[self._name, result] += 1


class Fleet:
    """Adapters by deployment name.

    `attempt_counts` are ended attempts by deployment and result: `ok`, a failure that says
    something about the deployment, or `abandoned`, when it ended without saying anything about it.
    `invalid_output_counts` are answers by deployment that broke their constraint,
    `unjudged_output_counts` those that could not be held against it. `revision` grows whenever
    somebody may be called who might not before, or the other way round. `on_turn` is told when we
    find a deployment down, with how long it should rest, or up again, with 0. `turns` has what
    adapters want back of earlier answers.
    """

    def __init__(self, *, open_provider: OpenProvider, turns: TurnStates | None = None) -> None:
        self._open_provider = open_provider
        self.turns = turns
        self._members: dict[str, Member] = {}
        self._dismissed: list[Member] = []
        self.revision = 0
        self.on_turn: Callable[[str, float], None] = _ignored
        self.attempt_counts: Counter[tuple[str, ...]] = Counter()
        self.invalid_output_counts: Counter[tuple[str, ...]] = Counter()
        self.unjudged_output_counts: Counter[tuple[str, ...]] = Counter()

    def member(self, deployment: Deployment) -> Member | None:
        """Return what is known of a deployment; None while it is not open."""
        return self._members.get(deployment.name)

    def heard(self, name: str, rest_s: float) -> None:
        """Take another router's word about a deployment: how long it should rest, 0 when it is up.

        Who is said to be up may be tried at once; that it is, we find out ourselves.
        """
        member = self._members.get(name)
        if member is None:
            return
        now_s = asyncio.get_running_loop().time()
        if rest_s > 0:
            member.breaker.cool(now_s + rest_s)
        else:
            member.breaker.cleared(now_s)

    def attempt(self, deployment: Deployment) -> Attempt:
        """Return a context in which the deployment is called once.

        Raises:
            ProviderError: `UNAVAILABLE`, when a reload took the deployment away meanwhile.
        """
        member = self._members.get(deployment.name)
        if member is None:
            raise ProviderError(Failure.UNAVAILABLE, "The deployment is gone.")
        return Attempt(self, deployment, member)

    def load(self, name: str) -> int:
        """Return how many calls of a deployment run, and what its upstream has beside them."""
        member = self._members.get(name)
        return 0 if member is None else member.in_flight_count + member.backlog_count

    def in_flight(self) -> Mapping[str, int]:
        """Return running calls by deployment."""
        return {name: member.in_flight_count for name, member in self._members.items()}

    def open_breakers(self) -> Mapping[str, bool]:
        """Return by deployment whether its breaker keeps calls away."""
        return {name: not member.breaker.is_closed for name, member in self._members.items()}

    async def adopt(self, wanted: Iterable[Wanted]) -> None:
        """Open what is new or changed, and let go of what is gone."""
        by_name = {item.deployment.name: item for item in wanted}
        for name, member in list(self._members.items()):
            if name not in by_name or by_name[name].fingerprint != member.fingerprint:
                del self._members[name]
                self._leave(member)
                self._changed()
        for name, item in by_name.items():
            if name not in self._members:
                stack = AsyncExitStack()
                provider = await stack.enter_async_context(self._open_provider(item))
                breaker = Breaker(self._changed, partial(self._turned, name))
                self._members[name] = Member(
                    provider, stack, item.fingerprint, breaker, traits_of(provider)
                )
                self._changed()

    async def tend(self, interval_s: float) -> None:
        """Close what was let go and probe what is down, for ever."""
        while True:
            await asyncio.sleep(interval_s)
            await self._close_dismissed()
            for member in list(self._members.values()):
                if not member.breaker.is_closed and await member.provider.probe():
                    member.breaker.probed(asyncio.get_running_loop().time())

    def dismiss(self, member: Member) -> None:
        """Mark an adapter without requests to be closed."""
        self._dismissed.append(member)

    async def close(self) -> None:
        """Close every adapter."""
        for member in self._members.values():
            await member.stack.aclose()
        self._members.clear()
        await self._close_dismissed()

    def _changed(self) -> None:
        self.revision += 1

    def _turned(self, name: str, rest_s: float) -> None:
        self.on_turn(name, rest_s)

    async def _close_dismissed(self) -> None:
        while self._dismissed:
            await self._dismissed.pop().stack.aclose()

    def _leave(self, member: Member) -> None:
        member.is_leaving = True
        if not member.in_flight_count:
            self.dismiss(member)


@asynccontextmanager
async def open_fleet(
    open_provider: OpenProvider, *, turns: TurnStates | None = None
) -> AsyncIterator[Fleet]:
    """Open an empty fleet; on exit every adapter is closed."""
    fleet = Fleet(open_provider=open_provider, turns=turns)
    try:
        yield fleet
    finally:
        await fleet.close()
