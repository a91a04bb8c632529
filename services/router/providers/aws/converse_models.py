"""In what the models behind Converse differ, and how thinking is asked of them; pure.

Source: Amazon Bedrock user guide, "Inference request parameters and response fields" of Anthropic
Claude, Amazon Nova, Mistral AI and OpenAI models; botocore service model `bedrock-runtime` (both
read 2026-11).
"""

from collections.abc import Mapping
from typing import Final

import msgspec

BUDGET_TOKENS_MIN: Final = 1024
"""Least that Claude takes as a budget for thinking."""

CLAUDE: Final = "claude"
NOVA: Final = "nova"
MISTRAL: Final = "mistral"
OPENAI: Final = "openai"

_MARKS: Final = (
    ("anthropic", CLAUDE),
    ("claude", CLAUDE),
    ("amazon.nova", NOVA),
    ("mistral.", MISTRAL),
    ("openai.", OPENAI),
)
_BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 65_536,
}
_EFFORTS: Final[Mapping[str, str]] = {name: name for name in _BUDGETS} | {"minimal": "low"}
_ANSWER_SHARE: Final = 4
"""A quarter of the output at least is left to the answer."""

NAMING: Final = frozenset({CLAUDE, NOVA})
"""Who can be told which tool to call; others only that one has to be."""

CACHING: Final = frozenset({CLAUDE, NOVA})
"""Whose prompts can be marked for the cache; tools only Claude's."""


class _Arguments(msgspec.Struct):
    enable_thinking: bool | None = None


class Thinking(msgspec.Struct):
    """What a request says about thinking before the answer."""

    reasoning_effort: str | None = None
    chat_template_kwargs: _Arguments | None = None

    @property
    def effort(self) -> str:
        """How hard to think: `none` for not at all, empty when nothing is said."""
        if self.reasoning_effort is not None:
            return self.reasoning_effort
        wanted = (self.chat_template_kwargs or _Arguments()).enable_thinking
        return {None: "", True: "medium", False: "none"}[wanted]


def family_of(model: str) -> str:
    """Return whose model an id names; empty when that cannot be told."""
    return next((family for mark, family in _MARKS if mark in model.lower()), "")


def top_k_fields(family: str, top_k: int) -> dict[str, object] | None:
    """Return how a family is told `top_k`; None when it cannot be."""
    if family in (CLAUDE, MISTRAL):
        return {"top_k": top_k}
    return {"inferenceConfig": {"topK": top_k}} if family == NOVA else None


def thinking_fields(
    mode: str, effort: str, *, max_tokens: int
) -> tuple[dict[str, object], str] | None:
    """Return the fields that ask for thinking, and the effort for `outputConfig`, if any.

    `mode` is how the deployment's owner says that its models take it. None: it cannot be said.
    """
    if effort == "none" and mode != "none":
        return {}, ""
    if effort not in _BUDGETS:
        return None
    if mode == "reasoning_effort":
        return {"reasoning_effort": effort}, ""
    if mode == "adaptive":
        return {"thinking": {"type": "adaptive"}}, _EFFORTS[effort]
    budget = min(_BUDGETS[effort], max_tokens - max_tokens // _ANSWER_SHARE - 1)
    if mode != "budget" or budget < BUDGET_TOKENS_MIN:
        return None
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}, ""
