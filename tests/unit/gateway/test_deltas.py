"""OpenAI's chunks and answers as typed deltas."""

import json
from typing import Any, TypeAlias

import pytest

from gateway.openai.deltas import deltas_of, deltas_of_events
from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import chat_pb2

Delta: TypeAlias = chat_pb2.ChatDelta
ToolCall: TypeAlias = chat_pb2.ToolCall


def events(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)


def chunk(index: int = 0, end: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": index, "delta": delta, "finish_reason": end}]}


CALL = {"index": 1, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
MORE = {"index": 1, "function": {"arguments": '{"a"'}}
CHUNKS: dict[str, tuple[dict[str, Any], list[Delta]]] = {
    "role alone": (chunk(role="assistant", content=""), []),
    "text": (chunk(content="hé"), [Delta(text="hé")]),
    "second choice": (chunk(2, content="a"), [Delta(choice=2, text="a")]),
    "second choice without news": (chunk(2, content=None), []),
    "reasoning": (chunk(reasoning_content="hm"), [Delta(reasoning="hm")]),
    "reasoning by its other name": (chunk(reasoning="hm"), [Delta(reasoning="hm")]),
    "refusal": (chunk(refusal="no"), [Delta(refusal="no")]),
    "end": (chunk(end="length"), [Delta(finish_reason="length")]),
    "tool call": (
        chunk(tool_calls=[CALL]),
        [Delta(tool_calls=[ToolCall(index=1, id="c1", name="f")])],
    ),
    "more of it": (
        chunk(tool_calls=[MORE]),
        [Delta(tool_calls=[ToolCall(index=1, arguments='{"a"')])],
    ),
    "usage": ({"choices": [], "usage": {}}, []),
    "odd content": (chunk(content=[1]), []),
    "odd tool calls": (chunk(tool_calls={"a": 1}), []),
    "odd tool call": (
        chunk(tool_calls=[7, {"index": 2**40, "function": None}, {"index": "x", "id": "c"}]),
        [Delta(tool_calls=[ToolCall(index=0), ToolCall(index=1, id="c")])],
    ),
}


@pytest.mark.parametrize(("sent", "told"), CHUNKS.values(), ids=CHUNKS)
def test_chunk_becomes_what_its_choices_gain(sent: dict[str, Any], told: list[Delta]) -> None:
    assert told == list(deltas_of_events(events(sent)))


def test_events_that_came_together_stay_in_order() -> None:
    sse = (
        events(chunk(content="a"), chunk(1, content="b"))
        + b": note\n\n"
        + events(chunk(content="c"))
    )

    found = [(delta.choice, delta.text) for delta in deltas_of_events(sse + b"data: [DONE]\n\n")]

    assert [(0, "a"), (1, "b"), (0, "c")] == found


def test_whole_answer_becomes_a_delta_for_each_choice() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "[]"}},
    ]
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"},
        {
            "index": 1,
            "message": {"content": None, "tool_calls": calls},
            "finish_reason": "tool_calls",
        },
    ]

    found = list(deltas_of([json.dumps({"choices": choices}).encode()]))

    named = [
        ToolCall(index=0, id="c1", name="f", arguments="{}"),
        ToolCall(index=1, id="c2", name="g", arguments="[]"),
    ]
    assert [
        Delta(text="hi", finish_reason="stop"),
        Delta(choice=1, tool_calls=named, finish_reason="tool_calls"),
    ] == found


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"choices":1}',
        b'{"choices":[1]}',
        b'{"choices":[{"index":4294967296,"delta":{}}]}',
        b'{"choices":[{"delta":{"content":"\xff"}}]}',
    ],
)
def test_what_is_no_chunk_is_the_upstreams_fault(data: bytes) -> None:
    with pytest.raises(TurnpikeError) as caught:
        list(deltas_of([data]))

    assert Reason.UPSTREAM_INVALID_RESPONSE is caught.value.reason
