"""What a request of Converse asks beside the conversation: thinking, sampling, a form."""

import json
from typing import Any

import msgspec
import pytest

from services.router.providers.aws.bedrock import BedrockCodec
from tests.fakes.converse_requests import (
    CALLED,
    CLAUDE,
    LLAMA,
    NATIVE,
    RESULT,
    TOOLS,
    USER,
    encode,
    failure,
    sent,
)
from tests.fakes.openai_calls import make_call


def test_usual_values_are_not_said_to_claude_and_others_as_the_owner_says() -> None:
    usual: Any = {"temperature": 1, "top_p": 1.0}
    odd: Any = {"temperature": 0.5, "top_k": 4}

    assert {"maxTokens": 100} == sent(**usual)["inferenceConfig"]
    assert {"temperature": 1, "topP": 1} == {
        name: value
        for name, value in sent(model=LLAMA, **usual)["inferenceConfig"].items()
        if name != "maxTokens"
    }
    ignored = encode(options={"sampling": "ignored"}, **odd)
    assert ("temperature", "top_k") == ignored.ignored
    assert {"maxTokens": 100} == json.loads(ignored.body)["inferenceConfig"]
    assert "maxTokens" in sent(options={"sampling": "refused"}, **usual)["inferenceConfig"]
    assert "temperature" == failure(options={"sampling": "refused"}, **odd).param


@pytest.mark.parametrize(
    "hint", [{"reasoning_effort": 3}, {"chat_template_kwargs": {"enable_thinking": "x"}}]
)
def test_hint_of_an_odd_form_is_left_aside(hint: dict[str, Any]) -> None:
    found = encode(options={"thinking": "adaptive"}, **hint)

    assert tuple(hint) == found.ignored


def test_harmless_values_and_hints_pass() -> None:
    fields: Any = {"n": 1, "logprobs": False, "user": "u", "seed": None, "metadata": {"a": "b"}}
    found = encode(frequency_penalty=0, parallel_tool_calls=True, reasoning_effort="low", **fields)

    assert ("metadata", "reasoning_effort", "user") == found.ignored


def test_thoughts_come_back_with_their_signature_or_not_at_all() -> None:
    ours = {"format": "anthropic-claude-v1"}
    signed = {"type": "reasoning.text", "text": "hm", "signature": "s=", **ours}
    hidden = {"type": "reasoning.encrypted", "data": "c2U="}
    found = sent(USER, {**CALLED, "reasoning_details": [signed, hidden]}, RESULT, tools=TOOLS)
    lost = encode(USER, {**CALLED, "reasoning_content": "hm"}, RESULT, tools=TOOLS)
    foreign = {**signed, "format": "google-gemini-v1"}
    left = encode(USER, {**CALLED, "reasoning_details": [foreign]}, RESULT, tools=TOOLS)

    first, second, _ = found["messages"][1]["content"]
    assert {"text": "hm", "signature": "s="} == first["reasoningContent"]["reasoningText"]
    assert {"redactedContent": "c2U="} == second["reasoningContent"]
    assert ("reasoning_content",) == lost.ignored
    assert ("reasoning_details",) == left.ignored
    assert b"reasoningContent" not in left.body


def test_thinking_is_asked_in_the_way_that_the_models_take() -> None:
    options = {"thinking": "budget"}
    call = make_call(upstream_model=CLAUDE, options=options, max_tokens=8000)
    body = {
        "messages": msgspec.Raw(msgspec.json.encode([USER])),
        "chat_template_kwargs": msgspec.Raw(b'{"enable_thinking":true}'),
    }
    budget = BedrockCodec().encode(call, body, {})
    adaptive = encode(options={"thinking": "adaptive"}, reasoning_effort="minimal")

    fields = json.loads(budget.body)["additionalModelRequestFields"]
    assert {"thinking": {"type": "enabled", "budget_tokens": 5999}} == fields
    assert () == budget.ignored == adaptive.ignored
    assert {"effort": "low"} == json.loads(adaptive.body)["outputConfig"]
    off = encode(options=options, reasoning_effort="none")
    assert () == off.ignored
    assert b"thinking" not in off.body


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.2},
        {"tools": TOOLS, "tool_choice": "required"},
        {"top_k": 5},
        {"options": {"thinking": "budget"}},
    ],
)
def test_thinking_gives_way_to_what_must_be_honoured(more: Any) -> None:
    found = encode(**{"options": {"thinking": "adaptive"}, **more}, reasoning_effort="high")

    assert ("reasoning_effort",) == found.ignored
    assert b"thinking" not in found.body


def test_choice_is_wrapped_in_an_object() -> None:
    native = sent(guided_choice=["a", "b"], options=NATIVE)["outputConfig"]["textFormat"]
    tool = sent(guided_choice=["a", "b"])["toolConfig"]

    schema = json.loads(native["structure"]["jsonSchema"]["schema"])
    assert ["a", "b"] == schema["properties"]["choice"]["enum"]
    assert schema == tool["tools"][0]["toolSpec"]["inputSchema"]["json"]


def test_answer_by_a_tool_stands_beside_the_tools_of_the_request() -> None:
    wanted = {"type": "json_object"}

    both = sent(response_format=wanted, tools=TOOLS)["toolConfig"]
    none = sent(USER, CALLED, RESULT, response_format=wanted, tools=TOOLS, tool_choice="none")
    llama = sent(model=LLAMA, response_format=wanted)["toolConfig"]

    names = [tool["toolSpec"]["name"] for tool in both["tools"]]
    assert (["look", "give_answer"], {"any": {}}) == (names, both["toolChoice"])
    assert {"tool": {"name": "give_answer"}} == none["toolConfig"]["toolChoice"]
    assert {"any": {}} == llama["toolChoice"]
    assert "toolConfig" not in sent(response_format={"type": "text"})
