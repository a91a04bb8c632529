"""OpenAI's text completions as codec: whatever the cut and form, the client gets the same."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.providers.openai.texts import (
    TextForwarder,
    read_text_completion,
    text_choice_count,
)
from services.router.providers.port import Body, Failure, ProviderError
from tests.fakes.openai_calls import make_call
from tests.fakes.openai_script import Script
from tests.fakes.openai_texts import TextWriter, text_body
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

HEAD = b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"ours",'
REQUEST = {"max_tokens": 100, "prompt": "x"}
UPSTREAM, ESTIMATED = usage_pb2.USAGE_SOURCE_UPSTREAM, usage_pb2.USAGE_SOURCE_ESTIMATED


def body_of(**fields: Any) -> Body:
    return msgspec.json.decode(msgspec.json.encode(fields), type=Body)


def stream_of(script: Script) -> bytes:
    return b"".join(event.data for event in TextWriter(script, REQUEST).events())


def forward(
    stream: bytes, positions: list[int] | None = None, choices: int = 1
) -> tuple[list[dict[str, Any]], int, router_pb2.Finish]:
    edges = [0, *sorted(p % (len(stream) + 1) for p in positions or []), len(stream)]
    call = make_call(chunk_head=HEAD, operation=router_pb2.OPERATION_COMPLETION)
    forwarder = TextForwarder(call, choice_count=choices)
    batches = []
    for start, end in itertools.pairwise(edges):
        if start < end and not forwarder.is_done:
            batches.append(forwarder.feed(stream[start:end]))
    if not forwarder.is_done:
        batches.append(forwarder.end())
    found = [batch for batch in batches if batch is not None]
    sse = b"".join(batch.sse for batch in found)
    parts = sse.split(b"\n\n")[:-1]
    assert all(part.startswith(b"data: " + HEAD) for part in parts)
    count = sum(batch.content_event_count for batch in found)
    return [json.loads(part[6:]) for part in parts], count, found[-1].finish


def text_in(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["text"] for choice in choices if choice["index"] == index)


def test_chunks_go_out_under_our_head_and_the_end_is_kept_apart() -> None:
    chunks, count, finish = forward(stream_of(Script(chunks=3, role="never")))

    assert ("tok0 tok1 tok2 ", 3) == (text_in(chunks), count)
    assert {None} == {chunk["choices"][0]["finish_reason"] for chunk in chunks}
    end = b'"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}'
    assert ([HEAD + end], "stop") == (list(finish.finish_chunks), finish.finish_reason)
    assert (12, 3, UPSTREAM) == (
        finish.usage.prompt_token_count,
        finish.usage.completion_token_count,
        finish.usage.source,
    )


SCRIPTS = st.builds(
    Script,
    chunks=st.integers(1, 5),
    usage=st.sampled_from(["extra", "finish", "every", "twice", "never", "null", "zero"]),
    finish=st.sampled_from(["chunk", "with_content"]),
    role=st.sampled_from(["first", "never"]),
    line=st.sampled_from(["lf", "crlf", "cr"]),
    space=st.integers(0, 1),
    comments=st.integers(0, 2),
    multiline=st.integers(0, 1),
    keys=st.sampled_from(["usual", "sorted", "spaced", "drifting"]),
    done=st.integers(0, 2),
)


@settings(max_examples=200, deadline=None)
@given(SCRIPTS, st.lists(st.integers(0, 4_000), max_size=20))
def test_any_cut_of_any_form_gives_the_same_answer(script: Script, positions: list[int]) -> None:
    stream = stream_of(script)

    whole, found = forward(stream), forward(stream, positions)

    assert whole == found
    assert script.chunks == whole[1] == text_in(whole[0]).count("tok")


def test_every_choice_has_its_own_text_and_end() -> None:
    chunks, count, finish = forward(stream_of(Script(chunks=4, choices=3)), choices=3)

    assert {"tok0 tok1 tok2 tok3 "} == {text_in(chunks, index) for index in range(3)}
    assert (12, 3) == (count, len(finish.finish_chunks))


@pytest.mark.parametrize(
    "text", ['"text":"x"', '","text":"', '\\"text\\":', "", "ä€😀", '"finish_reason":"stop"']
)
def test_text_that_looks_like_the_frame_is_counted_once(text: str) -> None:
    chunks = [
        {"id": "u", "object": "text_completion", "created": 1, "model": "m",
         "choices": [{"index": 0, "text": one, "logprobs": None, "finish_reason": end}]}
        for one, end in (("a", None), (text, None), ("b", None), ("", "stop"))
    ]  # fmt: skip
    stream = b"".join(b"data: %b\n\n" % msgspec.json.encode(chunk) for chunk in chunks)

    found, count, _ = forward(stream + b"data: [DONE]\n\n")

    assert (f"a{text}b", 3 if text else 2) == (text_in(found), count)


def test_tokens_named_like_members_are_no_content() -> None:
    logprobs = {"tokens": ["text"], "token_logprobs": [-1.0], "top_logprobs": [{"text": -1.0}]}
    head = {"id": "u", "object": "text_completion", "created": 1, "model": "m"}
    choice = {"index": 0, "text": "", "logprobs": logprobs, "finish_reason": None}
    chunk = {**head, "choices": [choice]}
    said = {**head, "choices": [{**choice, "text": "a"}]}
    end = b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}\n\n'
    stream = b"".join(b"data: %b\n\n" % msgspec.json.encode(one) for one in (said, chunk, chunk))

    found, count, _ = forward(stream + end)

    assert (3, 1) == (len(found), count)
    assert logprobs == found[1]["choices"][0]["logprobs"]


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": "a", "n": 3}, 3),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": [1, 2, 3], "n": 2}, 2),
        ({"prompt": [[1, 2], [3]]}, 2),
    ],
)
def test_each_prompt_has_its_choices(fields: dict[str, Any], count: int) -> None:
    assert count == text_choice_count(body_of(**fields))


def read(script: Script, **fields: Any) -> router_pb2.RunResponse:
    call = make_call(answer_id="cmpl-1", is_streaming=False)
    request = {**REQUEST, **fields}
    return read_text_completion(call, body_of(**request), text_body(script, request)[0])


def test_whole_answer_has_our_identity_and_the_upstreams_usage() -> None:
    batch = read(Script(chunks=2), prompt=["a", "b"], echo=True)

    answer = msgspec.json.decode(batch.completion)
    assert ("cmpl-1", "text_completion", "ours/model") == (
        answer["id"],
        answer["object"],
        answer["model"],
    )
    assert ["atok0 tok1 "] * 2 == [choice["text"] for choice in answer["choices"]]
    assert 4 == answer["usage"]["completion_tokens"] == batch.finish.usage.completion_token_count
    assert "stop" == batch.finish.finish_reason


def test_whole_answer_without_usage_is_guessed_and_marked() -> None:
    batch = read(Script(chunks=2, usage="never"))

    usage = batch.finish.usage
    assert (ESTIMATED, 3) == (usage.source, usage.completion_token_count)
    assert "usage" not in msgspec.json.decode(batch.completion)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'{"choices":[]}',
        b'{"choices":[{"index":0,"finish_reason":"stop"}]}',
        b'{"choices":[{"index":0,"text":"x","finish_reason":null}]}',
        b'{"choices":[{"index":0,"text":"x","finish_reason":"tired"}]}',
        b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}',
        b'{"error":{"message":"secret"}}',
    ],
)
def test_answer_that_is_none_is_a_failure_without_its_text(answer: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_text_completion(make_call(), body_of(prompt="x"), answer)

    assert caught.value.failure in (Failure.INVALID_RESPONSE, Failure.UNAVAILABLE)
    assert "secret" not in caught.value.message


def test_fewer_choices_than_prompts_is_a_failure() -> None:
    script, request = Script(chunks=1), {**REQUEST, "prompt": ["a", "b"]}

    with pytest.raises(ProviderError):
        read_text_completion(make_call(), body_of(**request, n=2), text_body(script, request)[0])
