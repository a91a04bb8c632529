"""Gemini's answers as OpenAI's, whole and streamed, and split at any byte."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.google.gemini_answer import GeminiStream, read_gemini
from services.router.providers.port import Batch, Failure, ProviderError
from tests.fakes.gemini_calls import gemini_call, message_of
from tests.fakes.gemini_oracle import read_answer
from tests.fakes.gemini_script import (
    SIGNATURE,
    Json,
    Said,
    Script,
    calls,
    dumps,
    event_bytes,
    events_of,
    status,
    text,
    thoughts,
    whole_of,
)
from turnpike.type.v1 import usage_pb2


def streamed(script: Script, *, sizes: list[int] | None = None) -> list[Batch]:
    """Return the batches of a stream, read in pieces of these sizes, the last one repeated."""
    return read_pieces(b"".join(event_bytes(e, script.line) for e in events_of(script)), sizes)


def read_pieces(data: bytes, sizes: list[int] | None = None) -> list[Batch]:
    stream, sizes, batches = GeminiStream(gemini_call()), list(sizes or [len(data)]), []
    while data:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        batch = stream.feed(data[:size])
        batches += [batch] if batch is not None else []
        data = data[size:]
    batches.append(stream.end())
    assert stream.is_done
    return batches


def whole(script: Script) -> list[Batch]:
    return [read_gemini(gemini_call(is_streaming=False), dumps(whole_of(script)))]


def counts(batch: Batch) -> tuple[int, int, int, int]:
    usage = batch.finish.usage
    return (
        usage.prompt_token_count,
        usage.completion_token_count,
        usage.cached_prompt_token_count,
        usage.reasoning_token_count,
    )


PARTS = st.one_of(
    st.text(min_size=1, max_size=5).map(lambda t: Said({"text": t})),
    st.text(min_size=1, max_size=5).map(lambda t: Said({"text": t, "thought": True})),
    st.text(max_size=3).map(lambda t: Said({"text": t, "thoughtSignature": SIGNATURE})),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2).map(
        lambda a: Said({"functionCall": {"name": "f", "args": a}, "thoughtSignature": SIGNATURE})
    ),
    st.just(Said({"functionCall": {"name": "g", "id": "up-1"}})),
)
SCRIPTS = st.builds(
    Script,
    said=st.lists(PARTS, max_size=5).map(tuple),
    finish=st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]),
    finish_in=st.sampled_from(["own", "last"]),
    cached_tokens=st.integers(0, 12),
    tool_tokens=st.integers(0, 3),
    line=st.sampled_from(["\r\n", "\n"]),
    events_joined=st.integers(1, 3),
).filter(lambda script: script.said or script.finish_in == "own")


@given(SCRIPTS, st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_stream_cut_anywhere_says_what_the_whole_answer_says(
    script: Script, sizes: list[int]
) -> None:
    stream, plain = streamed(script, sizes=sizes), whole(script)

    assert message_of(plain) == message_of(stream)
    assert counts(plain[-1]) == counts(stream[-1])
    assert plain[-1].finish.finish_reason == stream[-1].finish.finish_reason
    assert plain[-1].finish.usage_json == stream[-1].finish.usage_json


@given(SCRIPTS)
def test_fake_speaks_what_google_understands(script: Script) -> None:
    for answer in (*events_of(script), whole_of(script)):
        read_answer(answer)


def test_text_is_told_as_it_comes_with_running_totals() -> None:
    batches = streamed(text("one", " two"), sizes=[9])

    completions = [b.running_usage.completion_token_count for b in batches if b.sse]
    assert {"content": "one two"} == message_of(batches)
    assert [2, 4] == completions[:2]
    assert (12, 4, 0, 0) == counts(batches[-1])
    assert "stop" == batches[-1].finish.finish_reason


def test_totals_are_assigned_and_never_added() -> None:
    script = text(*("x" * 20), prompt_tokens=7, cached_tokens=5, tool_tokens=2)

    assert (9, 40, 5, 0) == counts(streamed(script)[-1])
    assert (9, 40, 5, 0) == counts(whole(script)[-1])


def test_thoughts_are_reasoning_and_count_as_completion() -> None:
    script = Script(said=(*thoughts("hm", "m"), Said({"text": "Yes."})))

    batches = streamed(script)

    assert {"reasoning_content": "hmm", "content": "Yes."} == message_of(batches)
    assert (12, 8, 0, 6) == counts(batches[-1])
    assert {"reasoning_tokens": 6} == json.loads(batches[-1].finish.usage_json)[
        "completion_tokens_details"
    ]


def test_parallel_calls_get_ids_of_their_own_and_keep_the_signature() -> None:
    script = calls(("weather", {"city": "Rome", "days": 2.50}), ("now", None))

    batches = streamed(script)

    first, second = message_of(batches)["tool_calls"]
    assert {"google": {"thought_signature": SIGNATURE}} == first["extra_content"]
    assert ("weather", '{"city":"Rome","days":2.5}') == tuple(first["function"].values())
    assert ("now", "{}") == tuple(second["function"].values())
    assert first["id"] != second["id"]
    assert all(len(each["id"]) <= 40 for each in (first, second))
    assert "extra_content" not in second
    assert "tool_calls" == batches[-1].finish.finish_reason


def test_numbers_of_arguments_stay_as_they_are_spelled() -> None:
    answer = b"""{"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {
        "a": 1.50, "b": 12345678901234567890, "c": 1e400}}}]}, "finishReason": "STOP"}]}"""

    batch = read_gemini(gemini_call(is_streaming=False), answer)

    called = message_of([batch])["tool_calls"][0]["function"]
    assert '{"a":1.50,"b":12345678901234567890,"c":1e400}' == called["arguments"]


def test_id_of_the_upstream_is_kept() -> None:
    script = Script(said=(Said({"functionCall": {"name": "f", "id": "fc-1", "args": {}}}),))

    assert "fc-1" == message_of(whole(script))["tool_calls"][0]["id"]


def test_signature_of_a_text_comes_as_reasoning_details() -> None:
    script = Script(said=(Said({"text": "Hi"}), Said({"text": "", "thoughtSignature": SIGNATURE})))

    message = message_of(streamed(script))

    assert [
        {
            "type": "reasoning.text",
            "text": "",
            "signature": SIGNATURE,
            "format": "google-gemini-v1",
            "index": 0,
        }
    ] == message["reasoning_details"]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
    ],
)
def test_reasons_are_openais(reason: str, said: str) -> None:
    assert said == whole(text("x", finish=reason))[-1].finish.finish_reason


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "NEW"])
def test_reason_that_nobody_can_use_is_refused(reason: str) -> None:
    script = text("x", finish=reason)

    for read in (whole, streamed):
        with pytest.raises(ProviderError) as caught:
            read(script)
        assert Failure.INVALID_RESPONSE is caught.value.failure


def test_blocked_prompt_is_a_matter_of_policy() -> None:
    for read in (whole, streamed):
        with pytest.raises(ProviderError) as caught:
            read(Script(block_reason="SAFETY"))
        assert Failure.CONTENT_POLICY is caught.value.failure


def test_answer_without_an_end_is_incomplete() -> None:
    for read in (whole, streamed):
        with pytest.raises(ProviderError) as caught:
            read(text("x", finish_in="never"))
        assert Failure.INCOMPLETE is caught.value.failure


@pytest.mark.parametrize(
    "data",
    [
        b"data: {oops\r\n\r\n",
        b"data: []\n\n",
        b'data: {"candidates": 3}\n\n',
        b'data: {"candidates": [{"content": {"parts": [{"inlineData": {}}]}}]}\n\n',
        b'data: {"candidates": [{"content": {"parts": [{"functionCall": {"name": ""}}]}}]}\n\n',
        b'data: {"candidates": [{"content": {"parts": [{"text": "\xff"}]}}]}\n\n',
        b'data: {"usageMetadata": {"promptTokenCount": -1, "totalTokenCount": 3}}\n\n',
        b'data: {"usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 3}}\n\n',
    ],
)
def test_junk_is_refused(data: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_pieces(data)

    assert Failure.INVALID_RESPONSE is caught.value.failure


@pytest.mark.parametrize("is_event", [True, False])
def test_error_in_a_stream_is_an_error(is_event: bool) -> None:
    error = status(429, "RESOURCE_EXHAUSTED")
    data = event_bytes(error, "\r\n") if is_event else dumps([error])

    with pytest.raises(ProviderError) as caught:
        read_pieces(data, [5])

    assert Failure.RATE_LIMITED is caught.value.failure
    assert "secret" not in caught.value.message


def test_last_event_may_lack_its_blank_line() -> None:
    data = b"".join(event_bytes(event, "\n") for event in events_of(text("x"))).rstrip(b"\n")

    batches = read_pieces(data)

    assert "stop" == batches[-1].finish.finish_reason


def test_cut_event_behind_the_end_changes_nothing() -> None:
    data = b"".join(event_bytes(event, "\n") for event in events_of(text("x")))

    assert (12, 2, 0, 0) == counts(read_pieces(data + b'data: {"cand')[-1])


@pytest.mark.parametrize("usage", ["last", "never"])
def test_missing_usage_is_never_made_up(usage: str) -> None:
    batches = streamed(text("one", "two", usage=usage, finish_in="last"), sizes=[9])

    source = batches[-1].finish.usage.source
    assert not batches[0].HasField("running_usage")
    assert (source == usage_pb2.USAGE_SOURCE_UPSTREAM) == (usage == "last")


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        ({"promptTokenCount": 5, "totalTokenCount": 5}, (5, 0, 0, 0)),
        ({"promptTokenCount": 5, "totalTokenCount": 8}, (5, 3, 0, 0)),
        ({"promptTokenCount": 5, "thoughtsTokenCount": 2, "totalTokenCount": 9}, (5, 4, 0, 2)),
        ({"promptTokenCount": 5, "thoughtsTokenCount": 2}, (5, 2, 0, 2)),
        ({"promptTokenCount": 0, "candidatesTokenCount": 0}, (0, 0, 0, 0)),
        ({"trafficType": "ON_DEMAND"}, None),
        ({"promptTokenCount": 5}, None),
    ],
)
def test_totals_with_members_left_out(usage: Json, wanted: Any) -> None:
    answer = {"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}

    batch = read_gemini(gemini_call(is_streaming=False), dumps(answer))

    assert (batch.finish.usage.source == usage_pb2.USAGE_SOURCE_UPSTREAM) == (wanted is not None)
    if wanted is not None:
        assert wanted == counts(batch)


@given(
    st.lists(st.binary(max_size=30) | SCRIPTS.map(lambda s: event_bytes(whole_of(s), "\n"))),
    st.integers(1, 50),
)
def test_whatever_comes_ends_in_an_answer_or_a_failure(pieces: list[bytes], size: int) -> None:
    with suppress(ProviderError):
        read_pieces(b"".join(pieces), [size])
