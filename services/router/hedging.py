"""A second call beside a first one that is late: whoever says something first answers.

Off unless `router.hedge_share` is set. Only native deployments are asked twice, only before any
content, and not before it is known after how long a first token of theirs is late. The caller pays
the winner; what a call cost that was given up is an event of the operator's account.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from itertools import islice
from typing import Final, NamedTuple

import structlog

from kit.clock import Clock
from kit.errors import TurnpikeError
from kit.ids import OPERATOR_ID
from services.router.catalog import Deployment, DeploymentType
from services.router.delivery import estimated
from services.router.fleet import Attempt, Fleet
from services.router.legs import Try
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.retry_budget import RetryBudget
from services.router.run import Run, held
from services.router.settings import RouterSettings
from services.router.speed import Kind, size_of
from services.router.usage_events import TokenUsage, UsageEvent, price_message, set_cost
from services.router.usage_log import UsageLog
from turnpike.type.v1.usage_pb2 import USAGE_SOURCE_UPSTREAM

SAVED_MAX: Final = 10.0
"""Second calls that requests which needed none may save up."""

_log = structlog.get_logger("router.hedging")
Batches = AsyncGenerator[Batch, None]


class Parts(NamedTuple):
    """What second calls are made of."""

    settings: RouterSettings
    fleet: Fleet
    usage: UsageLog
    retries: RetryBudget
    clock: Clock


class Racer:
    """One of the calls, and what was read of it; `error` is why it can give no answer."""

    __slots__ = ("attempt", "batches", "error", "ignored", "is_given_up", "stream")

    def __init__(self, attempt: Attempt, stream: Batches, ignored: tuple[str, ...]) -> None:
        self.attempt = attempt
        self.stream = stream
        self.ignored = ignored
        self.batches: list[Batch] = []
        self.error: ProviderError | TurnpikeError | None = None
        self.is_given_up = False

    @property
    def is_final(self) -> bool:
        """Whether nobody else need be asked: there is an answer, or a refusal that stands."""
        return not isinstance(self.error, ProviderError) or not self.error.is_retryable

    async def read(self) -> None:
        """Read up to the first content."""
        kept = b""
        try:
            async for batch in self.stream:
                self.batches.append(batch)
                if batch.content_event_count or batch.HasField("finish"):
                    return
                kept = held(kept, batch.sse)
            self.error = ProviderError(Failure.INCOMPLETE, "The provider ended without an answer.")
        except (ProviderError, TurnpikeError) as error:
            self.error = error

    def usage(self, prompt_tokens_max: int) -> TokenUsage:
        """Return what the call is taken to have used."""
        last = self.batches[-1] if self.batches else Batch()
        if last.HasField("running_usage"):
            return last.running_usage
        if last.HasField("finish") and last.finish.usage.source == USAGE_SOURCE_UPSTREAM:
            return last.finish.usage
        return estimated(prompt_tokens_max, last.content_event_count, is_whole=True)


class Hedging:
    """Makes second calls; `counts` are those that ended, by deployment and result.

    Results are `won`, `lost`, `failed`, and `abandoned` where the caller went away.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        begin: Callable[[Run, Attempt, Try], Batches],
        note: Callable[[Run, Attempt, ProviderError], None],
    ) -> None:
        self._parts = parts
        self._begin = begin
        self._note = note
        self._saved = 0.0
        self.counts: Counter[tuple[str, ...]] = Counter()

    def watched(self, run: Run, attempt: Attempt, turn: Try, stream: Batches) -> Batches:
        """Return the batches of a call, or of one beside it should this one be late.

        Who brings keys for providers is not called twice.
        """
        if run.call_count > 1 or run.own is not None:
            return stream
        self._saved = min(self._saved + self._parts.settings.hedge_share, SAVED_MAX)
        is_wanted = (
            self._saved >= 1.0
            and turn.deployment.type is DeploymentType.NATIVE
            and turn.leg.decision.count > 1
            and not run.envelope.unit_count_max
        )
        late_s = attempt.first_tokens.late_s(_kind(run)) if is_wanted else None
        if late_s is None:
            return stream
        return self._raced(run, turn, Racer(attempt, stream, run.ignored), late_s)

    def measured(self, run: Run, attempt: Attempt) -> None:
        """Remember how long the first content of a whole answer took."""
        first_s = run.start_s + run.usage.event.ttft_ms / 1000 - attempt.start_s
        attempt.first_tokens.add(_kind(run), first_s)

    async def _raced(self, run: Run, turn: Try, first: Racer, late_s: float) -> Batches:
        """Yield the batches of whoever says something first.

        Raises:
            ProviderError: Nobody did; failures before the last one are noted.
            TurnpikeError: As a provider did.
        """
        racers = [first]
        winner: Racer | None = None
        try:
            winner = await self._winner(run, turn, racers, late_s)
            if len(racers) > 1:
                await self._decide(run, racers, winner)
            if winner.error is not None:
                raise winner.error
            for batch in winner.batches:
                yield batch
            async for batch in winner.stream:
                yield batch
        finally:
            if winner is None and len(racers) > 1:
                self._count(racers[1], "abandoned")
                await self._give_up(run, racers[1])
            await (winner or first).stream.aclose()

    async def _winner(self, run: Run, turn: Try, racers: list[Racer], late_s: float) -> Racer:
        """Return whose answer or failure is the request's; who is slower is cancelled."""
        async with asyncio.TaskGroup() as group:
            running = {group.create_task(racers[0].read()): racers[0]}
            done, _ = await asyncio.wait(running, timeout=late_s)
            if not done and (second := self._second(run, turn)) is not None:
                racers.append(second)
                running[group.create_task(second.read())] = second
            while True:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                over = [racer for task, racer in running.items() if task in done]
                final = next((racer for racer in over if racer.is_final), None)
                if final is not None or len(over) == len(running):
                    break
                running = {task: racer for task, racer in running.items() if task not in done}
                for racer in over:
                    await self._give_up(run, racer)
            for task in running:
                task.cancel()
        return final or over[-1]

    def _second(self, run: Run, turn: Try) -> Racer | None:
        """Begin the second call; None where there is nobody, or it may not be made."""
        deployment = self._beside(turn)
        now_s = asyncio.get_running_loop().time()
        if deployment is None or self._saved < 1.0 or not self._parts.retries.take(now_s):
            return None
        self._saved -= 1.0
        run.hedged = deployment.name
        attempt = self._parts.fleet.attempt(deployment).begin()
        beside = Try(turn.leg, deployment, max(1, turn.left - 1))
        stream = self._begin(run, attempt, beside)
        return Racer(attempt, stream, run.ignored)

    def _beside(self, turn: Try) -> Deployment | None:
        """Return the next native deployment that the request would be tried at and that is well."""
        decision, fleet = turn.leg.decision, self._parts.fleet
        count = min(decision.count, self._parts.settings.attempts_max)
        for candidate in islice(decision.tries(), count):
            deployment = turn.leg.taken.deployments[candidate.name]
            if deployment is turn.deployment or deployment.type is not DeploymentType.NATIVE:
                continue
            member = fleet.member(deployment)
            if member is not None and member.traits.wants_back is not None:
                continue
            if member is not None and member.breaker.is_closed:
                return deployment
        return None

    async def _decide(self, run: Run, racers: list[Racer], winner: Racer) -> None:
        """Give up who lost, and make the winner's call the one that is answered and charged."""
        first, second = racers
        if second.error is not None:
            self._count(second, "failed")
        else:
            self._count(second, "won" if winner is second else "lost")
        await self._give_up(run, first if winner is second else second)
        run.ignored = winner.ignored
        run.usage.reroute(winner.attempt.deployment, run.call_count)
        if winner is second:
            # The dispatcher holds the first one, and goes on with what it stands for.
            first.attempt.swap(second.attempt)

    async def _give_up(self, run: Run, racer: Racer) -> None:
        """End a call; one that had not failed by itself is an event of the operator's."""
        if racer.is_given_up:
            return
        racer.is_given_up = True
        await racer.stream.aclose()
        if isinstance(racer.error, ProviderError):
            self._note(run, racer.attempt, racer.error)
        elif racer.error is None:
            self._lost(run, racer)
        racer.attempt.end()

    def _lost(self, run: Run, racer: Racer) -> None:
        """Write down what a call cost that nobody is charged for."""
        attempt, kind = racer.attempt, _kind(run)
        ran_s = asyncio.get_running_loop().time() - attempt.start_s
        late_s = attempt.first_tokens.late_s(kind)
        if late_s is not None and ran_s >= late_s:
            # It would have taken at least so long: to leave it out would make ever more look late.
            attempt.first_tokens.add(kind, ran_s)
        unix_ms = self._parts.clock.unix_ms()
        event = hedged_event(run, attempt.deployment, racer, unix_ms=unix_ms, ran_s=ran_s)
        if not self._parts.usage.adopt([event]):
            _log.error("hedge_not_journalled", request_id=run.request_id)

    def _count(self, second: Racer, result: str) -> None:
        self.counts[second.attempt.deployment.name, result] += 1


def hedged_event(
    run: Run, deployment: Deployment, racer: Racer, *, unix_ms: int, ran_s: float
) -> UsageEvent:
    """Return the outcome of a call that was given up: it has a price and use, and is not charged.

    Where somebody is owed for the deployment's answers it says what for this one.
    """
    request_id = f"{run.request_id}:hedge"
    event = UsageEvent(
        event_id=f"{request_id}:outcome",
        kind=UsageEvent.KIND_OUTCOME,
        outcome=UsageEvent.OUTCOME_HEDGED,
        request_id=request_id,
        account_id=OPERATOR_ID,
        model_id=run.model.model_id,
        deployment=deployment.name,
        provider=deployment.kind,
        price=price_message(deployment.price),
        usage=racer.usage(run.envelope.prompt_tokens_max),
        start_unix_ms=unix_ms - round(ran_s * 1000),
        end_unix_ms=unix_ms,
        attempt_count=1,
        is_streaming=run.envelope.is_streaming,
    )
    if deployment.supply is not None:
        event.supply.CopyFrom(deployment.supply.message())
        set_cost(event)
    return event


def _kind(run: Run) -> Kind:
    envelope = run.envelope
    size = size_of(envelope.prompt_tokens_max)
    return Kind(envelope.operation, envelope.is_streaming, size)
