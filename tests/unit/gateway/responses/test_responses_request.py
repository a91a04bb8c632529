"""What a request for a response asks of a model."""

import json
from typing import Any

import pytest

from gateway.call import ModelCall
from gateway.responses.request import read_responses
from tests.fixtures.responses import ask
from tests.fixtures.rules import rules
from tests.unit.gateway.responses.asked import (
    CALL,
    IMAGE,
    OUTPUT,
    PDF,
    SENT_CALL,
    SENT_TOOL,
    THOUGHT,
    TOOL,
    said,
    user,
)


def sent(call: ModelCall) -> dict[str, Any]:
    return {name: json.loads(bytes(raw)) for name, raw in call.fields.items()}


@pytest.mark.parametrize(
    ("asked", "messages"),
    [
        ("Hi", [{"role": "user", "content": "Hi"}]),
        ([{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Hi"}]),
        ([{"type": "message", "role": "developer", "content": "Be brief."}],
         [{"role": "developer", "content": "Be brief."}]),
        (user({"type": "input_text", "text": "Hi"}), [{"role": "user", "content": "Hi"}]),
        (user({"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}),
         [{"role": "user", "content": [{"type": "text", "text": "a"},
                                       {"type": "text", "text": "b"}]}]),
        (user({"type": "input_image", "image_url": IMAGE, "detail": "auto"}),
         [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE}}]}]),
        (user({"type": "input_image", "image_url": IMAGE, "detail": "low"}),
         [{"role": "user", "content": [
             {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}}]}]),
        (user({"type": "input_file", "file_data": PDF, "filename": "a.pdf"}),
         [{"role": "user", "content": [
             {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}}]}]),
        ([said("Hi")], [{"role": "assistant", "content": "Hi"}]),
        ([said("a"), said("b")],
         [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
         [{"role": "assistant", "refusal": "No.", "content": None}]),
        ([CALL, OUTPUT],
         [{"role": "assistant", "content": None, "tool_calls": [SENT_CALL]},
          {"role": "tool", "tool_call_id": "c1", "content": "7"}]),
        ([THOUGHT, said("So"), CALL, {**CALL, "call_id": "c2"}, OUTPUT],
         [{"role": "assistant", "reasoning_content": "Hm", "content": "So",
           "tool_calls": [SENT_CALL, {**SENT_CALL, "id": "c2"}]},
          {"role": "tool", "tool_call_id": "c1", "content": "7"}]),
        ([CALL, said("Wait."), OUTPUT],
         [{"role": "assistant", "content": "Wait.", "tool_calls": [SENT_CALL]},
          {"role": "tool", "tool_call_id": "c1", "content": "7"}]),
        ([CALL, {**OUTPUT, "output": [{"type": "input_text", "text": "7"}]}],
         [{"role": "assistant", "content": None, "tool_calls": [SENT_CALL]},
          {"role": "tool", "tool_call_id": "c1", "content": "7"}]),
        ([THOUGHT, THOUGHT, said("Hi"), {"role": "user", "content": "And?"}],
         [{"role": "assistant", "reasoning_content": "Hm\nHm", "content": "Hi"},
          {"role": "user", "content": "And?"}]),
        ([{"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "S"}]}],
         [{"role": "assistant", "reasoning_content": "S", "content": ""}]),
        # As pydantic dumps it: what is unset is null.
        ([{**said("Hi"), "phase": None}, {**CALL, "namespace": None, "async_": None}, OUTPUT],
         [{"role": "assistant", "content": "Hi", "tool_calls": [SENT_CALL]},
          {"role": "tool", "tool_call_id": "c1", "content": "7"}]),
    ],
)  # fmt: skip
def test_input_becomes_messages(asked: Any, messages: list[dict[str, Any]]) -> None:
    call, _ = ask(input=asked)

    assert messages == sent(call)["messages"]


def test_instructions_come_first() -> None:
    call, _ = ask(instructions="Be brief.")

    assert [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    ] == sent(call)["messages"]


@pytest.mark.parametrize(
    ("asked", "chat"),
    [
        ({}, {}),
        ({"max_output_tokens": 7}, {"max_completion_tokens": 7}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"tools": [TOOL]}, {"tools": [SENT_TOOL]}),
        ({"tools": [{"type": "function", "name": "f", "parameters": None, "strict": None}]},
         {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        ({"tools": [{**TOOL, "defer_loading": False}]}, {"tools": [SENT_TOOL]}),
        ({"tools": [TOOL], "tool_choice": "required"},
         {"tools": [SENT_TOOL], "tool_choice": "required"}),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}},
         {"tools": [SENT_TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ({"tools": [{**TOOL, "name": "g"}, TOOL], "tool_choice":
          {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
         {"tools": [SENT_TOOL], "tool_choice": "auto"}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "json_object"}}},
         {"response_format": {"type": "json_object"}}),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"},
                              "strict": True}}},
         {"response_format": {"type": "json_schema", "json_schema":
                              {"name": "n", "schema": {"type": "object"}, "strict": True}}}),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {"reasoning_effort": "high"}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 2},
         {"logprobs": True, "top_logprobs": 2}),
        ({"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"top_logprobs": 0}, {}),
        ({"include": ["web_search_call.action.sources"]}, {}),
        ({"user": "u", "prompt_cache_key": "k", "safety_identifier": "s", "service_tier": "flex"},
         {"user": "u", "prompt_cache_key": "k", "safety_identifier": "s", "service_tier": "flex"}),
        ({"metadata": {"a": "b"}, "store": False, "truncation": "disabled", "background": False},
         {}),
        ({"previous_response_id": None, "conversation": None, "messages": None}, {}),
        ({"max_tool_calls": 3}, {}),
        ({"seed": 7, "stop": ["x"]}, {"seed": 7, "stop": ["x"]}),
        ({"stream": True, "stream_options": {"include_obfuscation": False}}, {"stream": True}),
    ],
)  # fmt: skip
def test_fields_become_a_chat_completions(asked: dict[str, Any], chat: dict[str, Any]) -> None:
    call, _ = ask(**asked)

    usual = {"model": "acme/small", "messages": [{"role": "user", "content": "hello"}]}
    assert {**usual, "stream": False, **chat} == sent(call)


@pytest.mark.parametrize("dialect", ["openai", "vram", "infer", "bud", "runinfra"])
def test_stream_is_off_by_default_in_every_dialect(dialect: str) -> None:
    call, _ = ask(dialect=dialect)

    assert not call.is_streaming
    assert call.include_usage is None


def test_schemas_are_forwarded_unchanged() -> None:
    raw = b'{"type":"object", "x": 1.10, "n": 123456789012345678901234567890}'
    body = b'{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":%b}]}'

    call, _ = read_responses(body % raw, rules())

    assert raw in bytes(call.fields["tools"])


@pytest.mark.parametrize(
    ("asked", "ignored"),
    [
        ({}, ()),
        ({"store": False}, ()),
        ({"store": True}, ("store",)),
        ({"reasoning": {"summary": "auto"}}, ("reasoning.summary",)),
        ({"reasoning": {"generate_summary": "auto"}}, ("reasoning.summary",)),
        ({"include": ["reasoning.encrypted_content"]}, ("reasoning.encrypted_content",)),
        ({"include": ["reasoning.encrypted_content"],
          "input": [{**THOUGHT, "encrypted_content": "x"}, said("Hi")]},
         ("reasoning.encrypted_content",)),
        ({"input": [said("Hi", phase="commentary"), said("Ho", phase="final_answer")]},
         ("phase",)),
        ({"input": user({"type": "input_text", "text": "a",
                         "prompt_cache_breakpoint": {"mode": "explicit"}})},
         ("prompt_cache_breakpoint",)),
    ],
)  # fmt: skip
def test_what_nothing_is_done_about_is_named(
    asked: dict[str, Any], ignored: tuple[str, ...]
) -> None:
    call, _ = ask(**asked)

    assert ignored == call.ignored
