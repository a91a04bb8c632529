"""What a whole completion becomes as a message; each is one of the SDK's own, to the letter."""

import json
from typing import Any

import pytest
from anthropic.types import Message
from pydantic import BaseModel, TypeAdapter

from gateway.anthropic.answer import message
from kit.errors import Reason, TurnpikeError

MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


def call(arguments: Any, call_id: str | None = "call_1") -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def use(given: Any, call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": given}


def completion(
    said: dict[str, Any], reason: str = "stop", usage: Any = USAGE, **choice: Any
) -> bytes:
    first = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": reason}
    answer = {
        "id": "chatcmpl-r1",
        "object": "chat.completion",
        "created": 1,
        "model": "acme/small",
        "choices": [first | choice],
        "usage": usage,
    }
    return json.dumps(answer).encode()


def told(data: bytes, stop_sequences: list[str] | None = None) -> dict[str, Any]:
    """Return the message, checked against the SDK's type: nothing wrong, nothing beyond it."""
    found = message(data, stop_sequences or [], "r1")
    assert_nothing_beyond(MESSAGE.validate_json(found, strict=True))
    shown: dict[str, Any] = json.loads(found)
    return shown


def assert_nothing_beyond(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, value
        for name in value.model_fields_set:
            assert_nothing_beyond(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            assert_nothing_beyond(each)


def test_message_has_every_field() -> None:
    assert {
        "id": "msg_r1",
        "type": "message",
        "role": "assistant",
        "model": "acme/small",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 5,
        },
    } == told(completion({"content": "Hi"}))


@pytest.mark.parametrize(
    ("said", "blocks"),
    [
        ({"content": "Hi"}, [{"type": "text", "text": "Hi"}]),
        ({"content": ""}, []),
        ({"content": None, "tool_calls": [call('{"city":"Oslo"}')]}, [use({"city": "Oslo"})]),
        (
            {"content": "So:", "reasoning_content": "Hm.", "tool_calls": [call("{}"), call("{}")]},
            [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "text", "text": "So:"},
                use({}),
                use({}),
            ],
        ),
        ({"content": None, "refusal": "No."}, [{"type": "text", "text": "No."}]),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, 5]},
            [{"type": "text", "text": "ab"}],
        ),
        ({"tool_calls": [call("", None)]}, [use({}, "toolu_r1_0")]),
        ({"tool_calls": [call({"city": "Oslo"})]}, [use({"city": "Oslo"})]),
        ({"tool_calls": [call('{"city":"Os')]}, [use({"INVALID_JSON": '{"city":"Os'})]),
        ({"tool_calls": [call("[1]")]}, [use({"INVALID_JSON": "[1]"})]),
    ],
)
def test_what_was_said_becomes_blocks(said: dict[str, Any], blocks: list[Any]) -> None:
    assert blocks == told(completion(said))["content"]


@pytest.mark.parametrize(
    ("reason", "said", "choice", "expected"),
    [
        ("stop", {}, {}, ("end_turn", None)),
        ("stop", {}, {"stop_reason": "END"}, ("stop_sequence", "END")),
        ("stop", {}, {"stop_reason": "other"}, ("end_turn", None)),
        ("stop", {}, {"stop_reason": 151643}, ("end_turn", None)),
        ("length", {}, {}, ("max_tokens", None)),
        ("tool_calls", {"tool_calls": [call("{}")]}, {}, ("tool_use", None)),
        ("stop", {"tool_calls": [call("{}")]}, {}, ("tool_use", None)),
        ("length", {"tool_calls": [call("{")]}, {}, ("max_tokens", None)),
        ("function_call", {}, {}, ("tool_use", None)),
        ("content_filter", {}, {}, ("refusal", None)),
    ],
)
def test_a10_reason_to_stop_is_anthropics(
    reason: str, said: dict[str, Any], choice: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    found = told(completion({"content": "x", **said}, reason, **choice), ["END"])

    assert expected == (found["stop_reason"], found["stop_sequence"])


@pytest.mark.parametrize(
    ("more", "cached", "reasoning"),
    [
        ({}, 0, None),
        ({"prompt_tokens_details": {"cached_tokens": 8}}, 8, None),
        ({"prompt_tokens_details": {"cached_tokens": 99}}, 12, None),
        ({"prompt_tokens_details": None, "prompt_cache_hit_tokens": 3}, 3, None),
        ({"completion_tokens_details": {"reasoning_tokens": 4}}, 0, {"thinking_tokens": 4}),
    ],
)
def test_a12_input_tokens_do_not_include_cached_ones(
    more: dict[str, Any], cached: int, reasoning: dict[str, int] | None
) -> None:
    usage = told(completion({"content": "x"}, usage=USAGE | more))["usage"]

    assert (12 - cached, cached) == (usage["input_tokens"], usage["cache_read_input_tokens"])
    assert (5, reasoning) == (usage["output_tokens"], usage.get("output_tokens_details"))


@pytest.mark.parametrize(
    "odd",
    [
        b"{}",
        b"[]",
        b'{"model":"m","choices":[]}',
        completion({"content": "x"}, "tired"),
        completion({"tool_calls": [{"id": "c"}]}),
        completion({"tool_calls": "none"}),
    ],
)
def test_answer_that_is_none_is_the_upstreams_fault(odd: bytes) -> None:
    with pytest.raises(TurnpikeError) as caught:
        message(odd, [], "r1")

    assert Reason.UPSTREAM_INVALID_RESPONSE == caught.value.reason


@pytest.mark.parametrize("huge", [b"9" * 5000, b"1e999", b"-1e400", b"18446744073709551616"])
def test_number_that_nobody_can_read_does_not_cost_the_rest(huge: bytes) -> None:
    odd = completion({"content": "x", "reasoning_content": 0}).replace(
        b'"reasoning_content": 0', b'"reasoning_content": ' + huge
    )

    assert [{"type": "text", "text": "x"}] == told(odd)["content"]


def test_call_of_another_tool_than_a_function_is_none() -> None:
    custom = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}

    found = told(completion({"content": "x", "tool_calls": [custom]}))

    assert ([{"type": "text", "text": "x"}], "end_turn") == (found["content"], found["stop_reason"])
