"""What a text is held to, and when it is not judged at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Reason, TurnpikeError
from services.router.constraints import TEXT_CHARS_MAX, Kind, constraint_of, is_satisfied
from tests.fakes.openai_calls import make_body

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


def named(**changes: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA, **changes}}


@pytest.mark.parametrize(
    ("row", "fields", "good", "bad"),
    [
        ("P24", {"response_format": {"type": "json_object"}}, '{"a":[]}', "[]"),
        ("P25", {"response_format": named()}, '{"age":7}', '{"age":"7"}'),
        ("P25", {"response_format": named(strict=True)}, '{"age":7}', "I am 7."),
        ("P39", {"guided_json": SCHEMA}, '{"age": 7}\n', '```json\n{"age":7}\n```'),
        ("P40", {"guided_regex": "[a-z]+@x"}, "me@x", "me@x "),
        ("P41", {"guided_choice": ["yes", "no"]}, "no", "No"),
    ],
)
def test_text_that_breaks_the_constraint_is_told_from_one_that_keeps_it(
    row: str, fields: dict[str, Any], good: str, bad: str
) -> None:
    constraint = constraint_of(make_body(**fields))

    assert constraint.is_judged, row
    assert (True, False, False) == (
        is_satisfied(constraint, good),
        is_satisfied(constraint, bad),
        is_satisfied(constraint, ""),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}},
        {"response_format": named(strict=False)},
        {"response_format": {"type": "structural_tag", "format": {}}},
        {"structural_tag": {"format": {}}},
        {"guided_grammar": "root ::= x"},
        {"guided_decoding_backend": "xgrammar"},
        {"guided_json": SCHEMA, "stop": "}"},
        {"guided_json": SCHEMA, "stop": ["}"]},
        {"guided_json": SCHEMA, "stop_token_ids": [5]},
        {"guided_json": SCHEMA, "skip_special_tokens": False},
        {"guided_json": SCHEMA, "echo": True},
        {"guided_json": SCHEMA, "logit_bias": {"5": 100}},
        {"guided_json": SCHEMA, "continue_final_message": True},
        {"guided_json": SCHEMA, "min_tokens": 5},
    ],
)
def test_text_that_the_caller_may_have_changed_is_not_judged(fields: dict[str, Any]) -> None:
    assert not constraint_of(make_body(**fields)).is_judged


@pytest.mark.parametrize(
    "fields",
    [{"stop": []}, {"stop": None}, {"skip_special_tokens": True}, {"echo": False}, {"user": "u"}],
)
def test_field_that_changes_nothing_leaves_the_text_judged(fields: dict[str, Any]) -> None:
    assert constraint_of(make_body(guided_json=SCHEMA, **fields)).is_judged


def test_first_field_that_is_given_is_the_constraint() -> None:
    body = make_body(response_format=None, guided_regex="a", guided_whitespace_pattern=" ")

    found = constraint_of(body)

    assert (Kind.REGEX, "guided_regex", "a") == (found.kind, found.param, found.text)
    assert (("guided_whitespace_pattern",), " ") == (found.hints, found.whitespace_pattern)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": "text"},
        {"response_format": {"type": "yaml"}},
        {"response_format": {"type": "regex"}},
        {"response_format": {"type": "json_schema"}},
        {"guided_regex": 5},
        {"guided_choice": "yes"},
        {"guided_grammar": {}},
        {"guided_whitespace_pattern": []},
    ],
)
def test_field_that_the_gateway_lets_not_through_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(TurnpikeError) as caught:
        constraint_of(make_body(**fields))

    assert (Reason.INVALID_VALUE, *fields) == (
        caught.value.reason,
        caught.value.metadata["param"],
    )


def test_text_beyond_the_limit_and_constraint_that_does_not_compile_are_left_unjudged() -> None:
    json_object = constraint_of(make_body(response_format={"type": "json_object"}))

    assert is_satisfied(json_object, json.dumps({"a": "x" * (TEXT_CHARS_MAX - 9)}))
    assert is_satisfied(json_object, json.dumps({"a": "x" * TEXT_CHARS_MAX})) is None
    assert is_satisfied(constraint_of(make_body(guided_regex="(")), "a") is None
    assert is_satisfied(constraint_of(make_body(guided_json={"type": "x"})), "1") is None


names = st.text(min_size=1, max_size=8)


@given(st.dictionaries(names, st.integers(), min_size=1), st.data())
def test_object_keeps_to_the_schema_that_names_its_members(
    value: dict[str, int], data: st.DataObject
) -> None:
    members = {name: {"type": "integer"} for name in value}
    schema = {"type": "object", "properties": members, "required": list(value)}
    constraint = constraint_of(make_body(guided_json={**schema, "additionalProperties": False}))
    missing = data.draw(st.sampled_from(sorted(value)))
    text = json.dumps(value)

    assert is_satisfied(constraint, text)
    assert not is_satisfied(
        constraint, json.dumps({k: v for k, v in value.items() if k != missing})
    )
    assert not is_satisfied(constraint, json.dumps(value | {missing: "text"}))
    assert not is_satisfied(constraint, text[: data.draw(st.integers(0, len(text) - 1))])


@given(st.lists(names, min_size=1, max_size=5), st.text(max_size=8))
def test_choice_is_one_of_the_list_exactly(choices: list[str], other: str) -> None:
    constraint = constraint_of(make_body(guided_choice=choices))

    assert all(is_satisfied(constraint, choice) for choice in choices)
    assert (other in choices) is is_satisfied(constraint, other)
