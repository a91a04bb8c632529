"""Answers of a real Triton through the adapter: one suite over both transports."""

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from tests.fixtures.triton import Triton
from tests.integration.router.triton_calls import (
    Open,
    Transport,
    a_body,
    a_call,
    eventually,
    opener,
    run,
    stream,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["grpc", "http"])
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@pytest.fixture
def open_model(triton: Triton, transport: Transport) -> Open:
    return opener(triton, transport)


# Answers.


async def test_triton_stream_says_the_same_as_the_plain_answer(open_model: Open) -> None:
    async with open_model() as provider:
        body = a_body(seed=7, temperature=0.8)

        streamed = await run(provider, a_call(max_tokens=60), body)
        plain = await run(provider, a_call(max_tokens=60, is_streaming=False), body)

    assert plain.text == streamed.text
    assert plain.batches[-1].finish.usage == streamed.batches[-1].finish.usage
    assert len(plain.batches) == 1


async def test_triton_chunks_begin_with_the_role_and_the_end_is_kept_apart(
    open_model: Open,
) -> None:
    async with open_model() as provider:
        outcome = await run(provider, a_call(max_tokens=5), a_body(seed=3))

    finish = outcome.batches[-1].finish
    finish_chunk = msgspec.json.decode(finish.finish_chunks[0])
    usage = msgspec.json.decode(finish.usage_json)
    assert outcome.deltas[0] == {"role": "assistant", "content": ""}
    assert all(set(delta) == {"content"} for delta in outcome.deltas[1:])
    assert b"usage" not in b"".join(batch.sse for batch in outcome.batches)
    assert finish_chunk["choices"][0]["finish_reason"] == "length"
    assert finish_chunk["id"] == "chatcmpl-1"
    assert usage["completion_tokens"] == 5
    assert usage["total_tokens"] == usage["prompt_tokens"] + 5


async def test_triton_plain_answer_has_the_shape_of_a_chat_completion(open_model: Open) -> None:
    async with open_model() as provider:
        outcome = await run(provider, a_call(is_streaming=False, max_tokens=4), a_body(seed=3))

    completion = msgspec.json.decode(outcome.batches[0].completion)
    choice = completion["choices"][0]
    assert list(completion) == ["id", "object", "created", "model", "choices", "usage"]
    assert completion["object"] == "chat.completion"
    assert choice["message"] == {"role": "assistant", "content": outcome.text, "refusal": None}
    assert choice["logprobs"] is None
    assert choice["finish_reason"] == "length"


async def test_triton_serves_32_streams_at_once_each_in_order_and_exactly_counted(
    open_model: Open, triton: Triton, transport: Transport
) -> None:
    first = 1000 if transport == "grpc" else 2000
    seeds = range(first, first + 32)

    async with open_model("tiny-paced") as provider, open_model() as reference:
        call = a_call(max_tokens=30)
        outcomes = await asyncio.gather(
            *(run(provider, call, a_body(seed=seed, ignore_eos=True)) for seed in seeds)
        )
        expected = await asyncio.gather(
            *(
                run(reference, a_call(max_tokens=30, is_streaming=False), body)
                for body in (a_body(seed=seed, ignore_eos=True) for seed in seeds)
            )
        )

    assert [one.text for one in expected] == [one.text for one in outcomes]
    assert [triton.journal(seed)[0] for seed in seeds] == [o.completion_tokens for o in outcomes]
    for outcome in outcomes:
        totals = [batch.running_usage.completion_token_count for batch in outcome.batches]
        assert sorted(totals) == totals
        assert totals[-1] == 30


async def test_triton_end_token_and_stop_string_both_end_with_stop(open_model: Open) -> None:
    async with open_model() as provider:
        whole = await run(provider, a_call(max_tokens=200), a_body(temperature=0, seed=1))
        word = whole.text.split()[3]
        cut = await run(provider, a_call(max_tokens=200), a_body(temperature=0, seed=1, stop=word))

    assert whole.batches[-1].finish.finish_reason == "stop"
    assert cut.batches[-1].finish.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(word)]


async def test_triton_tokens_whose_text_is_held_back_are_counted_without_an_event(
    open_model: Open,
) -> None:
    async with open_model() as provider:
        body = a_body(temperature=0, seed=1, stop="a stop string that never comes by itself")

        outcome = await run(provider, a_call(max_tokens=12), body)

    first = outcome.batches[0]
    assert outcome.completion_tokens == 12
    assert first.running_usage.completion_token_count > first.content_event_count == 1


async def test_triton_http_merges_the_deltas_that_came_while_nobody_read(triton: Triton) -> None:
    async with opener(triton, "http")("tiny-paced") as provider:
        body = a_body(seed=3001, ignore_eos=True)
        async with aclosing(stream(provider, a_call(max_tokens=40), body)) as batches:
            first = await anext(batches)
            await eventually(lambda: triton.journal(3001)[1])
            rest = [batch async for batch in batches]

    assert first.running_usage.completion_token_count < 40
    assert len(rest) < 10
    assert rest[-1].running_usage.completion_token_count == 40


# Choices and log probabilities.


async def test_triton_gives_several_choices_with_indices_and_one_usage(open_model: Open) -> None:
    async with open_model() as provider:
        call, body = a_call(max_tokens=25), a_body(seed=7, temperature=1.5, n=3)
        streamed = await run(provider, call, body)
        plain = await run(provider, call._replace(is_streaming=False), body)
        single = await run(provider, call, a_body(seed=8, temperature=1.5))

    whole = msgspec.json.decode(plain.batches[0].completion)
    texts = {choice["index"]: choice["message"]["content"] for choice in whole["choices"]}
    pieces: dict[int, str] = {}
    for chunk in streamed.choices:
        pieces[chunk["index"]] = pieces.get(chunk["index"], "") + chunk["delta"]["content"]
    assert [0, 1, 2] == sorted(texts)
    assert texts == pieces
    assert single.text == texts[1] != texts[0]
    usage, reference = streamed.batches[-1].finish.usage, single.batches[-1].finish.usage
    assert plain.batches[-1].finish.usage == usage
    assert reference.prompt_token_count == usage.prompt_token_count
    assert 2 * reference.completion_token_count <= usage.completion_token_count <= 75
    assert [0, 1, 2] == [
        msgspec.json.decode(chunk)["choices"][0]["index"]
        for chunk in streamed.batches[-1].finish.finish_chunks
    ]


async def test_triton_tells_the_probability_of_every_sampled_token(open_model: Open) -> None:
    async with open_model() as provider:
        fields: dict[str, Any] = {"seed": 5, "temperature": 3, "ignore_eos": True}
        call, body = a_call(max_tokens=15), a_body(logprobs=True, top_logprobs=3, **fields)
        streamed = await run(provider, call, body)
        plain = await run(provider, call._replace(is_streaming=False), body)

    choice = msgspec.json.decode(plain.batches[0].completion)["choices"][0]
    entries = choice["logprobs"]["content"]
    told = [chunk["logprobs"] for chunk in streamed.choices if chunk["logprobs"]]
    assert entries == [entry for logprobs in told for entry in logprobs["content"]]
    assert 15 == len(entries)
    assert choice["message"]["content"] == "".join(entry["token"] for entry in entries)
    for entry in entries:
        ranked = [each["logprob"] for each in entry["top_logprobs"]]
        assert sorted(ranked, reverse=True) == ranked
        assert 3 == len(ranked)
        assert list(entry["token"].encode()) == entry["bytes"]
    assert any(entry["token"] != entry["top_logprobs"][0]["token"] for entry in entries)


# Cancelling.


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_triton_stops_generating_when_the_iterator_is_closed(
    open_model: Open, triton: Triton, transport: Transport, is_streaming: bool
) -> None:
    seed = 4000 + 2 * is_streaming + (transport == "grpc")
    async with open_model("tiny-paced") as provider:
        call = a_call(max_tokens=3000, is_streaming=is_streaming)
        body = a_body(seed=seed, ignore_eos=True)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(run(provider, call, body))
            await eventually(lambda: triton.journal(seed)[0] >= 3)
            reader.cancel()
        await eventually(lambda: triton.journal(seed)[1])

    assert triton.journal(seed)[0] < 1500


async def test_triton_stops_when_the_consumer_leaves_between_two_batches(
    open_model: Open, triton: Triton, transport: Transport
) -> None:
    seed = 4100 + (transport == "grpc")
    async with open_model("tiny-paced") as provider:
        body = a_body(seed=seed, ignore_eos=True)

        async with aclosing(stream(provider, a_call(max_tokens=3000), body)) as batches:
            first = await anext(batches)
        await eventually(lambda: triton.journal(seed)[1])

    assert first.content_event_count == 1
    assert triton.journal(seed)[0] < 1500


async def test_triton_stops_when_it_is_cancelled_before_the_first_token(
    open_model: Open, triton: Triton, transport: Transport
) -> None:
    # Over HTTP the server looks at the connection again only when it has something to send.
    seed = 4200 + (transport == "grpc")
    fault = "[silence after 0]" if transport == "grpc" else "[speech after 60]"
    async with open_model("tiny-paced") as provider:
        body = a_body(fault, seed=seed, ignore_eos=True)

        async with asyncio.TaskGroup() as group:
            reader = group.create_task(run(provider, a_call(max_tokens=3000), body))
            await eventually(lambda: triton.journal(seed)[0] >= 1)
            reader.cancel()
        await eventually(lambda: triton.journal(seed)[1])

    assert triton.journal(seed)[0] < 1500
