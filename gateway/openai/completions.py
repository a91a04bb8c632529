"""OpenAI's legacy text completions as a client API; pure.

Source: OpenAI API reference, completions (read 2026-11).
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.call import ModelCall, ReadRules
from gateway.openai.answer import answer_defaults
from gateway.openai.api import OpenAiApi
from gateway.openai.bodies import apply_defaults, decode
from gateway.openai.envelope import N_MAX, SEED_MAX, TOKENS_MAX
from gateway.openai.fields import SAMPLING, present, unknown_fields
from gateway.openai.figures import Whole, whole, wrong
from gateway.openai.routing import take_wishes, timeout_ms_of
from gateway.openai.schema import Penalty, RoutedRequest, StreamOptions
from gateway.openai.texts import Prompts, prompt_sizes
from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import router_pb2

PROMPTS_MAX: Final = 128
BEST_OF_MAX: Final = 20
LOGPROBS_MAX: Final = 5
MAX_TOKENS_DEFAULT: Final = 16
"""OpenAI's own; a dialect that has another takes that."""


class CompletionRequest(RoutedRequest, kw_only=True):
    """`POST /v1/completions`."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    prompt: Prompts
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Whole | None = None
    n: Whole | None = None
    best_of: Whole | None = None
    logprobs: Whole | None = None
    echo: bool | None = None
    suffix: str | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    seed: Whole | None = None
    user: str | None = None


_KNOWN: Final = frozenset(CompletionRequest.__struct_encode_fields__) | frozenset(SAMPLING)
_OF_CHAT: Final = frozenset(
    {"messages", "tools", "tool_choice", "functions", "function_call", "max_completion_tokens"}
    | {"response_format", "top_logprobs"}
)
"""What chat has and this endpoint has not; each would change the answer, so none is passed by."""

_decode = msgspec.json.Decoder(CompletionRequest).decode


def read_completion(body: bytes, rules: ReadRules) -> ModelCall:
    """Check a body and apply the dialect's defaults.

    Raises:
        TurnpikeError: `INVALID_JSON`, `MISSING_FIELD`, `INVALID_VALUE` or `UNSUPPORTED_PARAMETER`,
            with `param` naming the field.
    """
    request, fields = decode(body, _decode)
    dialect = rules.dialect
    if not _OF_CHAT.isdisjoint(fields):
        name = min(_OF_CHAT.intersection(fields))
        raise TurnpikeError(
            Reason.UNSUPPORTED_PARAMETER, f"{name} belongs to chat completions.", param=name
        )
    unknown = unknown_fields(fields.keys(), _KNOWN, is_strict=rules.is_strict)
    is_streaming = dialect.is_streaming_default if request.stream is None else request.stream
    options = request.stream_options
    if options is not None and not is_streaming:
        raise wrong("stream_options", "stream_options needs stream to be true.")
    prompts = prompt_sizes("prompt", request.prompt, count_max=PROMPTS_MAX, is_empty_allowed=True)
    if request.suffix:
        more = len(request.suffix.encode())
        prompts = tuple(size._replace(byte_count=size.byte_count + more) for size in prompts)
    asked = MAX_TOKENS_DEFAULT if dialect.max_tokens is None else dialect.max_tokens
    if request.max_tokens is not None:
        asked = whole("max_tokens", request.max_tokens, 1, TOKENS_MAX)
    made = _made_count(request, is_streaming=is_streaming)
    features = (*_features(request), *present(SAMPLING, fields))
    apply_defaults(fields, dialect)
    episode_id, routing, ignored = take_wishes(request, fields, rules)
    return ModelCall(
        model=request.model,
        fields=fields,
        is_streaming=is_streaming,
        include_usage=options.include_usage if options else None,
        asked_max_tokens=asked,
        timeout_ms=timeout_ms_of(request, rules.timeout_max_ms),
        prompt_bytes=len(fields["prompt"]),
        choice_count=len(prompts) * made,
        operation=router_pb2.OPERATION_COMPLETION,
        features=features,
        unknown_fields=unknown,
        ignored=(*options.ignored, *ignored) if options else ignored,
        prompts=prompts,
        routing=routing,
        episode_id=episode_id,
        answer_defaults=answer_defaults(rules.dialect, episode_id) if episode_id else b"",
    )


def _made_count(request: CompletionRequest, *, is_streaming: bool) -> int:
    """Return how many completions are generated for each prompt."""
    count = 1 if request.n is None else whole("n", request.n, 1, N_MAX)
    if request.best_of is None:
        return count
    best_of = whole("best_of", request.best_of, 1, BEST_OF_MAX)
    if best_of < count:
        raise wrong("best_of", f"best_of is {best_of} and n is {count}; it must not be less.")
    if best_of > count and is_streaming:
        raise wrong("best_of", "best_of above n cannot be streamed.")
    return best_of


def _features(request: CompletionRequest) -> tuple[str, ...]:
    """Check what is left, and return the fields that a route must honour."""
    if request.logprobs is not None:
        whole("logprobs", request.logprobs, 0, LOGPROBS_MAX)
    if request.seed is not None:
        whole("seed", request.seed, -SEED_MAX - 1, SEED_MAX)
    asked = {
        "n": (request.n or 1) > 1,
        "best_of": (request.best_of or 1) > 1,
        "logprobs": request.logprobs is not None,
        "echo": bool(request.echo),
        "suffix": bool(request.suffix),
        "frequency_penalty": bool(request.frequency_penalty),
        "presence_penalty": bool(request.presence_penalty),
        "logit_bias": bool(request.logit_bias),
    }
    return tuple(name for name, is_asked in asked.items() if is_asked)


class CompletionsApi(OpenAiApi):
    """`POST /v1/completions`."""

    route: Final = "POST /v1/completions"

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body; see `Api.read`."""
        return read_completion(body, rules)


COMPLETIONS: Final = CompletionsApi()
