"""The one loop from request to answer: candidates, attempts, fallback, usage.

A request is journalled before any upstream sees it and settled before its last bytes leave. Until
the first content another candidate may be tried; after it the answer stands or breaks.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from random import Random
from typing import Final

import msgspec

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError
from kit.ids import Uuid7Source
from services.router.attempts import BREAKING, Attempts, broken_off
from services.router.candidates import choose, none_available
from services.router.catalog import Catalogue, Deployment, Model
from services.router.constrained import constrained
from services.router.constraints import CONSTRAINTS, Constraint, constraint_of
from services.router.delivery import Delivered, TokenUsage, counted, counted_units
from services.router.fleet import Attempt, Fleet
from services.router.providers.port import (
    Batch,
    Body,
    Call,
    Failure,
    InvalidOutputError,
    ProviderError,
)
from services.router.settings import RouterSettings
from services.router.strategies import View, ranked
from services.router.traces import Trace
from services.router.usage_events import UsageEvent, price_message
from services.router.usage_log import OpenUsage, UsageLog
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

_decode_body = msgspec.json.Decoder(Body).decode
_encode = msgspec.json.encode
HELD_BYTES_MAX: Final = 64 * 1024
"""Chunks without content that are kept back before the first one with content."""


class Run(msgspec.Struct):
    """One request on its way; a struct, because each request makes one."""

    request_id: str
    envelope: router_pb2.Envelope
    body: Body
    model: Model
    start_s: float
    deadline_s: float
    create_unix_s: int
    delivered: Delivered
    usage: OpenUsage
    checkpoint_due_s: float
    checkpoint_due_tokens: int
    attempts: Attempts = msgspec.field(default_factory=Attempts)
    held: bytes = b""
    last: Batch | None = None
    is_committed: bool = False
    is_refused: bool = False
    ignored: tuple[str, ...] = ()
    trace: Trace | None = None
    constraint: Constraint | None = None
    form: bytes = b""

    def check_ended(self) -> None:
        """Refuse an upstream that just stopped.

        Raises:
            ProviderError: There was no finish.
        """
        if not self.usage.is_closed:
            raise ProviderError(Failure.INCOMPLETE, "The provider ended without an answer.")


class Dispatcher:
    """Runs chat completions against the fleet of upstreams."""

    def __init__(
        self,
        *,
        settings: RouterSettings,
        catalogue: Callable[[], Catalogue],
        fleet: Fleet,
        usage: UsageLog,
        clock: Clock,
        random: Random | None = None,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._fleet = fleet
        self._usage = usage
        self._clock = clock
        self._ids = Uuid7Source()
        self._view = View(fleet.load, fleet.speed, random or Random())  # noqa: S311 - no secret

    async def run(
        self, request: router_pb2.RunRequest, trace: Trace | None = None
    ) -> AsyncGenerator[Batch, None]:
        """Yield one answer's batches.

        One generator from here to the provider: each further one would cost every chunk.

        Raises:
            TurnpikeError: Before the first batch, for everything that went wrong until then.
        """
        loop = asyncio.get_running_loop()
        run, deployments = self._start(request, loop.time())
        run.trace = trace
        outcome = UsageEvent.OUTCOME_CLIENT_CLOSED
        try:
            for number, deployment in enumerate(deployments, 1):
                left = len(deployments) - number + 1
                with self._fleet.attempt(deployment) as attempt:
                    stream = self._stream(run, attempt, deployment, number, left)
                    try:
                        async for batch in stream:
                            now_s = loop.time()
                            if self._accept(run, attempt, deployment, batch, now_s):
                                yield batch
                                self._handed_over(run, batch, now_s)
                        run.check_ended()
                    except ProviderError as error:
                        self._failed(run, attempt, error)
                    finally:
                        await stream.aclose()
                if run.last is not None:
                    yield run.last
                    return
                if run.is_refused or loop.time() >= run.deadline_s:
                    break
            raise run.attempts.verdict()
        except TurnpikeError as error:
            outcome = UsageEvent.OUTCOME_REFUSED
            error.metadata["request_id"] = run.request_id
            raise
        finally:
            # The way out for a caller that went away; a no-op once the answer was settled.
            run.usage.close(run.delivered.usage(), outcome)

    def _start(
        self, request: router_pb2.RunRequest, now_s: float
    ) -> tuple[Run, Sequence[Deployment]]:
        envelope = request.envelope
        model = self._catalogue().find(envelope.model_id)
        if model is None:
            raise TurnpikeError(
                Reason.MODEL_NOT_FOUND, f"There is no model {envelope.model_id}.", param="model"
            )
        if envelope.operation not in model.operations:
            raise TurnpikeError(
                Reason.INVALID_VALUE, f"{model.model_id} does not serve this.", param="model"
            )
        form = request.body if envelope.content_type else b""
        body = {} if form else _decode_body(request.body)
        constraint = None if CONSTRAINTS.isdisjoint(body) else constraint_of(body)
        prompt_tokens_max = envelope.prompt_tokens_max
        choice = choose(model, envelope, wait_s=self._fleet.wait_s, now_s=now_s)
        if not choice.deployments:
            raise none_available(model, choice)
        deployments: Sequence[Deployment] = ranked(choice.deployments, envelope, self._view)
        if constraint is not None:
            deployments = self._fleet.soundest_first(deployments, now_s)
        unix_ms = self._clock.unix_ms()
        request_id = self._ids.new(unix_ms)
        first = deployments[0]
        usage = self._usage.open(_intent(request_id, envelope, first, unix_ms), first.price, now_s)
        run = Run(
            request_id=request_id,
            envelope=envelope,
            body=body,
            model=model,
            start_s=now_s,
            deadline_s=now_s + envelope.timeout_ms / 1000,
            create_unix_s=unix_ms // 1000,
            delivered=Delivered(prompt_tokens_max=prompt_tokens_max),
            usage=usage,
            checkpoint_due_s=now_s + self._settings.checkpoint_s,
            checkpoint_due_tokens=self._settings.checkpoint_tokens,
            constraint=constraint,
            form=form,
        )
        return run, deployments[: self._settings.attempts_max]

    def _stream(
        self, run: Run, attempt: Attempt, deployment: Deployment, number: int, left: int
    ) -> AsyncGenerator[Batch, None]:
        """Return the batches of attempt `number`; `left` candidates share the time that is left."""
        deadline_s = run.deadline_s
        if number > 1:
            run.usage.reroute(deployment, number)
        if left > 1:
            now_s = asyncio.get_running_loop().time()
            share_s = max(self._settings.attempt_min_s, (deadline_s - now_s) / left)
            deadline_s = min(deadline_s, now_s + share_s)
        body = run.body
        if unknown := run.envelope.unknown_fields:
            run.ignored = () if deployment.forwards_unknown else tuple(unknown)
            body = {name: raw for name, raw in body.items() if name not in run.ignored}
        call = self._call(run, deployment)
        stream = attempt.provider.stream(call, body, deadline_s=deadline_s)
        if run.constraint is not None:
            unjudged = attempt.left_unjudged
            stream = constrained(stream, call, run.constraint, on_unjudged=unjudged)
        if run.trace is None:
            return stream
        return run.trace.attempt(deployment, run.usage.event.attempt_count, stream)

    def _accept(
        self, run: Run, attempt: Attempt, deployment: Deployment, batch: Batch, now_s: float
    ) -> bool:
        """Take a batch from the upstream; whether it is to be handed over now.

        One without content is kept back before the first one that has some; the last one is kept
        until the attempt is over, so that nothing of it outlives the answer.
        """
        is_last = batch.HasField("finish")
        if not run.is_committed:
            if not (batch.content_event_count or is_last):
                run.held = _held(run.held, batch.sse)
                return False
            self._commit(run, deployment, batch, now_s)
            if run.held:
                batch.sse = run.held + batch.sse
        if is_last:
            self._finish(run, batch)
            attempt.succeeded(now_s)
            if len(run.model.deployments) > 1:
                _measure(run, attempt, now_s)
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
        run.attempts.add(run.usage.event.deployment, error)
        if error.failure is Failure.INVALID_OUTPUT:
            attempt.failed_open(asyncio.get_running_loop().time(), run.request_id)
        elif self._is_telling(run, error):
            attempt.failed(error)
        if run.is_committed:
            run.last = self._broken(run, error)
        run.is_refused = not error.is_retryable

    def _is_telling(self, run: Run, error: ProviderError) -> bool:
        """Return whether a failure says something about the deployment's health."""
        is_impatient = run.envelope.timeout_ms < self._settings.timeout_max_s * 1000
        if error.failure is Failure.TIMEOUT and is_impatient and not run.is_committed:
            return False
        return error.failure in BREAKING

    def _call(self, run: Run, deployment: Deployment) -> Call:
        envelope = run.envelope
        answer_id = envelope.id_prefix + run.request_id
        head = _chunk_head(run, answer_id) if envelope.is_streaming else b""
        call = Call(
            request_id=run.request_id,
            answer_id=answer_id,
            create_unix_s=run.create_unix_s,
            model_id=run.model.model_id,
            upstream_model=deployment.upstream_model,
            is_streaming=envelope.is_streaming,
            max_tokens=envelope.max_tokens,
            chunk_head=head,
            idle_s=self._settings.idle_s,
            options=deployment.options,
            adapter=envelope.adapter,
            chunk_defaults=_members(envelope.answer_defaults) if envelope.is_streaming else b"",
            constraint=run.constraint,
            operation=envelope.operation,
        )
        if not envelope.unit_count_max:
            return call
        return call._replace(
            unit_count_max=envelope.unit_count_max,
            content_type=envelope.content_type,
            form=run.form,
        )

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
            prompt_max = run.envelope.prompt_tokens_max
            finish.usage.CopyFrom(counted(finish.usage, prompt_max, has_completion=has_completion))
            finish.usage_json = usage_json(finish.usage, has_completion=has_completion)
            if batch.completion:
                batch.completion = b'%b,"usage":%b}' % (batch.completion[:-1], finish.usage_json)
        run.usage.event.finish_reason = finish.finish_reason
        run.usage.close(finish.usage, UsageEvent.OUTCOME_COMPLETED)
        finish.charge_nusd = min(run.usage.event.charge_nusd, run.envelope.hold_nusd)

    def _broken(self, run: Run, error: ProviderError) -> Batch:
        usage, outcome = run.delivered.usage(), UsageEvent.OUTCOME_UPSTREAM_FAILED
        if isinstance(error, InvalidOutputError):
            outcome = UsageEvent.OUTCOME_INVALID_OUTPUT
            if error.finish is not None:
                run.usage.event.finish_reason = error.finish.finish_reason
                usage = counted(error.finish.usage, run.envelope.prompt_tokens_max)
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


def _intent(
    request_id: str, envelope: router_pb2.Envelope, deployment: Deployment, unix_ms: int
) -> UsageEvent:
    event = UsageEvent(
        event_id=request_id + ":intent",
        kind=UsageEvent.KIND_INTENT,
        request_id=request_id,
        account_id=envelope.account_id,
        key_id=envelope.key_id,
        lease_id=envelope.lease_id,
        hold_nusd=envelope.hold_nusd,
        model_id=envelope.model_id,
        deployment=deployment.name,
        provider=deployment.kind,
        price=price_message(deployment.price),
        start_unix_ms=unix_ms,
        attempt_count=1,
        is_streaming=envelope.is_streaming,
    )
    if envelope.episode_id:
        event.episode_id = envelope.episode_id
    return event


def _chunk_head(run: Run, answer_id: str) -> bytes:
    """Return what every chunk of a streamed answer begins with."""
    is_text = run.envelope.operation == router_pb2.OPERATION_COMPLETION
    head = b'{"id":%b,"object":"%b","created":%d,"model":%b,' % (
        _encode(answer_id),
        b"text_completion" if is_text else b"chat.completion.chunk",
        run.create_unix_s,
        _encode(run.model.model_id),
    )
    return head + b'"usage":null,' if run.envelope.has_null_usage else head


def _members(json: bytes) -> bytes:
    """Return the members of a JSON object, each with a comma behind it."""
    return json[1:-1] + b"," if len(json) > len(b"{}") else b""


def _measure(run: Run, attempt: Attempt, now_s: float) -> None:
    """Remember how fast an answer came, where that decides who gets the next one."""
    event = run.usage.event
    attempt.speed.measured(
        ttft_s=event.ttft_ms / 1000,
        duration_s=now_s - run.start_s,
        tokens=event.usage.completion_token_count,
    )


def _held(held: bytes, more: bytes) -> bytes:
    """Keep what comes before the first content, so that another provider may still be tried."""
    if len(held) + len(more) > HELD_BYTES_MAX:
        raise ProviderError(Failure.INVALID_RESPONSE, "The provider sent no content in its chunks.")
    return held + more


def usage_json(usage: TokenUsage, *, has_completion: bool) -> bytes:
    """Return the OpenAI usage object of a count that Turnpike made itself."""
    prompt, completion = usage.prompt_token_count, usage.completion_token_count
    if not has_completion:
        return b'{"prompt_tokens":%d,"total_tokens":%d}' % (prompt, prompt)
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}' % (
        prompt,
        completion,
        prompt + completion,
    )
