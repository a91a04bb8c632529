"""Whether Claude is told to think, and what that gives way to."""

from typing import Any

import pytest

from services.router.providers.translated import Outgoing
from tests.fixtures.anthropic_calls import LOOK, USER, encoded
from tests.fixtures.anthropic_types import checked

KWARGS = "chat_template_kwargs"
ADAPTIVE = {"type": "adaptive", "display": "summarized"}
OFF = {"type": "disabled"}


def asked(mode: str, *messages: dict[str, Any], **fields: Any) -> tuple[Any, Any, list[str]]:
    """Return what is said of thinking and effort, and what is told to be ignored."""
    options = {"engine": "anthropic", "thinking": mode}
    outgoing: Outgoing = encoded(*messages, options=options, **fields)
    found = checked(outgoing.body)
    effort = found.get("output_config", {}).get("effort")
    return found.get("thinking"), effort, sorted(outgoing.ignored)


@pytest.mark.parametrize(
    ("mode", "fields", "expected"),
    [
        ("adaptive", {}, (None, None, [])),
        ("adaptive", {"reasoning_effort": "high"}, (ADAPTIVE, "high", [])),
        ("adaptive", {"reasoning_effort": "max"}, (ADAPTIVE, "max", [])),
        ("adaptive", {"reasoning_effort": "minimal"}, (ADAPTIVE, None, ["reasoning_effort"])),
        ("adaptive", {"reasoning_effort": "odd"}, (None, None, ["reasoning_effort"])),
        ("adaptive", {"reasoning_effort": "none"}, (OFF, None, [])),
        ("adaptive", {KWARGS: {"enable_thinking": True}}, (ADAPTIVE, None, [])),
        ("adaptive", {KWARGS: {"enable_thinking": False}}, (OFF, None, [])),
        ("adaptive", {KWARGS: {"a": 1}}, (None, None, [KWARGS])),
        ("adaptive", {KWARGS: {"a": 1, "enable_thinking": True}}, (ADAPTIVE, None, [KWARGS])),
        (
            "adaptive",
            {KWARGS: {"enable_thinking": False}, "reasoning_effort": "low"},
            (OFF, "low", []),
        ),
        (
            "adaptive",
            {KWARGS: {"enable_thinking": True}, "reasoning_effort": "none"},
            (ADAPTIVE, None, ["reasoning_effort"]),
        ),
        ("always", {"reasoning_effort": "none"}, (None, None, ["reasoning_effort"])),
        ("always", {KWARGS: {"enable_thinking": False}}, (None, None, [KWARGS])),
        ("always", {KWARGS: {"enable_thinking": True}}, (ADAPTIVE, None, [])),
        ("none", {"reasoning_effort": "low"}, (None, None, ["reasoning_effort"])),
        ("none", {KWARGS: {"enable_thinking": False}}, (None, None, [KWARGS])),
        ("budget", {"reasoning_effort": "none"}, (OFF, None, [])),
        (
            "budget",
            {KWARGS: {"enable_thinking": False}, "reasoning_effort": "low"},
            (OFF, None, ["reasoning_effort"]),
        ),
    ],
)
def test_a_wish_is_said_or_told_to_be_ignored(
    mode: str, fields: dict[str, Any], expected: tuple[Any, Any, list[str]]
) -> None:
    assert asked(mode, **fields) == expected


@pytest.mark.parametrize(
    ("effort", "max_tokens", "budget"),
    [
        ("low", 100_000, 2048),
        ("high", 100_000, 24_576),
        ("high", 10_000, 8000),
        ("low", 1280, 1024),
    ],
)
def test_a_budget_leaves_room_for_the_answer(effort: str, max_tokens: int, budget: int) -> None:
    thinking, said, ignored = asked("budget", reasoning_effort=effort, max_tokens=max_tokens)

    assert thinking == {"type": "enabled", "budget_tokens": budget}
    assert (said, ignored) == (None, [])


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 1279},
        {"temperature": 0.2},
        {"top_k": 5},
        {"top_p": 0.5},
        {"tools": [LOOK], "tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_thinking_gives_way_and_that_is_told(fields: dict[str, Any]) -> None:
    fields = {"max_tokens": 8000, **fields}
    thinking, _, ignored = asked("budget", reasoning_effort="high", **fields)

    assert (thinking, ignored) == (None, ["reasoning_effort"])


def test_thinking_goes_with_a_wide_choice_of_tokens() -> None:
    thinking, *_ = asked("budget", reasoning_effort="low", max_tokens=8000, top_p=0.97)

    assert thinking is not None


def test_amid_calls_a_budget_is_given_only_where_the_turn_began_with_a_thought() -> None:
    function = {"name": "look", "arguments": "{}"}
    calls = {"tool_calls": [{"id": "a", "type": "function", "function": function}]}
    said: dict[str, Any] = {"role": "assistant", "content": None, **calls}
    result = {"role": "tool", "tool_call_id": "a", "content": "x"}
    thought = {"reasoning_details": [{"type": "reasoning.text", "text": "Hm", "signature": "s"}]}
    fields: dict[str, Any] = {"reasoning_effort": "low", "max_tokens": 8000, "tools": [LOOK]}

    without = asked("budget", USER, said, result, **fields)
    within = asked("budget", USER, {**said, **thought}, result, **fields)
    adaptive = asked("adaptive", USER, said, result, **fields)

    assert without == (None, None, ["reasoning_effort"])
    assert within == ({"type": "enabled", "budget_tokens": 2048}, None, [])
    assert adaptive == (ADAPTIVE, "low", [])
