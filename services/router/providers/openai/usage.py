"""What an OpenAI-compatible upstream says it used, checked and brought into one form.

Pure. Source: OpenAI API reference, object `usage` of chat completions (read 2026-11);
`prompt_cache_hit_tokens` is DeepSeek's name for cached tokens.
"""

from typing import Final, NamedTuple

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Failure, ProviderError
from turnpike.type.v1 import usage_pb2

TOKENS_MAX: Final = 2**31
"""A count above this is no count: the answer is refused."""

UPSTREAM: Final = usage_pb2.USAGE_SOURCE_UPSTREAM
ESTIMATED: Final = usage_pb2.USAGE_SOURCE_ESTIMATED


_Number = int | float | None


class _PromptDetails(msgspec.Struct):
    cached_tokens: _Number = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: _Number = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Number = None
    completion_tokens: _Number = None
    total_tokens: _Number = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: _Number = None


_MAIN: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_DETAILS: Final = ("audio_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens")
_NULL: Final = msgspec.Raw(b"null")
_typed: Final = msgspec.json.Decoder(_Usage)
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Usage(NamedTuple):
    """Token counts, and the upstream's usage object with its three main fields made true."""

    tokens: usage_pb2.TokenUsage
    json: bytes


def read_usage(raw: bytes) -> Usage | None:
    """Return what a usage object says, or None when it does not say how much was used.

    A missing figure is worked out from the total. Zero is a figure. Reasoning tokens that are
    inside the total but outside the completion are counted into the completion.

    Raises:
        ProviderError: `INVALID_RESPONSE` when it is no usage object or a count is impossible.
    """
    try:
        usage = _typed.decode(raw)
        fields = _fields.decode(raw)
    except JUNK:
        raise _impossible() from None
    prompt, completion = _count(usage.prompt_tokens), _count(usage.completion_tokens)
    total = _count(usage.total_tokens)
    if total is not None:
        if completion is None and prompt is not None:
            completion = total - prompt
        elif prompt is None and completion is not None:
            prompt = total - completion
    if prompt is None or completion is None:
        return None
    if len(fields) == 3 and total == prompt + completion and _are_plain(usage):
        # The usual object, as OpenAI's API and vLLM write it: nothing to put right.
        tokens = usage_pb2.TokenUsage(
            prompt_token_count=prompt, completion_token_count=completion, source=UPSTREAM
        )
        return Usage(tokens, raw)
    reasoning = _reasoning(usage)
    if reasoning > 0 and total == prompt + completion + reasoning:
        completion += reasoning
    cached = _cached(usage)
    if not all(0 <= count <= TOKENS_MAX for count in (prompt, completion, cached, reasoning)):
        raise _impossible()
    main = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    tokens = usage_pb2.TokenUsage(
        prompt_token_count=prompt,
        completion_token_count=completion,
        cached_prompt_token_count=min(cached, prompt),
        reasoning_token_count=min(reasoning, completion),
        source=UPSTREAM,
    )
    return Usage(tokens, msgspec.json.encode({**main, **_others(fields)}))


def openais_own(usage: Usage) -> Usage:
    """Return a usage with the members of OpenAI's object alone.

    What a vendor says of its own price, its cache or its searches is not for callers; tokens that
    were cached are said as OpenAI does.
    """
    tokens, fields = usage.tokens, _fields.decode(usage.json)
    found: dict[str, object] = {name: fields[name] for name in _MAIN}
    counts = {"cached_tokens": tokens.cached_prompt_token_count}
    found |= _details(fields, "prompt_tokens_details", counts)
    counts = {"reasoning_tokens": tokens.reasoning_token_count}
    found |= _details(fields, "completion_tokens_details", counts)
    return Usage(tokens, msgspec.json.encode(found))


def _details(
    fields: dict[str, msgspec.Raw], name: str, counts: dict[str, int]
) -> dict[str, object]:
    """Return the details of a usage; nothing where there is nothing to tell."""
    if name not in fields and not any(counts.values()):
        return {}
    said = _fields.decode(fields.get(name, b"{}"))
    known = {n: raw for n, raw in said.items() if n in _DETAILS and raw != _NULL}
    return {name: {**known, **counts}}


def estimate(completion_token_count: int) -> usage_pb2.TokenUsage:
    """Return the usage of an answer whose upstream gave none; the prompt is left to the caller."""
    return usage_pb2.TokenUsage(completion_token_count=completion_token_count, source=ESTIMATED)


def _count(number: _Number) -> int | None:
    """Return a count, also one that was written as 12.0."""
    if number is None:
        return None
    if number != int(number):
        raise _impossible()
    return int(number)


def _are_plain(usage: _Usage) -> bool:
    """Return whether the figures are whole numbers in range, written as such."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return (
        type(prompt) is int
        and type(completion) is int
        and type(usage.total_tokens) is int
        and 0 <= prompt <= TOKENS_MAX
        and 0 <= completion <= TOKENS_MAX
    )


def _reasoning(usage: _Usage) -> int:
    details = usage.completion_tokens_details
    return (_count(details.reasoning_tokens) or 0) if details is not None else 0


def _cached(usage: _Usage) -> int:
    details = usage.prompt_tokens_details
    if details is not None and details.cached_tokens is not None:
        return _count(details.cached_tokens) or 0
    return _count(usage.prompt_cache_hit_tokens) or 0


def _others(fields: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """Return what else the upstream says; details that it has not are left out, as by OpenAI."""
    return {name: raw for name, raw in fields.items() if name not in _MAIN and raw != _NULL}


def _impossible() -> ProviderError:
    return ProviderError(Failure.INVALID_RESPONSE, "The upstream reported an impossible usage.")
