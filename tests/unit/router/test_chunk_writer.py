"""Answers of other wire formats, written as OpenAI's."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming._deltas import accumulate_delta
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.router.providers.chunk_writer import TOOL_CALLS_MAX, ChunkWriter, Counts
from services.router.providers.port import Batch, Call, Failure, ProviderError
from turnpike.type.v1 import usage_pb2

HEAD = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m",'


def call(*, is_streaming: bool) -> Call:
    return Call(
        request_id="1",
        answer_id="chatcmpl-1",
        create_unix_s=7,
        model_id="m",
        upstream_model="up",
        is_streaming=is_streaming,
        max_tokens=10,
        chunk_head=HEAD if is_streaming else b"",
        idle_s=1.0,
    )


def chunks(*batches: Batch | None) -> list[dict[str, Any]]:
    found = []
    for batch in batches:
        events = (batch.sse if batch else b"").split(b"\n\n")
        found += [json.loads(event.removeprefix(b"data: ")) for event in events if event]
        found += [json.loads(chunk) for chunk in (batch.finish.finish_chunks if batch else ())]
    for chunk in found:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return found


def folded(found: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"tool_calls": []}
    for chunk in found:
        delta = chunk["choices"][0]["delta"]
        for name, value in delta.items():
            if name == "tool_calls":
                for piece in value:
                    if piece["index"] == len(message[name]):
                        message[name].append(piece)
                    else:
                        arguments = piece["function"]["arguments"]
                        message[name][piece["index"]]["function"]["arguments"] += arguments
            elif name != "role":
                message[name] = message.get(name, "") + value
    return message


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("text"), st.text(max_size=6)),
        st.tuples(st.just("reasoning"), st.text(max_size=6)),
        st.tuples(st.just("tool"), st.lists(st.text(max_size=4), max_size=3)),
    ),
    max_size=8,
)


def play(writer: ChunkWriter, steps: list[tuple[str, Any]]) -> list[Batch | None]:
    batches = []
    for step, value in steps:
        if step == "tool":
            index = writer.tool_call(f"call_{writer.tool_call_count}", "look")
            for piece in value:
                writer.tool_arguments(index, piece)
        else:
            getattr(writer, step)(value)
        batches.append(writer.batch())
    return batches


@given(STEPS)
def test_a_stream_adds_up_to_the_whole_answer(steps: list[tuple[str, Any]]) -> None:
    writer, plain = ChunkWriter(call(is_streaming=True)), ChunkWriter(call(is_streaming=False))
    counts = Counts(prompt=5, completion=6, cached=2, reasoning=1)

    batches = [*play(writer, steps), writer.end("stop", counts)]
    assert play(plain, steps) == [None] * len(steps)
    whole = json.loads(plain.end("stop", counts).completion)

    ChatCompletion.model_validate(whole, strict=True)
    streamed, message = folded(chunks(*batches)), whole["choices"][0]["message"]
    assert streamed.get("content", "") == (message["content"] or "")
    assert streamed.get("reasoning_content", "") == message.get("reasoning_content", "")
    pieces = [
        (piece["id"], piece["function"]["name"], piece["function"]["arguments"])
        for piece in streamed["tool_calls"]
    ]
    calls = message.get("tool_calls", [])
    assert pieces == [
        (each["id"], each["function"]["name"], each["function"]["arguments"]) for each in calls
    ]
    assert whole["usage"]["total_tokens"] == 11


def test_running_totals_go_out_with_the_batch_that_they_cover() -> None:
    writer = ChunkWriter(call(is_streaming=True))
    writer.prompt_counted(Counts(prompt=9, completion=1))
    writer.text("a")
    writer.text("b")
    first = writer.batch()
    writer.counted(Counts(prompt=9, completion=5))
    writer.text("c")
    second = writer.batch()

    assert first is not None
    assert second is not None
    assert first.content_event_count == 2
    assert first.running_usage.completion_token_count == 2
    assert first.running_usage.source == usage_pb2.USAGE_SOURCE_ESTIMATED
    assert second.running_usage.completion_token_count == 5
    assert second.running_usage.source == usage_pb2.USAGE_SOURCE_UPSTREAM


def test_what_nobody_counted_is_estimated() -> None:
    plain, streamed = ChunkWriter(call(is_streaming=False)), ChunkWriter(call(is_streaming=True))
    plain.text("eight ch")
    streamed.text("eight ch")

    for writer, tokens in ((plain, 2), (streamed, 1)):
        finish = writer.end("length", None).finish
        assert finish.usage.completion_token_count == tokens
        assert finish.usage.source == usage_pb2.USAGE_SOURCE_ESTIMATED
        assert finish.usage_json == b""


@pytest.mark.parametrize("counts", [Counts(-1, 0), Counts(0, 2**40), Counts(1, 1, cached=-3)])
def test_an_impossible_count_is_no_count(counts: Counts) -> None:
    with pytest.raises(ProviderError) as caught:
        ChunkWriter(call(is_streaming=False)).end("stop", counts)

    assert caught.value.failure is Failure.INVALID_RESPONSE


def test_a_reason_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ProviderError):
        ChunkWriter(call(is_streaming=False)).end("tired", None)


def test_tool_calls_are_bounded_and_have_names() -> None:
    writer = ChunkWriter(call(is_streaming=True))
    with pytest.raises(ProviderError):
        writer.tool_call("a", "")
    for number in range(TOOL_CALLS_MAX):
        writer.tool_call(str(number), "look")
    with pytest.raises(ProviderError):
        writer.tool_call("b", "look")


def test_extra_content_and_details_are_kept_in_both_forms() -> None:
    extra = {"google": {"thought_signature": "s"}}
    detail: dict[str, object] = {"type": "reasoning.text", "signature": "t"}
    writer, plain = ChunkWriter(call(is_streaming=True)), ChunkWriter(call(is_streaming=False))
    for each in (writer, plain):
        each.reasoning_detail(detail)
        each.tool_call("a", "look", extra=extra)

    found = chunks(writer.batch())
    message = json.loads(plain.end("tool_calls", None).completion)["choices"][0]["message"]

    detail["index"] = 0
    assert found[1]["choices"][0]["delta"]["reasoning_details"] == [detail]
    assert found[2]["choices"][0]["delta"]["tool_calls"][0]["extra_content"] == extra
    assert message["reasoning_details"] == [detail]
    assert message["tool_calls"][0]["extra_content"] == extra


def test_openais_client_gathers_details_of_a_stream() -> None:
    writer = ChunkWriter(call(is_streaming=True))
    for signature in "ab":
        writer.reasoning_detail({"type": "reasoning.text", "signature": signature})

    gathered: dict[object, object] = {}
    for chunk in chunks(writer.batch()):
        gathered = accumulate_delta(gathered, chunk["choices"][0]["delta"])

    details = gathered["reasoning_details"]
    assert isinstance(details, list)
    assert ["a", "b"] == [detail["signature"] for detail in details]
