"""The top-level fields of a chat completion: plain, semantic, best effort, or nobody's; pure.

Semantic parameters change the answer: a route honours them or is not taken. Best-effort ones may
be dropped, and are then named in `X-Turnpike-Ignored`. Source: `facts/features.md` section 6.1.
"""

from collections.abc import Callable, Iterable, KeysView, Mapping
from typing import Final

import msgspec

from gateway.openai.schema import ChatRequest
from kit.errors import Reason, TurnpikeError

PLAIN: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
    | {"temperature", "top_p", "timeout_ms", "user", "seed"}
)
"""What asks nothing of a route; a body of these alone is looked at no further."""

TURNPIKE: Final = frozenset(
    {"timeout_ms", "routing_strategy", "allow_external"}
    | {"max_input_price_per_million", "max_output_price_per_million"}
    | {"episode_id", "tensorzero::episode_id", "session_id", "provider", "models"}
)
"""Turnpike's own, which no upstream gets to see."""

ROUTING: Final = TURNPIKE - {"timeout_ms"} | {"prompt_cache_key"}
"""What says how a request is routed, and with which others it belongs together."""

_BEST_EFFORT: Final = frozenset(
    {"metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention"}
    | {"safety_identifier", "store", "reasoning_effort", "verbosity", "chat_template_kwargs"}
    | {"guided_decoding_backend", "guided_whitespace_pattern", "include_reasoning", "reasoning"}
)
SAMPLING: Final = (
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "bad_words",
    "skip_special_tokens",
)
"""What vLLM's sampling parameters have beyond OpenAI's."""

_PRESENT: Final = (
    *SAMPLING,
    "functions",
    "prediction",
    "audio",
    "web_search_options",
)
"""Semantic whenever they are given and not null or empty."""

_CONSTRAINTS: Final = frozenset(
    {"response_format", "guided_json", "guided_regex", "guided_choice", "guided_grammar"}
    | {"structural_tag"}
)
_OF_PROMPT: Final = frozenset({"chat_template", "mm_processor_kwargs"})
"""Semantic, and looked at where messages are."""

_STOPS_MIN: Final = 4
_TOP_LOGPROBS_MIN: Final = 5

_JUDGED: Final[tuple[tuple[str, Callable[[ChatRequest], bool]], ...]] = (
    ("tools", lambda r: bool(r.tools)),
    ("tool_choice", lambda r: r.tool_choice not in (None, "auto", "none")),
    ("function_call", lambda r: r.function_call not in (None, "auto", "none")),
    ("parallel_tool_calls", lambda r: r.parallel_tool_calls is False),
    ("logprobs", lambda r: r.logprobs is True),
    ("top_logprobs", lambda r: bool(r.top_logprobs)),
    ("top_logprobs>5", lambda r: (r.top_logprobs or 0) > _TOP_LOGPROBS_MIN),
    ("n", lambda r: (r.n or 1) > 1),
    ("frequency_penalty", lambda r: bool(r.frequency_penalty)),
    ("presence_penalty", lambda r: bool(r.presence_penalty)),
    ("logit_bias", lambda r: bool(r.logit_bias)),
    ("modalities", lambda r: r.modalities not in (None, [], ["text"])),
    ("stop", lambda r: bool(r.stop)),
    ("stop>4", lambda r: isinstance(r.stop, list) and len(r.stop) > _STOPS_MIN),
)
"""Semantic by their value; a `>` in the name begins a level that fewer routes reach."""

SEMANTIC: Final = (
    frozenset(name for name, _ in _JUDGED) | frozenset(_PRESENT) | _CONSTRAINTS | _OF_PROMPT
)
KNOWN: Final = PLAIN | TURNPIKE | _BEST_EFFORT | {n for n in SEMANTIC if ">" not in n}

_GUARDED: Final = TURNPIKE | _CONSTRAINTS | {"max_tokens", "max_completion_tokens"}
_SLIPS_MAX: Final = 2
_EMPTY: Final = frozenset({b"null", b"[]", b"{}", b'""', b"false"})
_UNKNOWN_MAX: Final = 64
_NAME_CHARS_MAX: Final = 128


def features_of(request: ChatRequest, fields: Mapping[str, msgspec.Raw]) -> list[str]:
    """Return the semantic parameters that a body uses, constraints and content left aside."""
    found = [name for name, is_used in _JUDGED if is_used(request)]
    return found + present(_PRESENT, fields)


def present(names: Iterable[str], fields: Mapping[str, msgspec.Raw]) -> list[str]:
    """Return the names whose fields are given and neither null nor empty."""
    return [name for name in names if name in fields and bytes(fields[name]) not in _EMPTY]


def unknown_fields(
    names: KeysView[str], known: frozenset[str] = KNOWN, *, is_strict: bool
) -> tuple[str, ...]:
    """Return the fields that an endpoint does not know, sorted.

    Raises:
        TurnpikeError: `UNSUPPORTED_PARAMETER`: one is a slip of the pen in a field that guards
            money or output, or means something at another endpoint, or the key takes no unknown
            fields. `INVALID_VALUE`: there are too many.
    """
    unknown = sorted(names - known)
    for name in unknown:
        if len(name) > _NAME_CHARS_MAX or len(unknown) > _UNKNOWN_MAX or not name.isprintable():
            raise TurnpikeError(
                Reason.INVALID_VALUE, "The body has fields that no API has; send fewer and shorter."
            )
        if name in SEMANTIC:
            raise TurnpikeError(
                Reason.UNSUPPORTED_PARAMETER,
                f"{name} is not supported by this endpoint.",
                param=name,
            )
        if meant := _meant(name):
            raise TurnpikeError(
                Reason.UNSUPPORTED_PARAMETER,
                f"{name} is not known; {meant} is probably meant.",
                param=name,
            )
        if is_strict:
            raise TurnpikeError(
                Reason.UNSUPPORTED_PARAMETER,
                f"{name} is not known, and this key takes known fields only.",
                param=name,
            )
    return tuple(unknown)


def _meant(name: str) -> str:
    return next((other for other in sorted(_GUARDED) if _is_near(name, other)), "")


def _is_near(one: str, other: str) -> bool:
    """Return whether two names are at most two edits apart."""
    if abs(len(one) - len(other)) > _SLIPS_MAX:
        return False
    row: Iterable[int] = range(len(other) + 1)
    for i, letter in enumerate(one, 1):
        above, row = list(row), [i]
        for j, wanted in enumerate(other, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != wanted)))
    return list(row)[-1] <= _SLIPS_MAX
