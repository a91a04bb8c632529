"""What a request asks of a model, whichever client API it came by; pure."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from gateway.openai.dialect import Dialect
from gateway.openai.presets import Preset
from kit.errors import TurnpikeError
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2


class ReadRules(NamedTuple):
    """What holds for reading one request.

    `unix_ms` is the clock, `new_id` mints UUIDv7s, `episode_id` is what the header says. `presets`
    are the functions by name. `routing_strategy` and `is_external_allowed` hold for requests that
    do not say; empty and None mean the usual.
    """

    dialect: Dialect
    timeout_max_ms: int
    unix_ms: Callable[[], int]
    new_id: Callable[[], str]
    scopes: frozenset[str] = frozenset()
    is_strict: bool = False
    episode_id: str = ""
    presets: Mapping[str, Preset] = {}
    routing_strategy: str = ""
    is_external_allowed: bool | None = None


class PromptSize(NamedTuple):
    """How long one prompt is: the bytes of its text, and its tokens where it came as tokens."""

    byte_count: int = 0
    token_count: int = 0


class Media(NamedTuple):
    """What a conversation carries besides text.

    `file_count` counts recordings as well. `inline_bytes` is how much of the body is the media
    itself, as base64.
    """

    image_count: int = 0
    file_count: int = 0
    inline_bytes: int = 0


class ModelCall(msgspec.Struct, frozen=True):
    """A checked request.

    `fields` is the body, split once at its top level, with the dialect's defaults applied.
    `asked_max_tokens` is the output bound that the caller or its dialect gave, if any.
    `prompt_bytes` is the size of the text that the prompt is made of, and bounds its tokens;
    `media` comes on top of it, None for nothing. `features` are the parameters that a route must
    honour; `unknown_fields` those that Turnpike does not know; `ignored` those that the client API
    left out when it translated the request.
    `answer_defaults` are members of the answer, a JSON object, unless the upstream has its own;
    with `has_empty_fields` messages show as empty what they would leave out. `prompts` are the
    sizes of prompts that stand for themselves, each with a context of its own; it is empty for a
    conversation.
    `fallback_models` are names that are tried in this order when the model gives no answer.
    `unit_count_max` bounds the images, characters or seconds. A request that is no JSON is in
    `form`, of the media type `content_type`; `fields` is empty then.
    """

    model: str
    fields: dict[str, msgspec.Raw]
    is_streaming: bool
    include_usage: bool | None
    asked_max_tokens: int | None
    timeout_ms: int
    prompt_bytes: int
    choice_count: int = 1
    operation: "router_pb2.Operation.ValueType" = router_pb2.OPERATION_UNSPECIFIED
    features: tuple[str, ...] = ()
    unknown_fields: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    routing: router_pb2.Routing | None = None
    answer_defaults: bytes = b""
    has_empty_fields: bool = False
    episode_id: str = ""
    prompts: tuple[PromptSize, ...] = ()
    unit_count_max: int = 0
    content_type: str = ""
    form: bytes = b""
    media: Media | None = None
    fallback_models: tuple[str, ...] = ()


class Bounds(NamedTuple):
    """What a request may use at most; `max_tokens` is 0 for what has no completion."""

    max_tokens: int
    prompt_tokens_max: int
    completion_tokens_max: int


class Sizes(Protocol):
    """What of a model bounds the tokens of a request."""

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""

    @property
    def default_max_tokens(self) -> int:
        """Tokens of one answer, such as an image."""

    @property
    def prompt_tokens_per_kilobyte_max(self) -> int:
        """Most tokens of a text."""

    @property
    def image_tokens_max(self) -> int:
        """Most tokens of an image in a prompt."""

    @property
    def file_tokens_max(self) -> int:
        """Most tokens of a file or a recording in a prompt."""

    @property
    def is_sold_by_tokens(self) -> bool:
        """Whether tokens cost anything."""


class StreamShape(Protocol):
    """How one streamed answer is spelled for a client that does not speak chat chunks.

    It is fed the chat chunks in order, as complete SSE events, and keeps what it needs of them.
    """

    def begin(self, usage: usage_pb2.TokenUsage | None) -> None:
        """Take the running totals of the first batch; None when the upstream keeps none."""

    def feed(self, sse: bytes) -> bytes:
        """Return the client's events for these chunks; may be empty.

        Raises:
            TurnpikeError: `UPSTREAM_INVALID_RESPONSE` when they make no sense.
        """

    def end(self, sse: bytes, finish: router_pb2.Finish) -> bytes:
        """Return the client's last events, for the last chunks and the finish."""


class Api(Protocol):
    """One client API: how requests are read and how answers and errors are spelled.

    `route` names the endpoint in metrics and access lines, such as `POST /v1/chat/completions`.
    """

    @property
    def route(self) -> str:
        """The endpoint's name."""

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body and return what it asks.

        Raises:
            TurnpikeError: 400, with `param` naming the field.
        """

    def whole(self, completion: bytes, call: ModelCall, request_id: str) -> bytes:
        """Return the body for a whole answer; `completion` is an OpenAI answer object."""

    def stream(self, call: ModelCall, request_id: str) -> StreamShape | None:
        """Return how to spell a streamed answer; None when it is sent as chat chunks."""

    def error_body(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return the JSON body of a refusal."""

    def error_event(self, error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
        """Return the event that ends a broken stream."""
