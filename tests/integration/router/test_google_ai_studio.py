"""Gemini at AI Studio against a scripted upstream on real sockets."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from kit.clock import ManualClock
from services.router.constraints import constraint_of
from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.providers.google.adapter import open_ai_studio
from services.router.providers.port import Batch, Failure, Provider, ProviderError
from services.router.upstream import HttpLimits, HttpPool, open_http_pool
from tests.fakes.gemini_calls import TOOLS, ask, gemini_call, message_of
from tests.fakes.gemini_oracle import read_request
from tests.fakes.gemini_script import (
    SIGNATURE,
    Json,
    Said,
    Script,
    calls,
    status,
    text,
    thoughts,
)
from tests.fakes.gemini_upstream import GeminiUpstream, open_gemini_upstream, reported
from tests.fakes.image_host import IMAGE, open_image_host
from tests.fakes.openai_calls import eventually, make_body
from tests.fixtures.tls import certificate, server_context
from turnpike.type.v1 import usage_pb2

FORMS = [True, False]
SCRIPTS = {
    "text": text("Hello", ", ", "world"),
    "tool": calls(("weather", {"city": "Rome"})),
    "parallel": calls(("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"}), ("now", None)),
    "reasoning": Script(said=(*thoughts("hm"), Said({"text": "Yes"}))),
    "reasoning then tool": Script(said=(*thoughts("hm"), *calls(("now", {})).said)),
    "cached": text("x", cached_tokens=7, tool_tokens=3),
    "long": text(*("word " * 40).split(" "), events_joined=3),
    "filtered": text("x", finish="SAFETY"),
    "bounded": text("x", finish="MAX_TOKENS", finish_in="last"),
}


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(HttpLimits(linger_s=5.0)) as opened:
        yield opened


@pytest.fixture
async def upstream() -> AsyncIterator[GeminiUpstream]:
    async with open_gemini_upstream() as opened:
        yield opened


@pytest.fixture
async def provider(pool: HttpPool, upstream: GeminiUpstream) -> AsyncIterator[Provider]:
    fetcher = ImageFetcher(FetchRules())
    async with open_ai_studio(
        base_url=upstream.base_url,
        api_key=SecretStr("AIza-key"),
        pool=pool,
        fetcher=fetcher,
        clock=ManualClock(),
    ) as opened:
        yield opened
    fetcher.close()


async def failure(provider: Provider, **changes: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(provider, make_body(), **changes)
    assert "secret" not in caught.value.message
    return caught.value


def check_usage(usage: usage_pb2.TokenUsage, told: Json | None) -> None:
    """Compare usage with what the fake reported, in OpenAI's meaning."""
    assert told is not None
    prompt = told["promptTokenCount"] + told.get("toolUsePromptTokenCount", 0)
    thought = told.get("thoughtsTokenCount", 0)
    assert (
        prompt,
        told.get("candidatesTokenCount", 0) + thought,
        told.get("cachedContentTokenCount", 0),
        thought,
        usage_pb2.USAGE_SOURCE_UPSTREAM,
    ) == (
        usage.prompt_token_count,
        usage.completion_token_count,
        usage.cached_prompt_token_count,
        usage.reasoning_token_count,
        usage.source,
    )


@pytest.mark.parametrize("is_streaming", FORMS)
@pytest.mark.parametrize("name", SCRIPTS)
async def test_answers_are_told_with_the_usage_that_was_reported(
    provider: Provider, upstream: GeminiUpstream, name: str, is_streaming: bool
) -> None:
    script = SCRIPTS[name]
    upstream.answers(script)

    batches = await ask(provider, make_body(tools=TOOLS), is_streaming=is_streaming)

    finish = batches[-1].finish
    check_usage(finish.usage, upstream.seen[0].usage)
    assert reported(script) == upstream.seen[0].usage
    totals = json.loads(finish.usage_json)
    assert totals["total_tokens"] == reported(script)["totalTokenCount"]
    read_request(upstream.seen[0].body)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_stream_says_what_the_whole_answer_says(
    provider: Provider, upstream: GeminiUpstream, name: str
) -> None:
    upstream.answers(SCRIPTS[name])

    plain = await ask(provider, make_body(), is_streaming=False)
    stream = await ask(provider, make_body())

    assert message_of(plain) == message_of(stream)
    assert plain[-1].finish.finish_reason == stream[-1].finish.finish_reason


@pytest.mark.parametrize("split", [1, 2, 7, 100])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
async def test_bytes_may_come_in_any_pieces(
    provider: Provider, upstream: GeminiUpstream, split: int, line: str
) -> None:
    said = (*thoughts("hä"), Said({"text": "日本"}), *calls(("now", {"a": "é"})).said)
    upstream.answers(Script(said=said, split=split, line=line))

    message = message_of(await ask(provider, make_body()))

    assert ("hä", "日本") == (message["reasoning_content"], message["content"])
    assert '{"a":"é"}' == message["tool_calls"][0]["function"]["arguments"]


async def test_request_shows_the_key_and_names_the_model(
    provider: Provider, upstream: GeminiUpstream
) -> None:
    await ask(provider, make_body(), is_streaming=False)
    await ask(provider, make_body())

    plain, stream = upstream.seen
    assert "/v1beta/models/gemini-2.5-flash:generateContent" == plain.path
    assert "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse" == stream.path
    assert "AIza-key" == plain.headers["x-goog-api-key"] == stream.headers["x-goog-api-key"]
    assert "authorization" not in plain.headers
    assert "AIza" not in plain.path


async def test_tool_loop_brings_the_signature_back(
    provider: Provider, upstream: GeminiUpstream
) -> None:
    upstream.answers(calls(("weather", {"city": "Rome"}), ("now", None)))
    first = message_of(await ask(provider, make_body(tools=TOOLS)))
    answers = [
        {"role": "tool", "tool_call_id": called["id"], "content": "fine"}
        for called in reversed(first["tool_calls"])
    ]
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", **first}, *answers]

    await ask(provider, make_body(messages=history, tools=TOOLS))

    _, model, results = upstream.seen[1].body["contents"]
    assert SIGNATURE == model["parts"][0]["thoughtSignature"]
    names = [part["functionResponse"]["name"] for part in results["parts"]]
    assert ["weather", "now"] == names


async def test_constrained_answer_is_asked_for(
    provider: Provider, upstream: GeminiUpstream
) -> None:
    body = make_body(guided_json={"type": "object", "properties": {"a": {"type": "integer"}}})
    upstream.answers(text('{"a":', "1}"))

    message = message_of(await ask(provider, body, constraint=constraint_of(body)))

    config = upstream.seen[0].body["generationConfig"]
    assert '{"a":1}' == message["content"]
    assert "application/json" == config["responseMimeType"]
    assert json.loads(bytes(body["guided_json"])) == config["responseJsonSchema"]


@pytest.mark.parametrize("is_streaming", FORMS)
@pytest.mark.parametrize(
    ("code", "name", "wanted"),
    [
        (400, "INVALID_ARGUMENT", Failure.REJECTED),
        (403, "PERMISSION_DENIED", Failure.CREDENTIALS),
        (404, "NOT_FOUND", Failure.NOT_FOUND),
        (429, "RESOURCE_EXHAUSTED", Failure.RATE_LIMITED),
        (503, "UNAVAILABLE", Failure.UNAVAILABLE),
    ],
)
async def test_refusals_before_an_answer(
    provider: Provider,
    upstream: GeminiUpstream,
    code: int,
    name: str,
    wanted: Failure,
    is_streaming: bool,
) -> None:
    upstream.answers(Script(status=code, error=[status(code, name)], retry_after="7"))

    error = await failure(provider, is_streaming=is_streaming)

    assert (wanted, code, 7.0) == (error.failure, error.status, error.retry_after_s)


TROUBLES = {
    "error": ({"error_after": 2}, Failure.UNAVAILABLE),
    "bare error": ({"raw_error_after": 2}, Failure.UNAVAILABLE),
    "junk": ({"junk_after": 2}, Failure.INVALID_RESPONSE),
    "cut": ({"cut_after": 2}, Failure.INCOMPLETE),
    "early end": ({"end_after": 2}, Failure.INCOMPLETE),
    "hang": ({"hang_after": 2}, Failure.TIMEOUT),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_broken_stream_is_charged_no_more_than_was_reported(
    provider: Provider, upstream: GeminiUpstream, name: str
) -> None:
    fields, wanted = TROUBLES[name]
    upstream.answers(text("a", "b", "c", "d", delay_ms=5, **fields))
    batches: list[Batch] = []

    async def gather() -> None:
        deadline_s = asyncio.get_running_loop().time() + 9
        stream = provider.stream(gemini_call(idle_s=0.2), make_body(), deadline_s=deadline_s)
        async for batch in stream:
            batches.append(batch)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ProviderError) as caught:
        await gather()

    last = batches[-1].running_usage
    told = upstream.seen[0].usage or {}
    assert wanted is caught.value.failure
    assert 12 == last.prompt_token_count
    assert 0 < last.completion_token_count <= told["candidatesTokenCount"]


@pytest.mark.parametrize("name", ["error", "junk", "cut", "hang"])
async def test_broken_whole_answer_is_a_failure(
    provider: Provider, upstream: GeminiUpstream, name: str
) -> None:
    fields, wanted = TROUBLES[name]
    upstream.answers(text("a", "b", "c", **fields))

    assert wanted is (await failure(provider, is_streaming=False, wait_s=0.3)).failure


@pytest.mark.parametrize("is_streaming", FORMS)
async def test_blocked_prompt_is_refused_for_good(
    provider: Provider, upstream: GeminiUpstream, is_streaming: bool
) -> None:
    upstream.answers(Script(block_reason="PROHIBITED_CONTENT"))

    error = await failure(provider, is_streaming=is_streaming)

    assert (Failure.CONTENT_POLICY, False) == (error.failure, error.is_retryable)


@pytest.mark.parametrize("count", range(5))
async def test_caller_may_leave_at_any_chunk(
    provider: Provider, upstream: GeminiUpstream, count: int
) -> None:
    upstream.answers(text("a", "b", "c", "d", "e", hang_after=count))
    deadline_s = asyncio.get_running_loop().time() + 10
    stream = provider.stream(gemini_call(), make_body(), deadline_s=deadline_s)
    async with aclosing(stream):
        texts = 0
        while texts < count:
            batch = await anext(stream)
            texts += batch.content_event_count
            assert 2 * texts >= batch.running_usage.completion_token_count > 0
        waiting = asyncio.ensure_future(anext(stream))
        await eventually(lambda: bool(upstream.seen))
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting

    await eventually(lambda: upstream.seen[0].is_aborted)
    await eventually(lambda: upstream.open_count == 0)


async def test_connection_serves_the_next_request(
    provider: Provider, upstream: GeminiUpstream
) -> None:
    for _ in range(3):
        await ask(provider, make_body())

    assert 1 == upstream.open_count
    assert all(seen.is_complete for seen in upstream.seen)


async def test_best_effort_that_is_left_aside_is_told_with_content(
    provider: Provider, upstream: GeminiUpstream
) -> None:
    upstream.answers(text("x", split=3))

    batches = await ask(provider, make_body(user="u"))

    told = [list(batch.route.ignored_parameters) for batch in batches if batch.content_event_count]
    assert [["user"]] == told


async def test_probe_asks_for_free(provider: Provider, upstream: GeminiUpstream) -> None:
    assert await provider.probe()
    assert ("GET", "/v1beta/models?pageSize=1") == (upstream.seen[0].method, upstream.seen[0].path)


async def test_image_elsewhere_is_fetched_and_sent(
    pool: HttpPool, upstream: GeminiUpstream, tmp_path: Path
) -> None:
    files = certificate(tmp_path, name="img.example.com")
    async with open_image_host(server_context(files)) as host:
        rules = FetchRules(
            ports=frozenset({host.port}),
            networks=(ip_network("127.0.0.0/8"),),
            ca_file=str(files[0]),
        )
        fetcher = ImageFetcher(rules, resolve=lambda _host, _port: ["127.0.0.1"])
        image = {"type": "image_url", "image_url": {"url": host.url("/a.png")}}
        body = make_body(messages=[{"role": "user", "content": [image]}])
        async with open_ai_studio(
            base_url=upstream.base_url,
            api_key=SecretStr(""),
            pool=pool,
            fetcher=fetcher,
            clock=ManualClock(),
        ) as provider:
            await ask(provider, body)
        fetcher.close()

    part = upstream.seen[0].body["contents"][0]["parts"][0]["inlineData"]
    assert ("image/png", IMAGE) == (part["mimeType"], base64.b64decode(part["data"]))
    assert "x-goog-api-key" not in upstream.seen[0].headers
