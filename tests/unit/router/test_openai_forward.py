"""The OpenAI codec: what a client gets does not depend on how the upstream's stream was cut."""

import itertools
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.providers.openai.forward import StreamForwarder
from services.router.providers.port import Failure, ProviderError
from tests.fakes.openai_calls import CHUNK_HEAD, make_call
from tests.fakes.openai_script import Script, StreamWriter, dumps
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

REQUEST = {"max_tokens": 100}


@dataclass(frozen=True)
class Answer:
    """All that came out of a stream."""

    sse: bytes
    content_count: int
    finish: router_pb2.Finish
    running: usage_pb2.TokenUsage | None = None

    @property
    def chunks(self) -> list[dict[str, Any]]:
        parts = self.sse.split(b"\n\n")[:-1]
        assert all(part.startswith(b"data: " + CHUNK_HEAD) for part in parts)
        return [json.loads(part[6:]) for part in parts]

    @property
    def text(self) -> str:
        choices = (chunk["choices"][0] for chunk in self.chunks)
        return "".join(choice["delta"].get("content") or "" for choice in choices)


def stream_of(script: Script) -> bytes:
    return b"".join(event.data for event in StreamWriter(script, REQUEST).events())


def forward(stream: bytes, positions: list[int] | None = None, **call: Any) -> Answer:
    edges = [0, *sorted(p % (len(stream) + 1) for p in positions or []), len(stream)]
    forwarder = StreamForwarder(make_call(**call), choice_count=1)
    sse, count, batch = b"", 0, None
    running = None
    for start, end in itertools.pairwise(edges):
        if start < end and not forwarder.is_done:
            batch = forwarder.feed(stream[start:end])
            if batch is not None:
                sse, count = sse + batch.sse, count + batch.content_event_count
                running = batch.running_usage if batch.HasField("running_usage") else running
    if not forwarder.is_done:
        batch = forwarder.end()
        sse, count = sse + batch.sse, count + batch.content_event_count
    assert batch is not None
    assert batch.HasField("finish")
    return Answer(sse, count, batch.finish, running)


def text(count: int) -> str:
    return "".join(f"tok{index} " for index in range(count))


def test_chunks_are_forwarded_under_our_head_and_the_end_is_taken_out() -> None:
    answer = forward(stream_of(Script(chunks=3)))

    assert text(3) == answer.text
    assert 3 == answer.content_count
    assert [None] * 4 == [chunk["choices"][0]["finish_reason"] for chunk in answer.chunks]
    assert b"usage" not in answer.sse
    assert b"upstream" not in answer.sse
    assert "stop" == answer.finish.finish_reason
    assert CHUNK_HEAD == answer.finish.chunk_head
    assert [
        CHUNK_HEAD + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}'
    ] == list(answer.finish.finish_chunks)


@pytest.mark.parametrize("keys", ["usual", "sorted", "spaced", "drifting"])
@pytest.mark.parametrize("line", ["lf", "crlf", "cr"])
@pytest.mark.parametrize("usage", ["extra", "finish", "every", "null", "never", "twice"])
def test_every_single_cut_gives_the_same_answer(keys: str, line: str, usage: str) -> None:
    stream = stream_of(Script(chunks=2, keys=keys, line=line, usage=usage))
    whole = forward(stream)

    for position in range(1, len(stream), 3):
        assert whole.sse == forward(stream, [position]).sse
    assert text(2) == whole.text


SCRIPTS = st.builds(
    Script,
    chunks=st.integers(1, 5),
    usage=st.sampled_from(
        ["extra", "finish", "every", "twice", "never", "null", "zero", "nototal"]
    ),
    finish=st.sampled_from(["chunk", "with_content"]),
    role=st.sampled_from(["first", "never"]),
    line=st.sampled_from(["lf", "crlf", "cr"]),
    space=st.integers(0, 1),
    bom=st.integers(0, 1),
    comments=st.integers(0, 2),
    multiline=st.integers(0, 1),
    keys=st.sampled_from(["usual", "sorted", "spaced", "drifting"]),
    done=st.integers(0, 2),
    after=st.sampled_from(["", "junk"]),
    event_bytes=st.sampled_from([0, 40]),
).filter(lambda script: bool(script.done) or not script.after)


@settings(max_examples=300, deadline=None)
@given(SCRIPTS, st.lists(st.integers(0, 4_000), max_size=25))
def test_any_cut_of_any_form_gives_the_same_answer(script: Script, positions: list[int]) -> None:
    stream = stream_of(script)
    whole = forward(stream)
    found = forward(stream, positions)

    assert whole.sse == found.sse
    assert whole.finish == found.finish
    assert whole.content_count == found.content_count == script.chunks
    assert script.chunks == found.text.count("tok")


def test_byte_by_byte_gives_the_same_answer() -> None:
    stream = stream_of(Script(chunks=4, line="crlf", comments=1, bom=1, event_bytes=30))

    assert forward(stream) == forward(stream, list(range(len(stream))))


@pytest.mark.parametrize(
    ("usage", "prompt", "completion"),
    [
        ("extra", 12, 5),
        ("finish", 12, 5),
        ("every", 12, 5),
        ("twice", 12, 5),
        ("null", 12, 5),
        ("nototal", 12, 5),
        ("zero", 0, 0),
        ("falling", 12, 1),
    ],
)
def test_usage_is_read_wherever_it_rides(usage: str, prompt: int, completion: int) -> None:
    answer = forward(stream_of(Script(chunks=5, usage=usage)))

    tokens = answer.finish.usage
    assert (prompt, completion) == (tokens.prompt_token_count, tokens.completion_token_count)
    assert usage_pb2.USAGE_SOURCE_UPSTREAM == tokens.source
    assert prompt + completion == json.loads(answer.finish.usage_json)["total_tokens"]
    assert min(prompt, 4) == tokens.cached_prompt_token_count


def test_running_totals_come_with_the_content_that_they_cover() -> None:
    script = Script(chunks=3, usage="every")
    forwarder = StreamForwarder(make_call(), choice_count=1)
    totals = []
    for event in StreamWriter(script, REQUEST).events():
        batch = forwarder.feed(event.data)
        if batch is not None and batch.content_event_count:
            totals.append(batch.running_usage.completion_token_count)

    assert [1, 2, 3] == totals


def test_missing_usage_is_estimated_by_content_events() -> None:
    answer = forward(stream_of(Script(chunks=7, usage="never")))

    assert usage_pb2.USAGE_SOURCE_ESTIMATED == answer.finish.usage.source
    assert 7 == answer.finish.usage.completion_token_count
    assert 0 == answer.finish.usage.prompt_token_count
    assert b"" == answer.finish.usage_json


@pytest.mark.parametrize("usage", ["negative", "absurd"])
def test_impossible_usage_is_an_invalid_response(usage: str) -> None:
    with pytest.raises(ProviderError) as caught:
        forward(stream_of(Script(usage=usage)))

    assert Failure.INVALID_RESPONSE is caught.value.failure


@pytest.mark.parametrize("is_asked", [True, False])
@pytest.mark.parametrize("usage", ["extra", "null"])
def test_null_usage_is_on_each_chunk_exactly_when_our_head_has_it(
    is_asked: bool, usage: str
) -> None:
    head = CHUNK_HEAD + b'"usage":null,' if is_asked else CHUNK_HEAD

    answer = forward(stream_of(Script(chunks=3, usage=usage)), chunk_head=head)

    assert (4 if is_asked else 0) == answer.sse.count(b'"usage"')
    assert all(part.startswith(b"data: " + head) for part in answer.sse.split(b"\n\n")[:-1])


def test_null_usage_followed_by_other_keys_is_taken_out() -> None:
    first = CHUNK.replace(b"]}", b'],"usage":null,"obfuscation":"abc"}')

    answer = forward(first + END)

    assert b'],"obfuscation":"abc"}' in answer.sse
    assert b"usage" not in answer.sse


CHUNK = (
    b'data: {"id":"u","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}\n\n'
)
END = (
    b'data: {"id":"u","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


def test_content_that_comes_with_the_finish_stays_content() -> None:
    answer = forward(stream_of(Script(chunks=2, finish="with_content", reason="length")))

    assert text(2) == answer.text
    assert "length" == answer.finish.finish_reason
    finish = json.loads(answer.finish.finish_chunks[0])
    assert ({}, "length") == (
        finish["choices"][0]["delta"],
        finish["choices"][0]["finish_reason"],
    )


def test_each_choice_has_its_own_finish() -> None:
    script = Script(chunks=2, choices=3)
    forwarder = StreamForwarder(make_call(), choice_count=3)

    batch = forwarder.feed(stream_of(script))

    assert batch is not None
    ends = [json.loads(chunk)["choices"] for chunk in batch.finish.finish_chunks]
    assert [[0], [1], [2]] == [[choice["index"] for choice in choices] for choices in ends]
    assert 6 == batch.content_event_count


def test_stream_with_too_few_finishes_is_incomplete() -> None:
    forwarder = StreamForwarder(make_call(), choice_count=2)

    with pytest.raises(ProviderError) as caught:
        forwarder.feed(stream_of(Script(chunks=2)))

    assert Failure.INCOMPLETE is caught.value.failure


@pytest.mark.parametrize("done", [0, 1])
def test_stream_without_finish_is_incomplete(done: int) -> None:
    with pytest.raises(ProviderError) as caught:
        forward(stream_of(Script(finish="never", done=done)))

    assert Failure.INCOMPLETE is caught.value.failure


def test_stream_cut_inside_an_event_is_incomplete_and_the_half_is_not_sent() -> None:
    forwarder = StreamForwarder(make_call(), choice_count=1)
    forwarder.feed(CHUNK + CHUNK[:-8])

    with pytest.raises(ProviderError) as caught:
        forwarder.end()

    assert Failure.INCOMPLETE is caught.value.failure


def test_finish_without_the_last_blank_line_counts() -> None:
    answer = forward(CHUNK + END.partition(b"\n\n")[0])

    assert "stop" == answer.finish.finish_reason


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"error": {"message": "s3cret", "code": "rate_limit_exceeded"}}, Failure.RATE_LIMITED),
        ({"error": {"message": "s3cret", "code": 503}}, Failure.UNAVAILABLE),
        ({"error": "s3cret"}, Failure.UNAVAILABLE),
        (
            {"error": {"code": "context_length_exceeded", "type": "invalid_request_error"}},
            Failure.CONTEXT_LENGTH,
        ),
        ({"object": "error", "message": "s3cret", "code": 400}, Failure.REJECTED),
    ],
)
@pytest.mark.parametrize("before", [b"", CHUNK])
def test_error_object_in_a_stream_is_a_failure(
    error: dict[str, Any], failure: Failure, before: bytes
) -> None:
    with pytest.raises(ProviderError) as caught:
        forward(before + b"data: " + dumps(error) + b"\n\n")

    assert failure is caught.value.failure
    assert "s3cret" not in caught.value.message


def test_error_beside_choices_is_a_failure() -> None:
    with pytest.raises(ProviderError) as caught:
        forward(CHUNK + CHUNK.replace(b"}]}", b'}],"error":{"code":500}}'))

    assert Failure.UNAVAILABLE is caught.value.failure


@pytest.mark.parametrize(
    "junk",
    [
        b"data: {oops\n\n",
        b"data: [1,2]\n\n",
        b'data: {"choices":7}\n\n',
        b'data: {"choices":[{"delta":7,"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":' + b"[" * 100_000 + b"\n\n",
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tired"}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":7}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":[]}\n\n',
    ],
)
@pytest.mark.parametrize("before", [b"", CHUNK])
def test_junk_in_a_stream_is_an_invalid_response(junk: bytes, before: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        forward(before + junk)

    assert Failure.INVALID_RESPONSE is caught.value.failure


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_raise_anything_but_provider_errors(data: bytes, has_start: bool) -> None:
    with suppress(ProviderError):
        forward((CHUNK if has_start else b"") + b"data: " + data + b"\n\n" + END)


def test_upstream_that_puts_choices_first_keeps_no_identity_of_its_own() -> None:
    answer = forward(stream_of(Script(chunks=3, keys="sorted")))

    assert text(3) == answer.text
    assert {"chatcmpl-ours"} == {chunk["id"] for chunk in answer.chunks}


def test_text_that_looks_like_structure_is_left_alone() -> None:
    tricky = '"usage":{"x":1},"finish_reason":"stop" data: {"id":"u", ,"usage":null} "error"'
    chunk = json.loads(CHUNK[6:])
    chunk["choices"][0]["delta"] = {"content": tricky}

    answer = forward(CHUNK + b"data: " + dumps(chunk) + b"\n\n" + END)

    assert "a" + tricky == answer.text


def test_empty_choices_are_not_forwarded() -> None:
    filtered = CHUNK.partition(b"[{")[0] + b'[],"prompt_filter_results":[]}\n\n'

    answer = forward(filtered + CHUNK + filtered + END)

    assert 1 == len(answer.chunks)


def test_role_only_chunks_are_forwarded_and_count_as_no_content() -> None:
    role = CHUNK.replace(b'"content":"a"', b'"content":"","refusal":null')
    tool = CHUNK.replace(b'"content":"a"', b'"tool_calls":[{"index":0,"id":"x"}]')

    answer = forward(role + role + tool + END)

    assert 3 == len(answer.chunks)
    assert 1 == answer.content_count
