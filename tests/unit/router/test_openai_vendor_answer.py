"""Answers of vendors in OpenAI's own form: thoughts, parts, reasons, usage."""

import dataclasses
import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.openai.profiles import PROFILES, AnswerRules
from services.router.providers.openai.usage import openais_own, read_usage
from services.router.providers.openai.vendor_answer import (
    BROKEN,
    VendorForwarder,
    read_vendor_chat,
    read_vendor_text,
)
from services.router.providers.port import Batch, Failure, ProviderError
from tests.fakes.openai_calls import make_body, make_call

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
THINKS = AnswerRules(think_tags=True)


def whole(message: Any, *, reason: str = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": reason, "seed": 1}
    return msgspec.json.encode({**HEAD, "choices": [choice], "usage": USAGE, **more})


def read(message: Any, rules: AnswerRules, **more: Any) -> Any:
    batch = read_vendor_chat(make_call(), make_body(), whole(message, **more), rules)
    return json.loads(batch.completion)


def streamed(deltas: list[Any], rules: AnswerRules, *, size: int = 0) -> list[Batch]:
    events: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas
    ]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE})
    data = b"".join(b"data: %b\n\n" % msgspec.json.encode({**HEAD, **event}) for event in events)
    data += b"data: [DONE]\n\n"
    forwarder = VendorForwarder(make_call(), make_body(), rules)
    size = size or len(data)
    found = [forwarder.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return [batch for batch in found if batch is not None]


def joined(batches: list[Batch], name: str) -> str:
    sse = b"".join(batch.sse for batch in batches)
    chunks = [json.loads(part[6:]) for part in sse.split(b"\n\n") if part]
    return "".join(chunk["choices"][0]["delta"].get(name) or "" for chunk in chunks)


MISTRAL = PROFILES["mistral"].answer
PARTS = [
    {
        "type": "thinking",
        "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}],
    },
    {"type": "text", "text": "yes"},
    {"type": "reference", "reference_ids": [1]},
]


def test_content_in_parts_is_text_and_thoughts() -> None:
    message = read({"role": "assistant", "content": PARTS, "prefix": False}, MISTRAL)["choices"][0]

    assert {"role", "content", "refusal", "reasoning_content"} == message["message"].keys()
    assert ("yes", "hm") == (message["message"]["content"], message["message"]["reasoning_content"])
    assert {"index", "message", "logprobs", "finish_reason"} == message.keys()


@pytest.mark.parametrize("size", [0, 1, 5])
def test_streamed_parts_are_text_and_thoughts(size: int) -> None:
    batches = streamed(
        [{"content": PARTS[:1]}, {"content": "ye"}, {"content": "s"}], MISTRAL, size=size
    )

    assert ("hm", "yes") == (joined(batches, "reasoning_content"), joined(batches, "content"))
    assert 3 == sum(batch.content_event_count for batch in batches)


def test_calls_have_arguments_that_are_text() -> None:
    call = {"id": "abcdefghi", "index": 0, "function": {"name": "f", "arguments": {"a": 1}}}

    [found] = read({"content": "", "tool_calls": [call]}, MISTRAL, reason="tool_calls")["choices"]

    expected = {"name": "f", "arguments": '{"a":1}'}
    assert [{"id": "abcdefghi", "function": expected, "type": "function"}] == found["message"][
        "tool_calls"
    ]


def test_details_of_thoughts_are_kept_for_the_next_turn() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    said = {"role": "assistant", "content": "yes", "reasoning": "hm", "reasoning_details": details}

    [found] = read(said, PROFILES["openrouter"].answer)["choices"]
    batches = streamed([said], PROFILES["openrouter"].answer)

    assert ("hm", details) == (
        found["message"]["reasoning_content"],
        found["message"]["reasoning_details"],
    )
    sse = json.loads(batches[0].sse.split(b"\n\n")[0][6:])
    assert details == sse["choices"][0]["delta"]["reasoning_details"]


@pytest.mark.parametrize("reason", sorted(BROKEN))
def test_an_answer_that_was_broken_off_is_none(reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read({"content": "x"}, AnswerRules(), reason=reason)

    assert Failure.INCOMPLETE is caught.value.failure


@pytest.mark.parametrize(
    ("vendor", "reason", "expected"),
    [
        ("together", "eos", "stop"),
        ("hyperbolic", "eos", "stop"),
        ("mistral", "model_length", "length"),
        ("deepseek", "content_filter", "content_filter"),
    ],
)
def test_reasons_are_openais(vendor: str, reason: str, expected: str) -> None:
    found = read({"content": "x"}, PROFILES[vendor].answer, reason=reason)

    assert expected == found["choices"][0]["finish_reason"]


def test_a_reason_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ProviderError) as caught:
        read({"content": "x"}, PROFILES["together"].answer, reason="tired")

    assert Failure.INVALID_RESPONSE is caught.value.failure


OWN: list[tuple[dict[str, Any], dict[str, Any], tuple[int, int, int, int]]] = [
    (
        {**USAGE, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 1},
        {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}},
        (5, 7, 4, 0),
    ),
    (
        {**USAGE, "total_tokens": 15, "completion_tokens_details": {"reasoning_tokens": 3}}
        | {"num_sources_used": 0, "cost_in_usd_ticks": 9},
        {"prompt_tokens": 5, "completion_tokens": 10, "total_tokens": 15}
        | {"completion_tokens_details": {"reasoning_tokens": 3}},
        (5, 10, 0, 3),
    ),
    (
        {**USAGE, "completion_tokens_details": {"reasoning_tokens": 3, "image_tokens": 0}},
        {**USAGE, "completion_tokens_details": {"reasoning_tokens": 3}},
        (5, 7, 0, 3),
    ),
    ({**USAGE, "cost": 0.5, "is_byok": False}, USAGE, (5, 7, 0, 0)),
    (USAGE, USAGE, (5, 7, 0, 0)),
]


@pytest.mark.parametrize(("told", "shown", "counts"), OWN)
def test_usage_is_openais_and_counted_once(
    told: Any, shown: Any, counts: tuple[int, int, int, int]
) -> None:
    found = read_usage(msgspec.json.encode(told))
    assert found is not None

    own = openais_own(found)

    tokens = own.tokens
    assert shown == json.loads(own.json)
    assert counts == (
        tokens.prompt_token_count,
        tokens.completion_token_count,
        tokens.cached_prompt_token_count,
        tokens.reasoning_token_count,
    )
    again = read_usage(own.json)
    assert again is not None
    assert tokens == again.tokens


def test_thoughts_in_tags_are_reasoning_content() -> None:
    found = read({"content": "<think>\nhm\n</think>\n\nyes"}, THINKS)["choices"][0]["message"]

    assert ("hm", "yes") == (found["reasoning_content"], found["content"])


@given(st.lists(st.sampled_from(["<th", "ink>", "hm", "</thi", "nk>", "yes", "\n"]), max_size=9))
def test_thoughts_in_tags_are_the_same_in_a_stream(pieces: list[str]) -> None:
    batches = streamed([{"content": piece} for piece in pieces], THINKS)
    found = read({"content": "".join(pieces)}, THINKS)["choices"][0]["message"]

    ends = [json.loads(chunk) for chunk in batches[-1].finish.finish_chunks]
    assert [{}] == [end["choices"][0]["delta"] for end in ends]
    assert found["content"] == joined(batches, "content")
    assert found.get("reasoning_content", "") == joined(batches, "reasoning_content")


def test_a_text_may_come_as_a_chat() -> None:
    body = make_body()
    batch = read_vendor_text(make_call(operation=1), body, whole({"content": "yes"}), MISTRAL)

    [choice] = json.loads(batch.completion)["choices"]
    assert {"index": 0, "text": "yes", "finish_reason": "stop", "logprobs": None} == choice


@pytest.mark.parametrize("junk", [b'{"choices":7}', b'{"choices":[{"message":7}]}', b"[]", b"{}"])
def test_junk_is_no_answer(junk: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_vendor_chat(make_call(), make_body(), junk, MISTRAL)

    assert Failure.INVALID_RESPONSE is caught.value.failure


NAMES = ["type", "text", "thinking", "content", "role", "reasoning", "tool_calls", "id"]
NAMES += ["function", "arguments"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "text", "thinking"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)
CHOICE = st.fixed_dictionaries(
    {
        "index": st.sampled_from([0, 1, "x"]),
        "finish_reason": st.sampled_from(["stop", "eos", "error", "", None, 7]),
        "message": JSON,
        "delta": JSON,
    }
)
VENDOR = st.sampled_from(["mistral", "openrouter", "together", "deepseek"])


@given(choice=JSON | CHOICE, vendor=VENDOR, think_tags=st.booleans())
def test_anything_is_an_answer_or_a_failure(choice: Any, vendor: str, *, think_tags: bool) -> None:
    rules = dataclasses.replace(PROFILES[vendor].answer, think_tags=think_tags)
    answer = msgspec.json.encode({**HEAD, "choices": [choice]})

    with suppress(ProviderError):
        read_vendor_chat(make_call(), make_body(), answer, rules)
    with suppress(ProviderError):
        read_vendor_text(make_call(operation=1), make_body(), answer, rules)
    with suppress(ProviderError):
        VendorForwarder(make_call(), make_body(), rules).feed(b"data: %b\n\n" % answer)
