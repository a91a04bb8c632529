"""What a provider is: one upstream that can answer what is asked of a model.

A batch is the message that leaves the router (`turnpike.router.v1.RunResponse`);
there is no other form in between. Nothing here speaks a wire protocol.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec
from pydantic import SecretStr

from services.router.constraints import Constraint
from services.router.providers.turn_state import TurnState, WantsBack
from turnpike.router.v1 import router_pb2

Batch = router_pb2.RunResponse
"""One message of an answer; see the field comments in `router.proto`."""


class Failure(StrEnum):
    """What went wrong with an attempt; decides fallback, breaker and the caller's answer."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    CREDENTIALS = "credentials"
    KEY_REFUSED = "key_refused"
    KEY_LIMITED = "key_limited"
    INVALID_RESPONSE = "invalid_response"
    INVALID_OUTPUT = "invalid_output"
    INCOMPLETE = "incomplete"
    NOT_FOUND = "not_found"
    UNSUPPORTED = "unsupported"
    REJECTED = "rejected"
    CONTENT_POLICY = "content_policy"
    CONTEXT_LENGTH = "context_length"


FINAL = frozenset({Failure.REJECTED, Failure.CONTENT_POLICY, Failure.CONTEXT_LENGTH})
"""Failures that another upstream would answer the same way: never retried."""


class ProviderError(Exception):
    """An attempt failed.

    `message` is one sentence that may be shown to a client: it holds no upstream text that could
    carry a prompt, a secret or a stack trace. `status` is the upstream's HTTP status, 0 when it
    gave none. `retry_after_s` is the upstream's wish, 0 when it has none. `param` names the request
    field at fault, if one is.
    """

    def __init__(
        self,
        failure: Failure,
        message: str,
        *,
        status: int = 0,
        retry_after_s: float = 0.0,
        param: str = "",
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s
        self.param = param

    @property
    def is_retryable(self) -> bool:
        """Whether another candidate may be tried, as long as no content was sent."""
        return self.failure not in FINAL


class InvalidOutputError(ProviderError):
    """An answer broke the constraint in field `param`; `finish` is how it ended, if it did."""

    def __init__(self, param: str, *, finish: router_pb2.Finish | None = None) -> None:
        message = f"The model's answer does not keep to {param}."
        super().__init__(Failure.INVALID_OUTPUT, message, status=200, param=param)
        self.finish = finish


Keep = Callable[[str, TurnState], None]
"""Takes what an answer said beside its text and its calls, with the id of its first call."""


class Call(NamedTuple):
    """One attempt, as a provider needs to see it.

    `chunk_head` is the constant start of every chunk of the answer, up to and with the comma
    before `"choices"`; `answer_id` and `create_unix_s` are what it was made of. `max_tokens` is
    the effective output bound and is always sent upstream. `idle_s` bounds the silence between
    two reads after the first content. `adapter` is a LoRA on the model. `chunk_defaults` are
    members, each with a comma behind it, that chunks carry unless the upstream has its own.
    `constraint` is what the answer's form is held to; the fields that it stands for are not to be
    forwarded. `operation` is one of `router_pb2.Operation`;
    `unit_count_max` bounds its images, characters or seconds. A request that is no JSON is in
    `form`, of the media type `content_type`, and the body is empty. `credential` is the account's
    own key: it is shown in place of the provider's, which may not be sent along. `keep` is called
    once with what a whole answer that called tools has to be handed back, if that is wanted.
    """

    request_id: str
    answer_id: str
    create_unix_s: int
    model_id: str
    upstream_model: str
    is_streaming: bool
    max_tokens: int
    chunk_head: bytes
    idle_s: float
    options: Mapping[str, str] = MappingProxyType({})
    adapter: str = ""
    chunk_defaults: bytes = b""
    constraint: Constraint | None = None
    operation: int = 0
    unit_count_max: int = 0
    content_type: str = ""
    form: bytes = b""
    credential: SecretStr | None = None
    keep: Keep | None = None


Body = dict[str, msgspec.Raw]
"""An OpenAI request split once at its top level; a provider copies it before it edits."""


class Asked(NamedTuple):
    """An attempt and the request that goes with it."""

    call: Call
    body: Body


class Provider(Protocol):
    """One upstream that can answer chat completions, and what else its models serve.

    Implementations are opened by `open_*` context managers and are shared by all requests.
    """

    def stream(self, call: Call, body: Body, *, deadline_s: float) -> AsyncGenerator[Batch, None]:
        """Yield the answer's batches in order; the last one carries `finish`.

        A streaming call yields `sse` batches; `sse` holds complete events whose chunks start with
        `call.chunk_head` and carry neither a finish_reason nor usage. A plain call yields one batch
        with `completion` (usage included) and `finish`; a call for vectors is always plain. A
        binary one yields `data` batches, the first with its `content_type`. Exactly
        one batch is in flight: the next read happens when the consumer asks for the next batch.
        Closing the iterator cancels the upstream at once.

        Args:
            call: The attempt.
            body: The OpenAI request, validated; not to be changed in place.
            deadline_s: Loop time by which the whole answer (plain) or the first content (stream)
                must be there; later silence is bounded by `call.idle_s`.

        Raises:
            ProviderError: The attempt failed. Whether content had been yielded is the caller's
                to know.
        """

    async def probe(self) -> bool:
        """Return whether the upstream is ready, by a check that costs nothing."""


@runtime_checkable
class Backlogged(Protocol):
    """A provider that knows how busy its upstream is with what others sent."""

    def backlog_count(self) -> int:
        """Return how many requests wait or run there beside those that we know of."""


class Traits(NamedTuple):
    """What a provider or a codec may have besides, in its attribute `traits`.

    `wants_back` tells what of earlier answers a request has to bring back to it, None for nothing.
    `takes_cache_marks`: it maps prompt-cache markers or forwards them; from others they are kept.
    """

    wants_back: Callable[[Call, Body], WantsBack | None] | None = None
    takes_cache_marks: bool = False


def traits_of(part: object) -> Traits:
    """Return the traits of a provider or a codec; most have none."""
    found = getattr(part, "traits", None)
    return found if isinstance(found, Traits) else Traits()
