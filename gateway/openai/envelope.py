"""From an OpenAI body to what the router needs: checks, defaults and bounds; pure."""

from typing import Final

import msgspec

from gateway.call import Bounds, ModelCall, ReadRules, Sizes
from gateway.names import function_not_found, function_of
from gateway.openai.answer import answer_defaults
from gateway.openai.bodies import apply_defaults, decode
from gateway.openai.constraints import CONSTRAINTS, read_constraints
from gateway.openai.content import PLAIN_CONTENT, read_content
from gateway.openai.fields import PLAIN, features_of, unknown_fields
from gateway.openai.figures import whole, wrong
from gateway.openai.messages import check_messages
from gateway.openai.presets import with_preset
from gateway.openai.routing import take_wishes, timeout_ms_of
from gateway.openai.schema import ChatRequest, decode_chat
from kit.errors import Reason, TurnpikeError

_ESTIMATE_BYTES_PER_TOKEN: Final = 4
_CONTEXT_BYTES_PER_TOKEN_MAX: Final = 16
_WITHOUT_BOUND: Final = frozenset({"chat_template", "mm_processor_kwargs"})
"""What a client's template, or settings of its own for images, make of a prompt has no bound but
the model's."""

TOKENS_MAX: Final = 2**31 - 1
N_MAX: Final = 16
SEED_MAX: Final = 2**63 - 1
TOP_LOGPROBS_MAX: Final = 20


def read_chat(body: bytes, rules: ReadRules) -> ModelCall:
    """Check a body and apply the dialect's defaults.

    Raises:
        TurnpikeError: `INVALID_JSON`, `MISSING_FIELD`, `INVALID_VALUE` or `UNSUPPORTED_PARAMETER`,
            with `param` naming the field.
    """
    request, fields = decode(body, decode_chat)
    if "::" in request.model:
        request, fields = _with_preset(request, fields, rules)
    is_plain = fields.keys() <= PLAIN
    _check_choices(request, rules)
    contents, content = check_messages(request.messages), PLAIN_CONTENT
    if contents is not None or not is_plain:
        content = read_content(request, fields, rules, contents)
    dialect, options = rules.dialect, request.stream_options
    features: tuple[str, ...] = ("temperature>1",) if (request.temperature or 0) > 1 else ()
    unknown: tuple[str, ...] = ()
    if not is_plain:
        features, unknown = _looked_at(request, fields, rules, features)
    if content.features:
        features += content.features
    timeout_ms = timeout_ms_of(request, rules.timeout_max_ms)
    episode_id, routing, ignored = take_wishes(request, fields, rules)
    count = 1 if request.n is None else whole("n", request.n, 1, N_MAX)
    asked = _asked_max_tokens(request)
    apply_defaults(fields, dialect)
    prompt_bytes = len(fields["messages"]) + content.more_bytes
    if "tools" in fields:
        prompt_bytes += len(fields["tools"])
    return ModelCall(
        model=request.model,
        fields=fields,
        is_streaming=dialect.is_streaming_default if request.stream is None else request.stream,
        include_usage=options.include_usage if options else None,
        asked_max_tokens=asked if asked is not None else dialect.max_tokens,
        timeout_ms=timeout_ms,
        prompt_bytes=prompt_bytes,
        choice_count=count,
        features=features,
        media=content.media,
        unknown_fields=unknown,
        ignored=(*options.ignored, *ignored) if options else ignored,
        routing=routing,
        episode_id=episode_id,
        answer_defaults=answer_defaults(dialect, episode_id) if episode_id else b"",
        has_empty_fields=dialect.has_empty_fields,
        fallback_models=() if request.models is None else _others(request),
    )


def bounds(call: ModelCall, model: Sizes) -> Bounds:
    """Return what the request may use of a model.

    The effective bound is what was asked, else the model's default, and never more than what the
    context leaves after an estimate of the prompt; prompt tokens are bounded from above.

    Raises:
        TurnpikeError: `CONTEXT_LENGTH_EXCEEDED` when even a sparing count of the prompt fills it.
    """
    prompt_bytes, context_length = call.prompt_bytes, model.context_length
    least = prompt_bytes // _CONTEXT_BYTES_PER_TOKEN_MAX
    if least >= context_length:
        raise TurnpikeError(
            Reason.CONTEXT_LENGTH_EXCEEDED,
            f"The messages have at least {least} tokens; the model takes {context_length}.",
            param="messages",
        )
    asked = call.asked_max_tokens or model.default_max_tokens
    left = max(1, context_length - prompt_bytes // _ESTIMATE_BYTES_PER_TOKEN)
    max_tokens = min(asked, left)
    prompt_max = -(-prompt_bytes * model.prompt_tokens_per_kilobyte_max // 1024)
    if call.media is not None:
        prompt_max += call.media.image_count * model.image_tokens_max
        prompt_max += call.media.file_count * model.file_tokens_max
    if call.features and not _WITHOUT_BOUND.isdisjoint(call.features):
        prompt_max = context_length
    return Bounds(max_tokens, min(prompt_max, context_length), max_tokens * call.choice_count)


def _with_preset(
    request: ChatRequest, fields: dict[str, msgspec.Raw], rules: ReadRules
) -> tuple[ChatRequest, dict[str, msgspec.Raw]]:
    """Return a body, typed and split, with the preset of the function that its model may name."""
    name = function_of(request.model)
    if name is None:
        return request, fields
    if name not in rules.presets:
        raise function_not_found()
    return decode(with_preset(fields, rules.presets[name]), decode_chat)


def _check_choices(request: ChatRequest, rules: ReadRules) -> None:
    """Refuse what belongs together and is not, and figures out of bounds."""
    if request.stream_options is not None:
        is_streaming = request.stream
        if is_streaming is None:
            is_streaming = rules.dialect.is_streaming_default
        if not is_streaming:
            raise wrong("stream_options", "stream_options needs stream to be true.")
    if request.top_logprobs is not None:
        if not request.logprobs:
            raise wrong("top_logprobs", "top_logprobs needs logprobs to be true.")
        whole("top_logprobs", request.top_logprobs, 0, TOP_LOGPROBS_MAX)
    if request.seed is not None:
        whole("seed", request.seed, -SEED_MAX - 1, SEED_MAX)


def _looked_at(
    request: ChatRequest,
    fields: dict[str, msgspec.Raw],
    rules: ReadRules,
    features: tuple[str, ...],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return `features` with those of a body, and the fields that nobody knows."""
    unknown = unknown_fields(fields.keys(), is_strict=rules.is_strict)
    found = features_of(request, fields)
    if not CONSTRAINTS.isdisjoint(fields):
        found += read_constraints(fields)
    return (*features, *found), unknown


def _others(request: ChatRequest) -> tuple[str, ...]:
    """Return the models behind the first one, each once."""
    names = dict.fromkeys(request.models or ())
    names.pop(request.model, None)
    return tuple(names)


def _asked_max_tokens(request: ChatRequest) -> int | None:
    plain, other = request.max_tokens, request.max_completion_tokens
    if plain is not None:
        plain = whole("max_tokens", plain, 1, TOKENS_MAX)
    if other is None:
        return plain
    other = whole("max_completion_tokens", other, 1, TOKENS_MAX)
    if plain is not None and plain != other:
        raise wrong(
            "max_completion_tokens",
            f"max_tokens is {plain} and max_completion_tokens is {other}; give one.",
        )
    return other
