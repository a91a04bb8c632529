"""How Gemini is told to think: by a budget of tokens, by a level, or not at all; pure.

Source: Gemini API, thinking and OpenAI compatibility (read 2026-11).
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body

FIELDS: Final = frozenset({"reasoning_effort", "chat_template_kwargs", "include_reasoning"})
"""The request fields that are read here; all of them are best effort."""

AUTO: Final = "auto"
BUDGET: Final = "budget"
LEVEL: Final = "level"
NEVER: Final = "none"

_GENERATION: Final = re.compile(r"gemini-(\d+)(?:\.(\d+))?-")
_OTHER_MODELS: Final = re.compile(r"-(?:image|tts|live|audio|embedding)")
_FIRST_WITH_BUDGET: Final = (2, 5)
_FIRST_WITH_LEVEL: Final = (3, 0)
_PRO_BUDGET_MIN: Final = 128
_BUDGETS: Final = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
_DYNAMIC: Final = -1
_LEVELS: Final = ("minimal", "low", "medium", "high")
_OFF: Final = "none"


class Thinking(NamedTuple):
    """`config` is the thinkingConfig, None to send none; `ignored` is what it does not say."""

    config: dict[str, object] | None
    ignored: tuple[str, ...] = ()


class _Arguments(msgspec.Struct):
    enable_thinking: bool | None = None


_text: Final = msgspec.json.Decoder(str | None).decode
_flag: Final = msgspec.json.Decoder(bool | None).decode
_arguments: Final = msgspec.json.Decoder(_Arguments | None).decode
_names: Final = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode


def thinking_way(model: str, configured: str) -> str:
    """Return how a model is told to think, by its name unless the owner has said it."""
    if configured not in ("", AUTO):
        return configured
    found = _GENERATION.search(f"{model}-")
    if found is None or _OTHER_MODELS.search(model):
        return NEVER
    generation = (int(found[1]), int(found[2] or 0))
    if generation >= _FIRST_WITH_LEVEL:
        return LEVEL
    return BUDGET if generation >= _FIRST_WITH_BUDGET else NEVER


def thinking_of(body: Body, model: str, configured: str) -> Thinking:
    """Return what a request says about thinking, in Gemini's words."""
    way = thinking_way(model, configured)
    effort = _read(_text, body, "reasoning_effort")
    arguments = _read(_arguments, body, "chat_template_kwargs")
    is_wanted = None if arguments is None else arguments.enable_thinking
    ignored = []
    if len(_read(_names, body, "chat_template_kwargs") or {}) > (is_wanted is not None):
        ignored.append("chat_template_kwargs")
    if way == NEVER:
        asked = (("reasoning_effort", effort), ("chat_template_kwargs", is_wanted))
        told = {name for name, value in asked if value is not None}
        return Thinking(None, tuple(sorted(told.union(ignored))))
    param = "reasoning_effort" if effort is not None else "chat_template_kwargs"
    if effort is None and is_wanted is False:
        effort = _OFF
    config: dict[str, object] = {}
    if effort is not None or is_wanted:
        say = _budget if way == BUDGET else _level
        config, is_exact = say(model, effort)
        if not is_exact and param not in ignored:
            ignored.append(param)
    is_shown = _read(_flag, body, "include_reasoning") is not False
    if config.get("thinkingBudget") != 0 and is_shown:
        config["includeThoughts"] = True
    return Thinking(config or None, tuple(sorted(ignored)))


def _budget(model: str, effort: str | None) -> tuple[dict[str, object], bool]:
    if effort is None:
        return {"thinkingBudget": _DYNAMIC}, True
    budget = _BUDGETS.get(effort)
    if budget is None:
        return {"thinkingBudget": _BUDGETS["high"]}, False
    if budget == 0 and "pro" in model:
        # These cannot stop thinking; this is the least.
        return {"thinkingBudget": _PRO_BUDGET_MIN}, False
    return {"thinkingBudget": budget}, True


def _level(model: str, effort: str | None) -> tuple[dict[str, object], bool]:
    if effort is None:
        return {}, True
    known: Sequence[str] = _LEVELS if "pro" not in model else _LEVELS[1:]
    if "gemini-3-pro" in model:
        known = ("low", "high")
    if effort in known:
        return {"thinkingLevel": effort.upper()}, True
    nearest = known[0] if effort in (_OFF, "minimal") else known[-1]
    return {"thinkingLevel": nearest.upper()}, False


def _read(decode: Any, body: Body, name: str) -> Any:  # noqa: ANN401 - any msgspec type
    """Return a field, None for one that is absent or has another form."""
    try:
        return decode(body[name]) if name in body else None
    except JUNK:
        return None
