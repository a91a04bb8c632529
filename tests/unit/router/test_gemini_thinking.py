"""How models of each generation are told to think."""

from typing import Any

import msgspec
import pytest

from services.router.providers.google.gemini_thinking import thinking_of, thinking_way
from services.router.providers.port import Body
from tests.fakes.gemini_script import Json

PRO, FLASH = "gemini-2.5-pro", "google/gemini-2.5-flash"
PRO_3, PRO_31, FLASH_3 = "gemini-3-pro-preview", "gemini-3.1-pro", "gemini-3-flash-preview"


def body_of(**fields: Any) -> Body:
    return msgspec.json.decode(msgspec.json.encode(fields), type=Body)


@pytest.mark.parametrize(
    ("model", "way"),
    [
        (PRO, "budget"),
        (FLASH, "budget"),
        (FLASH_3, "level"),
        ("models/gemini-4-ultra", "level"),
        ("gemini-2.0-flash", "none"),
        ("gemini-1.5-pro", "none"),
        ("gemini-2.5-flash-image", "none"),
        ("gemini-2.5-flash-preview-tts", "none"),
        ("gemma-3-27b-it", "none"),
        ("endpoints/123", "none"),
    ],
)
def test_way_goes_by_the_name(model: str, way: str) -> None:
    assert way == thinking_way(model, "")
    assert "budget" == thinking_way(model, "budget")


@pytest.mark.parametrize(
    ("model", "effort", "wanted", "is_told"),
    [
        (FLASH, "none", {"thinkingBudget": 0}, False),
        (FLASH, "low", {"thinkingBudget": 1024, "includeThoughts": True}, False),
        (FLASH, "medium", {"thinkingBudget": 8192, "includeThoughts": True}, False),
        (FLASH, "high", {"thinkingBudget": 24_576, "includeThoughts": True}, False),
        (FLASH, "xhigh", {"thinkingBudget": 24_576, "includeThoughts": True}, True),
        (PRO, "none", {"thinkingBudget": 128, "includeThoughts": True}, True),
        (PRO_3, "medium", {"thinkingLevel": "HIGH", "includeThoughts": True}, True),
        (PRO_31, "medium", {"thinkingLevel": "MEDIUM", "includeThoughts": True}, False),
        (PRO_31, "minimal", {"thinkingLevel": "LOW", "includeThoughts": True}, True),
        (FLASH_3, "minimal", {"thinkingLevel": "MINIMAL", "includeThoughts": True}, False),
        (FLASH_3, "none", {"thinkingLevel": "MINIMAL", "includeThoughts": True}, True),
    ],
)
def test_effort_is_a_budget_or_a_level(
    model: str, effort: str, wanted: Json, is_told: bool
) -> None:
    found = thinking_of(body_of(reasoning_effort=effort), model, "auto")

    assert (wanted, ("reasoning_effort",) * is_told) == tuple(found)


@pytest.mark.parametrize(
    ("arguments", "wanted", "is_told"),
    [
        ({"enable_thinking": False}, {"thinkingBudget": 0}, False),
        ({"enable_thinking": True}, {"thinkingBudget": -1, "includeThoughts": True}, False),
        ({"enable_thinking": False, "x": 1}, {"thinkingBudget": 0}, True),
        ({"x": 1}, {"includeThoughts": True}, True),
        ({}, {"includeThoughts": True}, False),
    ],
)
def test_argument_of_templates_turns_thinking_on_and_off(
    arguments: Json, wanted: Json, is_told: bool
) -> None:
    found = thinking_of(body_of(chat_template_kwargs=arguments), FLASH, "")

    assert (wanted, ("chat_template_kwargs",) * is_told) == tuple(found)


def test_thoughts_are_shown_unless_unwanted() -> None:
    assert {"includeThoughts": True} == thinking_of({}, FLASH, "").config
    assert thinking_of(body_of(include_reasoning=False), FLASH, "").config is None


def test_model_that_does_not_think_is_not_told() -> None:
    body = body_of(reasoning_effort="low", chat_template_kwargs={"enable_thinking": True})

    found = thinking_of(body, "gemini-2.0-flash", "")

    assert (None, ("chat_template_kwargs", "reasoning_effort")) == tuple(found)


@pytest.mark.parametrize("value", [3, ["low"], {"a": 1}])
def test_field_of_another_form_is_nothing(value: Any) -> None:
    body = body_of(reasoning_effort=value, chat_template_kwargs="x", include_reasoning="no")

    assert {"includeThoughts": True} == thinking_of(body, FLASH, "").config
