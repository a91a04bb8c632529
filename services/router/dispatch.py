"""The one loop from request to answer: candidates, attempts, fallback, usage.

A request is journalled before any upstream sees it and settled before its last bytes leave. Until
the first content another candidate may be tried; after it the answer stands or breaks.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from itertools import chain
from random import Random

import msgspec

from kit.clock import Clock
from kit.errors import TurnpikeError
from kit.ids import Uuid7Source
from services.router.asking import ask
from services.router.attempts import broken_off
from services.router.cache_marks import may_have_marks
from services.router.catalog import Catalogue, Deployment
from services.router.constrained import constrained
from services.router.constraints import asked_constraint
from services.router.decisions import Decision
from services.router.delivery import Delivered, counted, counted_units
from services.router.fleet import Attempt, Fleet
from services.router.hedging import Hedging, Parts
from services.router.legs import Legs, Try
from services.router.own_keys import OwnKeyRing
from services.router.own_tries import NO_KEYS, OwnKeys, OwnTries, own_key
from services.router.pricing import capped
from services.router.providers.port import (
    Asked,
    Batch,
    Body,
    Failure,
    InvalidOutputError,
    ProviderError,
)
from services.router.run import Run, held, intent, measure, usage_json
from services.router.second_tries import SecondTries
from services.router.settings import RouterSettings
from services.router.sliced import SlicedRuns
from services.router.snapshot_keeper import SnapshotKeeper
from services.router.traces import Trace
from services.router.usage_events import UsageEvent, charged_nusd, price_row
from services.router.usage_log import UsageLog
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

_decode_body = msgspec.json.Decoder(Body).decode


class Dispatcher:
    """Runs chat completions against the fleet of upstreams.

    `retries` is about calls beyond the first, `hedging` about those beside it, if any.
    """

    def __init__(
        self,
        *,
        settings: RouterSettings,
        catalogue: Callable[[], Catalogue],
        fleet: Fleet,
        usage: UsageLog,
        clock: Clock,
        keys: OwnKeyRing | None = None,
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._usage = usage
        self._clock = clock
        self._ids = Uuid7Source()
        self._snapshots = SnapshotKeeper(fleet, clock)
        self.retries = SecondTries(settings, fleet)
        self.hedging: Hedging | None = None
        if settings.hedge_share:
            parts = Parts(settings, fleet, usage, self.retries.budget, clock)
            self.hedging = Hedging(parts, begin=self._beside, note=self.retries.note)
        self._legs = Legs(
            catalogue=catalogue,
            snapshots=self._snapshots,
            in_flight=fleet.load,
            seed=Random().getrandbits,  # noqa: S311 - no secret
            attempts_max=settings.attempts_max,
        )
        self._keys = keys
        self.sliced = SlicedRuns(wait_max_s=settings.stream_total_s)

    async def run(
        self, request: router_pb2.RunRequest, trace: Trace | None = None
    ) -> AsyncGenerator[Batch, None]:
        """Yield one answer's batches.

        One generator from here to the provider: each further one would cost every chunk.

        Raises:
            TurnpikeError: Before the first batch, for everything that went wrong until then.
        """
        loop, account_id = asyncio.get_running_loop(), request.envelope.account_id
        own = NO_KEYS if self._keys is None else self._keys.known(account_id)
        own = await self._own_keys(account_id) if own is None else own
        run, tries = self._start(request, loop.time(), own)
        run.trace = trace
        outcome = UsageEvent.OUTCOME_CLIENT_CLOSED
        try:
            for turn in tries:
                if (attempted := self._attempt(run, turn.deployment)) is None:
                    continue
                with attempted as attempt:
                    deadline_s = self._begin(run, attempt, turn)
                    asked = ask(run, attempt, idle_s=self._settings.idle_s)
                    asked = (
                        await attempt.prepared(run.envelope.account_id, asked)
                        if attempt.is_forgetful
                        else asked
                    )
                    stream = self._answer(run, attempt, asked, deadline_s)
                    stream = (
                        stream
                        if self.hedging is None
                        else self.hedging.watched(run, attempt, turn, stream)
                    )
                    try:
                        async for batch in stream:
                            now_s = loop.time()
                            if self._accept(run, attempt, batch, now_s):
                                yield batch
                                self._handed_over(run, batch, now_s)
                        run.check_ended()
                    except ProviderError as error:
                        self._failed(run, attempt, error)
                    finally:
                        await stream.aclose()
                if run.last is not None:
                    yield run.last
                    outcome = outcome if run.unpaid is None else await self.sliced.outcome(run)
                    return
                if not await self._goes_on(run):
                    break
            raise run.attempts.verdict()
        except TurnpikeError as error:
            outcome = UsageEvent.OUTCOME_REFUSED
            error.metadata["request_id"] = run.request_id
            raise
        finally:
            # The way out for a caller that went away; a no-op once the answer was settled.
            run.usage.close(run.delivered.usage(), outcome)

    async def _goes_on(self, run: Run) -> bool:
        """Return whether another may be tried after one that failed."""
        if run.is_refused or asyncio.get_running_loop().time() >= run.deadline_s:
            return False
        if run.own is not None:
            await run.own.refresh()
        return True

    async def _own_keys(self, account_id: str) -> OwnKeys:
        """Return an account's keys, read anew where memory does not know them."""
        if self._keys is None:
            return NO_KEYS
        known = self._keys.known(account_id)
        return await self._keys.read(account_id) if known is None else known

    def explain(self, request: router_pb2.ExplainRouteRequest) -> Decision:
        """Return the choice that a request would get now.

        Raises:
            TurnpikeError: `MODEL_NOT_FOUND` or `INVALID_VALUE`.
        """
        envelope, now_s = request.envelope, asyncio.get_running_loop().time()
        body = {} if envelope.content_type else _decode_body(request.body)
        is_constrained = asked_constraint(envelope.operation, body) is not None
        return self._legs.decided(envelope, now_s, is_constrained=is_constrained).decision

    def _start(
        self, request: router_pb2.RunRequest, now_s: float, own: OwnKeys
    ) -> tuple[Run, Iterator[Try]]:
        envelope = request.envelope
        form = request.body if envelope.content_type else b""
        body = {} if form else _decode_body(request.body)
        constraint = asked_constraint(envelope.operation, body)
        tries = self._legs.tries(envelope, now_s, is_constrained=constraint is not None)
        first = next(tries)
        self.retries.budget.called(now_s)
        leg, deployment = first.leg, first.deployment
        unix_ms = self._clock.unix_ms()
        request_id = self._ids.new(unix_ms)
        is_byok = bool(own) and own_key(own, deployment) is not None
        price = deployment.byok_price if is_byok else deployment.price
        cap = price_row(envelope.price_cap) if envelope.HasField("price_cap") else None
        if cap is not None:
            price = capped(price, cap)
        event = intent(request_id, leg.envelope, deployment, unix_ms, price)
        if is_byok:
            event.is_byok = True
        elif deployment.supply is not None:
            event.supply.CopyFrom(deployment.supply.message())
        self._remember(event, first)
        run = Run(
            request_id=request_id,
            envelope=leg.envelope,
            body=body,
            model=leg.model,
            start_s=now_s,
            deadline_s=now_s + envelope.timeout_ms / 1000,
            create_unix_s=unix_ms // 1000,
            delivered=Delivered(
                prompt_tokens_max=leg.envelope.prompt_tokens_max,
                completion_tokens_max=leg.envelope.completion_tokens_max,
            ),
            usage=self._usage.open(event, price, now_s),
            checkpoint_due_s=now_s + self._settings.checkpoint_s,
            checkpoint_due_tokens=self._settings.checkpoint_tokens,
            constraint=constraint,
            form=form,
            may_have_cache_marks=not form and may_have_marks(request.body),
        )
        run.usage.cap = cap
        if envelope.is_sliced:
            self.sliced.open(run)
        tries = chain((first,), tries, self.retries.again(run))
        if not own:
            return run, tries
        run.own = OwnTries(
            tries,
            own,
            tries_max=self._settings.attempts_max,
            read=lambda: self._own_keys(envelope.account_id),
        )
        return run, run.own

    def _attempt(self, run: Run, deployment: Deployment) -> Attempt | None:
        """Return an attempt; None when it was made, cannot be afforded, or its target is gone."""
        if run.is_refused or deployment.name == run.hedged:
            return None
        if run.call_count and not self.retries.affords(run):
            run.is_refused = True
            return None
        try:
            return self._fleet.attempt(deployment)
        except ProviderError as error:
            run.attempts.add(deployment.name, error)
            return None

    def _remember(self, event: UsageEvent, turn: Try) -> None:
        """Store how a model's deployment was chosen, where there was a choice."""
        leg = turn.leg
        if len(leg.model.deployments) < 2:
            if event.decision:
                event.decision = b""
            return
        event.decision = leg.decision.message(turn.deployment.name).SerializeToString()
        self._usage.keep_snapshot(leg.taken.snapshot.snapshot_id, leg.taken.snapshot.data)

    def _begin(self, run: Run, attempt: Attempt, turn: Try) -> float:
        """Begin a turn and return its deadline; each but the first changes the request's event."""
        run.turn = turn
        if run.call_count or run.attempts.failures:
            if turn.leg.model is not run.model:
                run.change_model(turn.leg.model, turn.leg.envelope)
                self._remember(run.usage.event, turn)
            is_byok = run.own is not None and run.own.key is not None
            run.usage.reroute(turn.deployment, run.call_count + 1, is_byok=is_byok)
        return self._deadline(run, attempt, turn)

    def _deadline(self, run: Run, attempt: Attempt, turn: Try) -> float:
        """Count one more call and return its deadline; those left share the time that is."""
        deadline_s, left = run.deadline_s, turn.left
        run.call_count += 1
        attempt.start_s = now_s = asyncio.get_running_loop().time()
        if left > 1:
            share_s = max(self._settings.attempt_min_s, (deadline_s - now_s) / left)
            deadline_s = min(deadline_s, now_s + share_s)
        return deadline_s

    def _beside(self, run: Run, attempt: Attempt, turn: Try) -> AsyncGenerator[Batch, None]:
        """Return the batches of a call beside a turn's."""
        deadline_s = self._deadline(run, attempt, turn)
        asked = ask(run, attempt, idle_s=self._settings.idle_s)
        return self._answer(run, attempt, asked, deadline_s)

    def _answer(
        self, run: Run, attempt: Attempt, asked: Asked, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        call, body = asked
        stream = attempt.provider.stream(call, body, deadline_s=deadline_s)
        if run.constraint is not None:
            unjudged = attempt.left_unjudged
            stream = constrained(stream, call, run.constraint, on_unjudged=unjudged)
        if run.trace is None:
            return stream
        return run.trace.attempt(attempt.deployment, run.call_count, stream)

    def _accept(self, run: Run, attempt: Attempt, batch: Batch, now_s: float) -> bool:
        """Take a batch from the upstream; whether it is to be handed over now.

        One without content is kept back before the first one that has some; the last one is kept
        until the attempt is over, so that nothing of it outlives the answer.
        """
        is_last = batch.HasField("finish")
        if not run.is_committed:
            if not (batch.content_event_count or is_last):
                run.held = held(run.held, batch.sse)
                return False
            self._commit(run, attempt.deployment, batch, now_s)
            if run.held:
                batch.sse = run.held + batch.sse
        if is_last:
            self._finish(run, batch)
            attempt.succeeded(now_s)
            if len(run.model.deployments) > 1:
                measure(run, attempt, now_s)
                if self.hedging is not None:
                    self.hedging.measured(run, attempt)
                self._snapshots.answered(run.model, batch.finish.usage.completion_token_count)
            run.last = batch
            return False
        if now_s > run.start_s + self._settings.stream_total_s:
            raise ProviderError(Failure.TIMEOUT, "The stream outlived its time limit.")
        return True

    def _failed(self, run: Run, attempt: Attempt, error: ProviderError) -> None:
        """Take an attempt's failure; one behind the end of an answer changes nothing."""
        if run.last is not None:
            return
        run.held = b""
        if run.own is not None:
            error = run.own.failed(error)
        self.retries.note(run, attempt, error)
        if run.is_committed:
            run.last = self._broken(run, error)
        run.is_refused = not error.is_retryable

    def _commit(self, run: Run, deployment: Deployment, batch: Batch, now_s: float) -> None:
        run.is_committed = True
        run.usage.event.ttft_ms = max(1, round((now_s - run.start_s) * 1000))
        route = batch.route
        route.request_id = run.request_id
        route.deployment = deployment.name
        route.deployment_id = deployment.deployment_id
        route.backend = deployment.backend
        route.upstream_model = run.envelope.adapter or deployment.upstream_model
        if run.ignored:
            route.ignored_parameters.extend(run.ignored)
        route.attempt_count = run.usage.event.attempt_count
        route.create_unix_s = run.create_unix_s

    def _finish(self, run: Run, batch: Batch) -> None:
        finish = batch.finish
        if run.envelope.unit_count_max:
            finish.usage.CopyFrom(counted_units(finish.usage, run.usage.price, run.envelope))
        elif finish.usage.source == usage_pb2.USAGE_SOURCE_ESTIMATED:
            has_completion = run.envelope.operation != router_pb2.OPERATION_EMBEDDING
            finish.usage.CopyFrom(_counted(run, finish, has_completion=has_completion))
            finish.usage_json = usage_json(finish.usage, has_completion=has_completion)
            if batch.completion:
                batch.completion = b'%b,"usage":%b}' % (batch.completion[:-1], finish.usage_json)
        run.usage.event.finish_reason = finish.finish_reason
        if run.envelope.is_sliced:
            run.unpaid, charge_nusd = finish.usage, charged_nusd(run.usage.price, finish.usage)
        else:
            run.usage.close(finish.usage, UsageEvent.OUTCOME_COMPLETED)
            charge_nusd = run.usage.event.charge_nusd
        finish.charge_nusd = min(charge_nusd, run.envelope.hold_nusd)

    def _broken(self, run: Run, error: ProviderError) -> Batch:
        usage, outcome = run.delivered.usage(), UsageEvent.OUTCOME_UPSTREAM_FAILED
        if isinstance(error, InvalidOutputError):
            outcome = UsageEvent.OUTCOME_INVALID_OUTPUT
            if error.finish is not None:
                run.usage.event.finish_reason = error.finish.finish_reason
                usage = _counted(run, error.finish)
        run.usage.close(usage, outcome)
        reason, message = broken_off(error)
        event = run.usage.event
        charge_nusd = min(event.charge_nusd - event.refund_nusd, run.envelope.hold_nusd)
        return Batch(
            error=router_pb2.StreamError(reason=reason, message=message, charge_nusd=charge_nusd)
        )

    def _handed_over(self, run: Run, batch: Batch, now_s: float) -> None:
        tokens = run.delivered.add(batch)
        if now_s >= run.checkpoint_due_s or tokens >= run.checkpoint_due_tokens:
            run.checkpoint_due_s = now_s + self._settings.checkpoint_s
            run.checkpoint_due_tokens = tokens + self._settings.checkpoint_tokens
            run.usage.checkpoint(run.delivered.usage())


def _counted(
    run: Run, finish: router_pb2.Finish, *, has_completion: bool = True
) -> usage_pb2.TokenUsage:
    envelope = run.envelope
    return counted(
        finish.usage,
        envelope.prompt_tokens_max,
        envelope.completion_tokens_max,
        has_completion=has_completion,
    )
