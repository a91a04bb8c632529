"""Mistral's own SDK reads what the fake writes and what we ask: neither was made by us."""

import json
from typing import Any

import msgspec
from mistralai.client.models import (
    AssistantMessage,
    ChatCompletionRequest,
    ChatCompletionResponse,
    CompletionChunk,
    EmbeddingRequest,
    FIMCompletionRequest,
    ToolMessage,
    UserMessage,
)

from services.router.capabilities import capabilities
from services.router.providers.openai.profiles import PROFILES
from services.router.providers.openai.vendor_request import VendorRequest
from tests.fakes.openai_calls import make_body, make_call
from tests.fakes.openai_model import Turn
from tests.fakes.vendor_manners import MANNERS
from turnpike.router.v1 import router_pb2

TOOL = {"type": "function", "function": {"name": "f"}}
CALLED = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "reasoning_content": "hm",
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ],
}
TALK = [
    {"role": "developer", "content": "be kind"},
    {"role": "user", "content": [{"type": "text", "text": "x"}], "name": "bob"},
    CALLED,
    {"role": "tool", "tool_call_id": "call_1", "content": "1"},
]
PART = {"type": "text", "text": "no"}
REQUEST = VendorRequest(PROFILES["mistral"], capabilities("mistral"), reasons=False)


def sent(operation: int = 0, **fields: Any) -> Any:
    call = make_call(options={"engine": "mistral"}, operation=operation)
    body = make_body(**fields)
    if operation:
        del body["messages"]
    if operation == router_pb2.OPERATION_COMPLETION:
        body["prompt"] = msgspec.Raw(b'"a"')
    return json.loads(REQUEST.encode(call, body).body)


def check(kind: Any, request: Any) -> None:
    """Hold a request against a type that has all its fields, and no others are sent."""
    known = {field.alias or name for name, field in kind.model_fields.items()}
    assert request.keys() <= known, request.keys() - known
    kind.model_validate(request)


def test_requests_are_mistrals() -> None:
    several: list[dict[str, Any]] = [
        {},
        {"seed": 7, "user": "u", "store": True, "service_tier": "auto", "n": 1},
        {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [TOOL], "messages": TALK},
        {"logprobs": False, "logit_bias": {}, "presence_penalty": 0.5, "stop": ["a"]},
    ]
    for fields in several:
        request = sent(**fields)

        check(ChatCompletionRequest, request)
    check(EmbeddingRequest, sent(router_pb2.OPERATION_EMBEDDING, input=["a"], dimensions=3))
    check(
        FIMCompletionRequest,
        sent(router_pb2.OPERATION_COMPLETION, suffix="b", seed=1, n=1),
    )


def test_messages_hold_what_mistral_takes() -> None:
    developer, user, assistant, tool = sent(tools=[TOOL], messages=TALK)["messages"]

    assert {"role": "system", "content": "be kind"} == developer
    assert user.keys() <= set(UserMessage.model_fields)
    assert assistant.keys() <= set(AssistantMessage.model_fields)
    assert tool.keys() <= set(ToolMessage.model_fields)
    assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"]


def test_earlier_thoughts_are_parts_where_the_model_reasons() -> None:
    profile = PROFILES["mistral"].for_deployment(reasons=True, think_tags=False)
    request = VendorRequest(profile, capabilities("mistral"), reasons=True)
    said = {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    body = make_body(messages=[TALK[0], TALK[1], {**said}, {**said, "content": [PART]}])

    found = request.encode(make_call(), body)

    _, _, one, other = json.loads(found.body)["messages"]
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    assert [thought, {"type": "text", "text": "yes"}] == one["content"]
    assert [thought, PART] == other["content"]
    AssistantMessage.model_validate(one, strict=True)
    assert ("messages.name",) == found.ignored


def test_the_fake_answers_as_mistral_does() -> None:
    for prompt in ("hello", "think", "go"):
        fields = {"tools": [TOOL]} if prompt == "go" else {}
        asked = {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}
        turn = Turn(asked, is_lying=False)
        spell = MANNERS["mistral"].spelled

        whole = spell(turn.completion(), "/v1/chat/completions")
        streamed = MANNERS["mistral"].streamed(list(turn.chunks()))
        chunks = [spell(chunk, "/v1/chat/completions") for chunk in streamed]

        answer = ChatCompletionResponse.model_validate(whole)
        assert answer.choices[0].finish_reason == turn.reason
        assert answer.usage.prompt_tokens == turn.usage()["prompt_tokens"]
        read = [CompletionChunk.model_validate(chunk) for chunk in chunks]
        assert read[-2].choices[0].finish_reason == turn.reason
