"""Answers that are held to a form: what is asked of Claude for it, and what schemas it keeps to."""

import json
from typing import Any

import msgspec
import pytest

from services.router.providers.anthropic.codec import AnthropicCodec
from services.router.providers.anthropic.schemas import is_strict, object_schema
from services.router.providers.port import Failure, ProviderError
from tests.fakes.anthropic_script import Script, dumps, events_of, framed, message_of, text, tool
from tests.fixtures.anthropic_calls import LOOK, NATIVE, STRICT_SCHEMA, attempt, encoded, folded
from tests.fixtures.anthropic_types import checked

FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "place", "schema": STRICT_SCHEMA, "strict": True},
}
LOOSE = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}


def raw(schema: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(schema))


def sent(**fields: Any) -> dict[str, Any]:
    return checked(encoded(**fields).body)


@pytest.mark.parametrize("field", [{"response_format": FORMAT}, {"guided_json": STRICT_SCHEMA}])
def test_a_model_that_can_is_held_to_the_schema_itself(field: dict[str, Any]) -> None:
    found = sent(options=NATIVE, **field)

    form = {"type": "json_schema", "schema": STRICT_SCHEMA}
    assert found["output_config"] == {"format": form}
    assert "tools" not in found


def test_a_choice_is_held_to_the_schema_around_it() -> None:
    found = sent(options=NATIVE, guided_choice=["yes", "no"])

    schema = found["output_config"]["format"]["schema"]
    assert schema["properties"]["choice"]["enum"] == ["yes", "no"]


@pytest.mark.parametrize(
    ("options", "field", "schema"),
    [
        ({}, {"response_format": FORMAT}, STRICT_SCHEMA),
        ({}, {"guided_json": {"properties": {}}}, {"type": "object", "properties": {}}),
        ({}, {"response_format": {"type": "json_object"}}, {"type": "object"}),
        (NATIVE, {"response_format": {"type": "json_object"}}, {"type": "object"}),
        (NATIVE, {"guided_json": LOOSE}, LOOSE),
    ],
)
def test_for_the_others_the_answer_is_the_input_of_one_forced_tool(
    options: dict[str, str], field: dict[str, Any], schema: Any
) -> None:
    found = sent(options=options, **field)

    (tool_,) = found["tools"]
    assert tool_["input_schema"] == schema
    assert found["tool_choice"] == {
        "type": "tool",
        "name": "give_answer",
        "disable_parallel_tool_use": True,
    }
    assert "output_config" not in found


def test_with_tools_of_the_caller_one_of_all_is_called() -> None:
    taken = {"type": "function", "function": {"name": "give_answer"}}
    free = sent(response_format=FORMAT, tools=[LOOK, taken])
    barred = sent(response_format=FORMAT, tools=[LOOK], tool_choice="none")
    forced = sent(response_format=FORMAT, tools=[LOOK], tool_choice="required")
    native = sent(response_format=FORMAT, tools=[LOOK], options=NATIVE)

    assert [each["name"] for each in free["tools"]] == ["look", "give_answer", "give_answer_"]
    assert free["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert barred["tool_choice"]["name"] == "give_answer"
    assert forced["tool_choice"] == {"type": "any"}
    assert [each["name"] for each in forced["tools"]] == ["look"]
    assert "tool_choice" not in native


@pytest.mark.parametrize(
    "schema", [{"type": "array"}, {"anyOf": [LOOSE]}, {"$ref": "#/$defs/a", "$defs": {"a": LOOSE}}]
)
def test_an_answer_that_is_no_object_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as caught:
        encoded(guided_json=schema)

    assert (caught.value.failure, caught.value.param) == (Failure.UNSUPPORTED, "guided_json")


def test_text_alone_asks_for_nothing() -> None:
    assert "tools" not in sent(response_format={"type": "text"})


@pytest.mark.parametrize("stop_reason", ["tool_use", "max_tokens"])
def test_the_input_of_the_tool_is_the_text_of_the_answer(stop_reason: str) -> None:
    says = (tool("toolu_1", "give_answer", '{"city":', '"Bern"', "}"),)
    script = Script(says=says, stop_reason=stop_reason)
    call, body = attempt(response_format=FORMAT)
    codec = AnthropicCodec()

    translator = codec.translator(call, body)
    batches = [translator.feed(framed(event)) for event in events_of(script)]
    whole = codec.read(call._replace(is_streaming=False), body, dumps(message_of(script)))

    finish = batches[-1].finish if batches[-1] else None
    assert finish is not None
    assert finish.finish_reason == {"tool_use": "stop", "max_tokens": "length"}[stop_reason]
    assert folded([batch for batch in batches if batch]) == {"content": '{"city":"Bern"}'}
    message = json.loads(whole.completion)["choices"][0]["message"]
    assert json.loads(message["content"]) == {"city": "Bern"}
    assert "tool_calls" not in message


def test_a_call_of_the_callers_own_tool_stays_one() -> None:
    script = Script(says=(tool("toolu_1", "look", "{}"),), stop_reason="tool_use")
    call, body = attempt(response_format=FORMAT, tools=[LOOK], is_streaming=False)

    batch = AnthropicCodec().read(call, body, dumps(message_of(script)))

    assert batch.finish.finish_reason == "tool_calls"


def test_an_answer_of_a_model_that_can_is_text() -> None:
    script = Script(says=(text('{"city":"Bern"}'),))
    call, body = attempt(response_format=FORMAT, options=NATIVE, is_streaming=False)

    batch = AnthropicCodec().read(call, body, dumps(message_of(script)))

    assert batch.finish.finish_reason == "stop"


@pytest.mark.parametrize(
    "schema",
    [
        STRICT_SCHEMA,
        {"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 1},
        {"anyOf": [{"type": "null"}, STRICT_SCHEMA]},
        {"$ref": "#/$defs/a", "$defs": {"a": STRICT_SCHEMA}},
        {"type": "string", "enum": ["a", "b"], "description": "One of both."},
        {"enum": [1, None, "x"]},
    ],
)
def test_schemas_that_are_kept_to(schema: Any) -> None:
    assert is_strict(raw(schema))


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        LOOSE,
        {"type": "object", "properties": {}},
        {**STRICT_SCHEMA, "properties": {"city": {}}},
        {**STRICT_SCHEMA, "minProperties": 1},
        {"type": ["string", "null"]},
        {"type": "string", "pattern": "a+"},
        {"type": "string", "format": "regex"},
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {"type": "array", "items": [{"type": "string"}]},
        {"oneOf": [STRICT_SCHEMA]},
        {"enum": [{"a": 1}]},
        {"const": []},
        {"$ref": "#/properties/a"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        {
            "$ref": "#/$defs/a",
            "$defs": {
                "a": {"type": "array", "items": {"$ref": "#/$defs/b"}},
                "b": {"type": "array", "items": {"$ref": "#/$defs/a"}},
            },
        },
    ],
)
def test_schemas_that_are_not(schema: Any) -> None:
    assert not is_strict(raw(schema))


def test_a_schema_is_narrowed_to_objects_where_that_keeps_to_it() -> None:
    assert object_schema(raw({})) == raw({"type": "object"})
    assert object_schema(raw(LOOSE)) == raw(LOOSE)
    for schema in (True, {"type": "string"}, {"enum": [1]}, {"type": ["object"]}):
        assert object_schema(raw(schema)) is None
