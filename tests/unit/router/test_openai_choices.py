"""Choices that an upstream spells otherwise than OpenAI: brought to OpenAI's form, or refused."""

import json
from typing import Any

import pytest

from services.router.providers.openai.forward import StreamForwarder
from services.router.providers.openai.plain import read_completion
from services.router.providers.openai.texts import TextForwarder, read_text_completion
from services.router.providers.port import Failure, ProviderError
from tests.fakes.openai_calls import CHUNK_HEAD, make_body, make_call
from tests.fakes.openai_script import IDENTITY, dumps
from turnpike.router.v1 import router_pb2

PLAIN = make_call(is_streaming=False)
FUNCTION = {"name": "f", "arguments": "{}"}
CALL: dict[str, Any] = {"id": "c", "type": "function", "function": FUNCTION}
CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}
WHOLE: dict[str, Any] = {
    "index": 0,
    "message": {"role": "assistant", "content": "x", "refusal": None},
    "logprobs": None,
    "finish_reason": "stop",
}
ENTRY = {"token": "x", "logprob": -0.1, "bytes": [120], "top_logprobs": []}


def completion(*choices: dict[str, Any], **more: Any) -> bytes:
    return dumps({**IDENTITY, "object": "chat.completion", "choices": choices, **more})


def choice_of(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**WHOLE, "message": message, **more}


def read(*choices: dict[str, Any], **more: Any) -> Any:
    batch = read_completion(PLAIN, completion(*choices, **more), choice_count=1)
    return json.loads(batch.completion)


SPOKEN: dict[str, Any] = WHOLE["message"]
BARE: dict[str, Any] = {
    "index": 0,
    "message": {"role": "assistant", "content": "x"},
    "finish_reason": "stop",
}
TRICKY = 'it says "message":{ and "logprobs":null'
REPAIRED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (choice_of({"role": "assistant", "content": "x"}), WHOLE),
    (choice_of({"content": "x"}), WHOLE),
    ({"message": {"content": "x"}, "finish_reason": "stop"}, WHOLE),
    (
        choice_of({**SPOKEN, "tool_calls": [], "function_call": None, "annotations": None}),
        WHOLE,
    ),
    (choice_of({**SPOKEN, "tool_calls": None}), WHOLE),
    (BARE, WHOLE),
    (
        {**BARE, "message": {"role": "assistant", "content": TRICKY}},
        choice_of({**SPOKEN, "content": TRICKY}),
    ),
    ({**BARE, "more": {"message": {"a": 1}}}, {**WHOLE, "more": {"message": {"a": 1}}}),
    (
        choice_of({"role": "assistant", "tool_calls": [{"id": "c", "function": FUNCTION}]}),
        choice_of({**SPOKEN, "content": None, "tool_calls": [CALL]}),
    ),
    (
        choice_of(SPOKEN, logprobs={"content": [ENTRY]}),
        choice_of(SPOKEN, logprobs={"content": [ENTRY], "refusal": None}),
    ),
    (
        choice_of({"content": 'say "refusal" and "logprobs"', "role": "assistant"}),
        choice_of({**SPOKEN, "content": 'say "refusal" and "logprobs"'}),
    ),
    (
        choice_of({"role": "assistant", "content": "x", "reasoning_content": "y"}, stop_reason=7),
        choice_of({**SPOKEN, "reasoning_content": "y"}, stop_reason=7),
    ),
]


@pytest.mark.parametrize(("given", "whole"), REPAIRED)
def test_choice_gets_what_every_choice_has(given: dict[str, Any], whole: dict[str, Any]) -> None:
    spaced = json.dumps({**IDENTITY, "object": "chat.completion", "choices": [given]}).encode()

    assert [whole] == read(given)["choices"]
    assert [whole, {**whole, "index": 1}] == read(given, {**given, "index": 1})["choices"]
    assert [whole] == json.loads(read_completion(PLAIN, spaced, choice_count=1).completion)[
        "choices"
    ]


def test_choices_without_an_index_are_counted() -> None:
    bare = {"message": {"content": "x"}, "finish_reason": "stop"}

    assert [0, 1, 2] == [choice["index"] for choice in read(bare, bare, bare)["choices"]]


@pytest.mark.parametrize(
    "choice",
    [
        WHOLE,
        choice_of({**SPOKEN, "tool_calls": [CALL, CUSTOM]}),
        choice_of({**SPOKEN, "function_call": FUNCTION, "annotations": []}),
        choice_of(SPOKEN, logprobs={"content": [ENTRY], "refusal": None}),
    ],
)
def test_whole_choice_is_kept_byte_for_byte(choice: dict[str, Any]) -> None:
    spaced = json.dumps([choice], indent=1).encode()
    body = completion().replace(b"[]", spaced, 1)

    batch = read_completion(PLAIN, body, choice_count=1)

    assert spaced in batch.completion


@pytest.mark.parametrize(
    "calls",
    [
        5,
        "f()",
        {},
        [5],
        [[]],
        [{}],
        [{"id": "c"}],
        [{"id": "c", "type": "function"}],
        [{"type": "function", "function": FUNCTION}],
        [{**CALL, "id": None}],
        [{**CALL, "id": 7}],
        [{**CALL, "type": "web"}],
        [{**CALL, "type": "custom"}],
        [{**CUSTOM, "type": "function"}],
        [{**CALL, "function": {"name": "f"}}],
        [{**CALL, "function": {"arguments": "{}"}}],
        [{**CALL, "function": {"name": None, "arguments": "{}"}}],
        [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}],
        [CALL, {**CALL, "function": "f"}],
    ],
)
def test_calls_that_nobody_can_follow_are_an_invalid_response(calls: Any) -> None:
    with pytest.raises(ProviderError) as caught:
        read(choice_of({**SPOKEN, "tool_calls": calls}, finish_reason="tool_calls"))

    assert Failure.INVALID_RESPONSE is caught.value.failure


@pytest.mark.parametrize(
    "choice",
    [
        choice_of({**SPOKEN, "function_call": {"name": 5}}),
        choice_of(SPOKEN, logprobs=[]),
        choice_of(SPOKEN, logprobs="high"),
        choice_of(SPOKEN, index="first"),
    ],
)
def test_choice_that_is_none_is_an_invalid_response(choice: dict[str, Any]) -> None:
    with pytest.raises(ProviderError) as caught:
        read(choice)

    assert Failure.INVALID_RESPONSE is caught.value.failure


def test_members_that_an_upstream_leaves_empty_are_left_out() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}

    found = read(
        WHOLE,
        system_fingerprint=None,
        service_tier=None,
        usage={**usage, "prompt_tokens_details": None},
    )

    assert {"id", "object", "created", "model", "choices", "usage"} == found.keys()
    assert usage == found["usage"]


def test_text_completion_gets_index_and_logprobs() -> None:
    choices = [{"text": "a", "finish_reason": "stop"}, {"text": "b", "finish_reason": "length"}]
    call = make_call(is_streaming=False, operation=router_pb2.OPERATION_COMPLETION)

    batch = read_text_completion(call, make_body(), dumps({**IDENTITY, "choices": choices}))

    found = json.loads(batch.completion)["choices"]
    assert [{**c, "index": i, "logprobs": None} for i, c in enumerate(choices)] == found


def chunks_of(*choices: dict[str, Any], kind: Any = StreamForwarder, **more: Any) -> list[Any]:
    """Return the choices of the chunks that a forwarder makes of such ones, the last one apart."""
    forwarder = kind(make_call(), choice_count=1, **more)
    parts = [b"data: %b\n\n" % dumps({**IDENTITY, "choices": [choice]}) for choice in choices]
    batches = [forwarder.feed(part) for part in [*parts, b"data: [DONE]\n\n"]]
    sse = b"".join(batch.sse for batch in batches if batch is not None)
    (end,) = batches[-1].finish.finish_chunks
    events = [part.removeprefix(b"data: ") for part in sse.split(b"\n\n")[:-1]]
    assert all(event.startswith(CHUNK_HEAD) for event in (*events, end))
    return [json.loads(event)["choices"][0] for event in (*events, end)]


END: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop"}


def test_chunks_get_index_and_finish_reason() -> None:
    found = chunks_of({"delta": {"content": "a"}}, {"delta": {"content": "b"}}, END)

    assert [0, 0, 0] == [choice["index"] for choice in found]
    assert [None, None, "stop"] == [choice["finish_reason"] for choice in found]
    assert ["a", "b"] == [choice["delta"]["content"] for choice in found[:2]]


def test_chunk_that_begins_to_leave_out_finish_reason_gets_it_as_well() -> None:
    usual = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    bare = {"index": 0, "delta": {"content": "b"}}

    assert [None, None, None, None, "stop"] == [
        choice["finish_reason"] for choice in chunks_of(usual, usual, bare, usual, END)
    ]


def test_deltas_lose_members_that_are_never_null() -> None:
    nulls = {"role": None, "reasoning_content": None, "tool_calls": None}
    usual = {"index": 0, "finish_reason": None}
    deltas = [
        {"role": "assistant", "content": "", "tool_calls": None},
        {**nulls, "content": "a"},
        {"content": "b", **nulls},
        {"tool_calls": None},
    ]

    found = chunks_of(*({**usual, "delta": delta} for delta in deltas), END)

    assert [
        {"role": "assistant", "content": ""},
        {"reasoning_content": None, "content": "a"},
        {"content": "b", "reasoning_content": None},
        {},
        {},
    ] == [choice["delta"] for choice in found]


@pytest.mark.parametrize("separators", [(",", ":"), None])
def test_log_probabilities_of_chunks_say_that_there_is_no_refusal(separators: Any) -> None:
    token = {**ENTRY, "token": '"refusal"'}
    plain = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
    spoken = {**plain, "logprobs": {"content": [token]}}
    full = {**plain, "logprobs": {"content": [ENTRY], "refusal": None}}
    forwarder = StreamForwarder(make_call(), choice_count=1, has_logprobs=True)
    values = [{**IDENTITY, "choices": [c]} for c in (plain, spoken, spoken, full, END)]
    events = [b"data: %b\n\n" % json.dumps(v, separators=separators).encode() for v in values]

    batches = [forwarder.feed(event) for event in events]

    sse = b"".join(batch.sse for batch in batches if batch is not None)
    found = [json.loads(part[6:])["choices"][0] for part in sse.split(b"\n\n")[:-1]]
    wanted = {"content": [token], "refusal": None}
    assert [None, wanted, wanted, full["logprobs"]] == [c.get("logprobs") for c in found]


def test_chunks_of_text_get_logprobs() -> None:
    text = {"index": 0, "text": "a", "finish_reason": None}

    found = chunks_of(text, {**text, "text": "", "finish_reason": "stop"}, kind=TextForwarder)

    assert [None, None] == [choice["logprobs"] for choice in found]


@pytest.mark.parametrize("logprobs", [[], "high", 7])
def test_log_probabilities_that_are_none_are_an_invalid_response(logprobs: Any) -> None:
    odd = {"index": 0, "delta": {"content": "a"}, "logprobs": logprobs, "finish_reason": "stop"}

    with pytest.raises(ProviderError) as caught:
        chunks_of(odd, END)

    assert Failure.INVALID_RESPONSE is caught.value.failure
