"""Whether a model thinks before it answers, and how much; pure.

All of it is best effort: it gives way to a tool that must be called and to how tokens are chosen,
and to an output bound that leaves no room for it. Source: Anthropic's pages on extended thinking,
adaptive thinking and effort, and the types of anthropic-sdk-python 2.14 (read 2026-11).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from services.router.providers.anthropic.blocks import REASONING_FORMAT, Block
from services.router.providers.anthropic.fields import read_field
from services.router.providers.port import Body, Call
from services.router.providers.turn_state import DETAILS, WantsBack

MODES: Final = ("adaptive", "always", "budget", "none")
"""The option `thinking`, how a model is told to think: it decides for itself how much; the same,
and it cannot be kept from it; it is given a budget; not at all. The first one is the usual."""

BUDGET_TOKENS_MIN: Final = 1024
"""The least that a budget may be."""

_EFFORT: Final = "reasoning_effort"
_ARGUMENTS: Final = "chat_template_kwargs"
_OFF: Final = "none"
_USUAL: Final = "medium"
_BUDGETS: Final = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 65_536,
}
"""Tokens for each effort, where the output bound leaves as many."""

_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})
_TOP_P_MIN: Final = 0.95
_SIGNED: Final = WantsBack(frozenset({DETAILS}), frozenset({REASONING_FORMAT}))


class _Arguments(msgspec.Struct):
    enable_thinking: bool | None = None


class Thinking(NamedTuple):
    """What is said of it: `config` is `thinking`, `effort` is that of `output_config`.

    `ignored` names the request fields that were not or only in part honoured.
    """

    config: dict[str, Any] | None = None
    effort: str = ""
    ignored: tuple[str, ...] = ()


class _Wish(NamedTuple):
    """What a request says of it; `is_wanted` is None when that is left to the model."""

    effort: str
    is_wanted: bool | None
    names: frozenset[str]
    unheard: frozenset[str]


def thinking_of(
    call: Call, body: Body, request: dict[str, object], turns: Sequence[Block], *, is_forced: bool
) -> Thinking:
    """Return how a model is told to think.

    Args:
        call: The attempt.
        body: The OpenAI request.
        request: What goes out so far, with how tokens are chosen.
        turns: The turns as they go out.
        is_forced: Whether a tool has to be called.

    Raises:
        ProviderError: REJECTED, with `param`: a field is not what it should be.
    """
    if _EFFORT not in body and _ARGUMENTS not in body:
        return Thinking()
    wish = _read(body)
    mode = call.options.get("thinking", MODES[0])
    if mode == "none":
        return Thinking(ignored=_sorted(wish.names | wish.unheard))
    is_adaptive = mode != "budget"
    effort = wish.effort if is_adaptive and wish.effort in _EFFORTS else ""
    lost = set(wish.unheard)
    if wish.effort not in ("", _OFF, effort):
        lost.add(_EFFORT)
    if not wish.is_wanted:
        is_off = wish.is_wanted is False
        if is_off and mode == "always":
            return Thinking(None, effort, _sorted(lost | wish.names))
        return Thinking({"type": "disabled"} if is_off else None, effort, _sorted(lost))
    config = _adaptive() if is_adaptive else _budget(call, wish.effort or _USUAL, turns)
    if config is None or is_forced or _is_otherwise_chosen(request):
        return Thinking(None, effort, _sorted(lost | wish.names))
    if not is_adaptive:
        lost.discard(_EFFORT)
    return Thinking(config, effort, _sorted(lost | wish.unheard))


def wants_back(call: Call, body: Body) -> WantsBack | None:
    """Return what a model that thinks needs of its earlier thoughts: their signatures."""
    mode = call.options.get("thinking", MODES[0])
    if mode == "none" or (mode != "always" and _EFFORT not in body and _ARGUMENTS not in body):
        return None
    return _SIGNED


def _read(body: Body) -> _Wish:
    effort = read_field(body, _EFFORT, str) or ""
    arguments = read_field(body, _ARGUMENTS, dict[str, msgspec.Raw]) or {}
    found = read_field(body, _ARGUMENTS, _Arguments) or _Arguments()
    unheard, names = set(), set()
    if arguments.keys() - {"enable_thinking"}:
        unheard.add(_ARGUMENTS)
    if effort and effort != _OFF and effort not in _BUDGETS:
        unheard.add(_EFFORT)
        effort = ""
    is_wanted = found.enable_thinking
    if effort:
        names.add(_EFFORT)
    if is_wanted is not None:
        names.add(_ARGUMENTS)
        if effort == _OFF and is_wanted:
            unheard.add(_EFFORT)
    elif effort:
        is_wanted = effort != _OFF
    return _Wish(effort, is_wanted, frozenset(names), frozenset(unheard))


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _adaptive() -> dict[str, Any]:
    return {"type": "adaptive", "display": "summarized"}


def _budget(call: Call, effort: str, turns: Sequence[Block]) -> dict[str, Any] | None:
    """Return a budget that leaves a fifth of the output to the answer; None if none fits."""
    budget = min(_BUDGETS.get(effort, _BUDGETS[_USUAL]), call.max_tokens * 4 // 5)
    if budget < BUDGET_TOKENS_MIN or _is_amid_calls(turns):
        return None
    return {"type": "enabled", "budget_tokens": budget}


def _is_amid_calls(turns: Sequence[Block]) -> bool:
    """Whether a turn with calls goes on that was not begun with a thought, as it would have to."""
    if turns[-1]["content"][0]["type"] != "tool_result":
        return False
    begun = next((turn for turn in reversed(turns) if turn["role"] == "assistant"), None)
    return begun is None or not begun["content"][0]["type"].endswith("thinking")


def _is_otherwise_chosen(request: dict[str, object]) -> bool:
    """Whether tokens are to be chosen in a way that thinking does not go with."""
    top_p = request.get("top_p")
    is_narrow = isinstance(top_p, msgspec.Raw) and float(bytes(top_p)) < _TOP_P_MIN
    return is_narrow or "temperature" in request or "top_k" in request
