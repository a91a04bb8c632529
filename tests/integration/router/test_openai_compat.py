"""The OpenAI-compatible provider against a scripted upstream on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import SecretStr

from kit.clock import ManualClock
from services.router.providers.openai.compat import (
    OpenAiCompatProvider,
    OpenAiCompatSettings,
    open_openai_compat,
)
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.upstream import HttpLimits, HttpPool, open_http_pool
from tests.fakes.openai_calls import CHUNK_HEAD, eventually, make_body, make_call
from tests.fakes.openai_upstream import OpenAiUpstream
from turnpike.type.v1 import usage_pb2


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(HttpLimits(linger_s=5.0)) as opened:
        yield opened


@pytest.fixture
async def provider(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> AsyncIterator[OpenAiCompatProvider]:
    settings = OpenAiCompatSettings(
        base_url=openai_upstream.base_url,
        api_key=SecretStr("sk-upstream"),
        headers={"X-Team": "blue"},
    )
    async with open_openai_compat(settings, pool=pool, clock=ManualClock()) as opened:
        yield opened


async def ask(
    provider: OpenAiCompatProvider,
    prompt: str = "",
    *,
    plain: bool = False,
    wait_s: float = 10.0,
    idle_s: float = 10.0,
    **fields: Any,
) -> list[Batch]:
    call = make_call(is_streaming=not plain, idle_s=idle_s)
    deadline_s = asyncio.get_running_loop().time() + wait_s
    body = make_body(prompt, **fields)
    async with aclosing(provider.stream(call, body, deadline_s=deadline_s)) as batches:
        return [batch async for batch in batches]


async def failure(provider: OpenAiCompatProvider, prompt: str, **options: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(provider, prompt, **options)
    assert "secret" not in caught.value.message
    return caught.value


def text_of(batches: list[Batch]) -> str:
    sse = b"".join(batch.sse for batch in batches)
    parts = sse.split(b"\n\n")[:-1]
    assert all(part.startswith(b"data: " + CHUNK_HEAD) for part in parts)
    chunks = [json.loads(part[6:]) for part in parts]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def tokens(count: int) -> str:
    return "".join(f"tok{index} " for index in range(count))


async def test_request_reaches_the_upstream_with_key_and_headers(
    provider: OpenAiCompatProvider, openai_upstream: OpenAiUpstream
) -> None:
    await ask(provider, "hello", temperature=0.5)

    seen = openai_upstream.seen[0]
    assert ("POST", "/v1/chat/completions") == (seen.method, seen.path)
    assert "Bearer sk-upstream" == seen.headers["authorization"]
    assert "blue" == seen.headers["x-team"]
    assert "identity" == seen.headers["accept-encoding"]
    assert ("upstream-model", 100, 0.5) == (
        seen.body["model"],
        seen.body["max_tokens"],
        seen.body["temperature"],
    )


@pytest.mark.parametrize(
    "form",
    [
        "split:1",
        "split:7",
        "joined:1",
        "line:crlf",
        "line:cr",
        "line:crlf;split:1",
        "comments:2",
        "bom:1;split:1",
        "space:0",
        "multiline:1",
        "keys:sorted",
        "keys:spaced",
        "keys:drifting",
        "done:0",
        "done:2",
        "after:junk",
        "length:close",
        "length:close;done:0",
        "close:1",
        "interim:2",
        "head_bytes:20000",
        "finish:with_content",
        "usage:null",
        "event_bytes:100000",
    ],
)
async def test_stream_of_any_form_gives_every_token_once(
    provider: OpenAiCompatProvider, form: str
) -> None:
    batches = await ask(provider, f"shape=c20-d0 prompt=33 fake={form}")

    text = text_of(batches).replace("x", "")
    finish = batches[-1].finish
    assert tokens(20) == text
    assert 20 == sum(batch.content_event_count for batch in batches)
    assert ("stop", 33, 20) == (
        finish.finish_reason,
        finish.usage.prompt_token_count,
        finish.usage.completion_token_count,
    )
    assert [False] * (len(batches) - 1) == [batch.HasField("finish") for batch in batches[:-1]]


async def test_event_of_five_megabytes_passes(provider: OpenAiCompatProvider) -> None:
    batches = await ask(provider, "shape=c2-d0 fake=event_bytes:5000000")

    assert 10_000_000 == len(text_of(batches))


async def test_first_content_is_given_before_the_rest_exists(
    provider: OpenAiCompatProvider, openai_upstream: OpenAiUpstream
) -> None:
    call = make_call()
    deadline_s = asyncio.get_running_loop().time() + 10
    body = make_body("shape=c2-d0 fake=hang:stream")
    async with aclosing(provider.stream(call, body, deadline_s=deadline_s)) as batches:
        content = b""
        while b"tok0" not in content:
            content += (await anext(batches)).sse

        assert not openai_upstream.seen[0].is_over


async def test_usage_asked_of_the_fake_is_the_usage_told(
    provider: OpenAiCompatProvider, openai_upstream: OpenAiUpstream
) -> None:
    stream = (await ask(provider, "shape=c3-d1 prompt=77 use=max"))[-1].finish
    plain = (await ask(provider, "prompt=77 use=max", plain=True))[-1].finish

    assert (77, 100) == (stream.usage.prompt_token_count, stream.usage.completion_token_count)
    assert (77, 100) == (plain.usage.prompt_token_count, plain.usage.completion_token_count)
    assert [100, 100] == [(seen.usage or {})["completion_tokens"] for seen in openai_upstream.seen]


async def test_missing_usage_is_marked_as_estimated(provider: OpenAiCompatProvider) -> None:
    stream = (await ask(provider, "shape=c9-d0 fake=usage:never"))[-1].finish
    plain = (await ask(provider, "shape=c9-d0 fake=usage:never", plain=True))[-1].finish

    assert usage_pb2.USAGE_SOURCE_ESTIMATED == stream.usage.source == plain.usage.source
    assert 9 == stream.usage.completion_token_count


async def test_several_choices_end_each_for_itself(provider: OpenAiCompatProvider) -> None:
    stream = (await ask(provider, "shape=c2-d0 fake=choices:3", n=3))[-1].finish
    plain = (await ask(provider, "shape=c2-d0 fake=choices:3", plain=True, n=3))[-1]

    assert 3 == len(stream.finish_chunks)
    assert 3 == len(json.loads(plain.completion)["choices"])


@pytest.mark.parametrize("form", ["split:1", "blank:5", "length:close", "interim:1", "close:1"])
async def test_plain_answer_of_any_form_is_read(provider: OpenAiCompatProvider, form: str) -> None:
    batches = await ask(provider, f"shape=c5-d0 fake={form}", plain=True)

    answer = json.loads(batches[0].completion)
    assert 1 == len(batches)
    assert tokens(5) == answer["choices"][0]["message"]["content"]
    assert "chatcmpl-ours" == answer["id"]
    assert "stop" == batches[0].finish.finish_reason


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("body:error", Failure.UNAVAILABLE),
        ("body:html", Failure.INVALID_RESPONSE),
        ("body:junk", Failure.INVALID_RESPONSE),
        ("gzip:1", Failure.INVALID_RESPONSE),
        ("gzip:1;usage:null", Failure.INVALID_RESPONSE),
        ("usage:negative", Failure.INVALID_RESPONSE),
        ("usage:absurd", Failure.INVALID_RESPONSE),
        ("finish:unknown", Failure.INVALID_RESPONSE),
        ("head_bytes:70000", Failure.INVALID_RESPONSE),
        ("status:302", Failure.INVALID_RESPONSE),
        ("status:401", Failure.CREDENTIALS),
        ("status:404", Failure.NOT_FOUND),
        ("status:500", Failure.UNAVAILABLE),
        ("status:500;gzip:1", Failure.UNAVAILABLE),
        ("status:529", Failure.UNAVAILABLE),
        ("status:400;code:context_length_exceeded", Failure.CONTEXT_LENGTH),
        ("status:400;code:content_filter", Failure.CONTENT_POLICY),
        ("status:422", Failure.REJECTED),
    ],
)
async def test_answer_that_is_none_says_why(
    provider: OpenAiCompatProvider, form: str, expected: Failure, plain: bool
) -> None:
    found = await failure(provider, f"shape=c4-d0 fake={form};message:secret", plain=plain)

    assert expected is found.failure


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("body:error_first", Failure.RATE_LIMITED),
        ("body:error_late", Failure.UNAVAILABLE),
        ("body:junk_late", Failure.INVALID_RESPONSE),
        ("finish:never", Failure.INCOMPLETE),
        ("finish:never;done:0", Failure.INCOMPLETE),
        ("chunks:0;finish:never;role:never;usage:never", Failure.INCOMPLETE),
        ("cut_after:2", Failure.INCOMPLETE),
        ("cut_after:2;cut:rst", Failure.INCOMPLETE),
        ("cut_after:2;cut:half", Failure.INCOMPLETE),
        ("cut_after:2;length:close", Failure.INCOMPLETE),
        ("cut_after:0;cut:rst", Failure.INCOMPLETE),
        ("event_bytes:9000000", Failure.INVALID_RESPONSE),
    ],
)
async def test_stream_that_breaks_says_why(
    provider: OpenAiCompatProvider, form: str, expected: Failure
) -> None:
    assert expected is (await failure(provider, f"shape=c6-d0 fake={form}")).failure


async def test_plain_answer_that_is_cut_is_incomplete(provider: OpenAiCompatProvider) -> None:
    found = await failure(provider, "fake=cut_after:0", plain=True)

    assert Failure.INCOMPLETE is found.failure


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("hang", ["headers_before", "headers_after"])
async def test_upstream_that_hangs_before_content_is_cut_at_the_deadline(
    provider: OpenAiCompatProvider, openai_upstream: OpenAiUpstream, hang: str, plain: bool
) -> None:
    found = await failure(provider, f"fake=hang:{hang}", plain=plain, wait_s=0.2)

    assert Failure.TIMEOUT is found.failure
    await eventually(lambda: openai_upstream.seen[0].is_aborted)


async def test_upstream_that_hangs_amid_content_is_cut_by_the_idle_limit(
    provider: OpenAiCompatProvider, openai_upstream: OpenAiUpstream
) -> None:
    found = await failure(provider, "shape=c4-d0 fake=hang:stream", idle_s=0.2)

    assert Failure.TIMEOUT is found.failure
    await eventually(lambda: openai_upstream.seen[0].is_aborted)


async def test_deadline_of_the_first_content_does_not_cut_what_follows(
    provider: OpenAiCompatProvider,
) -> None:
    batches = await ask(provider, "shape=c12-d200", wait_s=2.0)

    assert tokens(12) == text_of(batches)


async def test_upstream_that_hangs_after_the_finish_costs_only_the_wait(
    provider: OpenAiCompatProvider,
) -> None:
    batches = await ask(provider, "shape=c4-d0 fake=hang:done", idle_s=1.0)

    assert ("stop", 4) == (
        batches[-1].finish.finish_reason,
        batches[-1].finish.usage.completion_token_count,
    )


@pytest.mark.parametrize("batch_count", [0, 1, 3])
async def test_closing_the_iterator_cuts_the_upstream_at_once(
    provider: OpenAiCompatProvider, openai_upstream: OpenAiUpstream, batch_count: int
) -> None:
    hang = "headers_before" if batch_count == 0 else "stream"
    deadline_s = asyncio.get_running_loop().time() + 30
    body = make_body(f"shape=c20-d20 fake=hang:{hang}")
    batches = provider.stream(make_call(), body, deadline_s=deadline_s)

    async def read() -> None:
        for _ in range(batch_count or 1):
            await anext(batches)

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        await eventually(lambda: len(openai_upstream.seen) == 1)
        if batch_count == 0:
            reading.cancel()
        else:
            await reading
    await batches.aclose()

    await eventually(lambda: openai_upstream.seen[0].is_aborted)
    await eventually(lambda: openai_upstream.open_count == 0)


async def test_connection_is_kept_over_streams_and_plain_answers(
    provider: OpenAiCompatProvider, openai_upstream: OpenAiUpstream, pool: HttpPool
) -> None:
    for _ in range(3):
        await ask(provider, "shape=c3-d1")
        await eventually(lambda: openai_upstream.seen[-1].is_over)
        await ask(provider, plain=True)
        await failure(provider, "fake=status:400")

    assert 9 == len(openai_upstream.seen)
    assert 1 == openai_upstream.connection_count


async def test_many_streams_at_once_keep_their_tokens_apart(
    provider: OpenAiCompatProvider,
) -> None:
    async with asyncio.TaskGroup() as tasks:
        streams = [tasks.create_task(ask(provider, f"shape=c{n}-d1")) for n in range(5, 45)]

    assert [tokens(n) for n in range(5, 45)] == [text_of(stream.result()) for stream in streams]
