"""One request on its way through the router: its state, and what is made of it."""

import asyncio
from typing import Final

import msgspec

from services.router.attempts import Attempts
from services.router.catalog import Deployment, Model
from services.router.constraints import Constraint
from services.router.delivery import Delivered, TokenUsage
from services.router.fleet import Attempt
from services.router.legs import Try
from services.router.own_tries import OwnTries
from services.router.pricing import PriceRow
from services.router.providers.port import Batch, Body, Failure, ProviderError
from services.router.traces import Trace
from services.router.usage_events import UsageEvent, price_message
from services.router.usage_log import OpenUsage
from turnpike.router.v1 import router_pb2

HELD_BYTES_MAX: Final = 64 * 1024
"""Chunks without content that are kept back before the first one with content."""

_encode = msgspec.json.encode


class Run(msgspec.Struct, weakref=True):
    """One request on its way; a struct, because each request makes one.

    `turn` is the last one that was tried, `hedged` who was called beside the first one. `unpaid` is
    what a finished answer used that is settled once its caller says so, and `ended` when it has.
    """

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
    own: OwnTries | None = None
    may_have_cache_marks: bool = False
    call_count: int = 0
    hedged: str = ""
    turn: Try | None = None
    unpaid: TokenUsage | None = None
    ended: asyncio.Event | None = None

    def change_model(self, model: Model, envelope: router_pb2.Envelope) -> None:
        """Go on with another model; nothing was handed over yet."""
        self.model, self.envelope = model, envelope
        self.usage.event.model_id = model.model_id
        self.delivered = Delivered(
            prompt_tokens_max=envelope.prompt_tokens_max,
            completion_tokens_max=envelope.completion_tokens_max,
        )

    def check_ended(self) -> None:
        """Refuse an upstream that just stopped.

        Raises:
            ProviderError: There was no finish.
        """
        if self.unpaid is None and not self.usage.is_closed:
            raise ProviderError(Failure.INCOMPLETE, "The provider ended without an answer.")


def intent(
    request_id: str,
    envelope: router_pb2.Envelope,
    deployment: Deployment,
    unix_ms: int,
    price: PriceRow,
) -> UsageEvent:
    """Return the event that is journalled before an upstream sees the request."""
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
        price=price_message(price),
        start_unix_ms=unix_ms,
        attempt_count=1,
        is_streaming=envelope.is_streaming,
    )
    if envelope.episode_id:
        event.episode_id = envelope.episode_id
    return event


def chunk_head(run: Run, answer_id: str) -> bytes:
    """Return what every chunk of a streamed answer begins with."""
    is_text = run.envelope.operation == router_pb2.OPERATION_COMPLETION
    head = b'{"id":%b,"object":"%b","created":%d,"model":%b,' % (
        _encode(answer_id),
        b"text_completion" if is_text else b"chat.completion.chunk",
        run.create_unix_s,
        _encode(run.model.model_id),
    )
    return head + b'"usage":null,' if run.envelope.has_null_usage else head


def members(json: bytes) -> bytes:
    """Return the members of a JSON object, each with a comma behind it."""
    return json[1:-1] + b"," if len(json) > len(b"{}") else b""


def measure(run: Run, attempt: Attempt, now_s: float) -> None:
    """Remember how fast an answer came, where that decides who gets the next one."""
    event = run.usage.event
    first_s = run.start_s + event.ttft_ms / 1000 - attempt.start_s
    attempt.speed.measured(
        prompt_tokens=event.usage.prompt_token_count,
        ttft_s=max(0.001, first_s),
        duration_s=now_s - attempt.start_s,
        tokens=event.usage.completion_token_count,
        now_s=now_s,
    )


def held(held: bytes, more: bytes) -> bytes:
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
