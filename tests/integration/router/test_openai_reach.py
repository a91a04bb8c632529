"""Reaching an OpenAI-compatible upstream: nobody there, no room, rate limits, the probe."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from pydantic import SecretStr

from kit.clock import ManualClock
from services.router.providers.openai.compat import (
    OpenAiCompatProvider,
    OpenAiCompatSettings,
    open_openai_compat,
)
from services.router.providers.port import Failure, Provider, ProviderError
from services.router.upstream import HttpLimits, HttpPool, open_http_pool
from tests.fakes.openai_calls import make_body, make_call
from tests.fakes.openai_upstream import OpenAiUpstream


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(HttpLimits()) as opened:
        yield opened


@pytest.fixture
async def provider(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> AsyncIterator[OpenAiCompatProvider]:
    settings = OpenAiCompatSettings(
        base_url=openai_upstream.base_url, api_key=SecretStr("sk-upstream")
    )
    async with open_openai_compat(settings, pool=pool, clock=ManualClock()) as opened:
        yield opened


async def failure(provider: Provider, prompt: str, *, wait_s: float = 10.0) -> ProviderError:
    deadline_s = asyncio.get_running_loop().time() + wait_s
    with pytest.raises(ProviderError) as caught:
        await anext(provider.stream(make_call(), make_body(prompt), deadline_s=deadline_s))
    return caught.value


async def test_upstream_that_is_not_there_is_a_connect_failure(pool: HttpPool) -> None:
    settings = OpenAiCompatSettings(base_url="http://127.0.0.1:1/v1")
    async with open_openai_compat(settings, pool=pool, clock=ManualClock()) as provider:
        assert Failure.CONNECT is (await failure(provider, "")).failure
        assert not await provider.probe()


async def test_handshake_that_outlives_the_attempt_is_a_timeout(pool: HttpPool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        settings = OpenAiCompatSettings(base_url=f"https://127.0.0.1:{port}")
        async with open_openai_compat(settings, pool=pool, clock=ManualClock()) as provider:
            found = await failure(provider, "", wait_s=0.2)

    assert Failure.TIMEOUT is found.failure


async def test_full_pool_makes_the_upstream_unavailable(openai_upstream: OpenAiUpstream) -> None:
    settings = OpenAiCompatSettings(base_url=openai_upstream.base_url)
    async with (
        open_http_pool(HttpLimits(connections_max=0)) as pool,
        open_openai_compat(settings, pool=pool, clock=ManualClock()) as provider,
    ):
        assert Failure.UNAVAILABLE is (await failure(provider, "")).failure


async def test_rate_limit_tells_how_long_to_wait(openai_upstream: OpenAiUpstream) -> None:
    now_s = int(time.time())
    settings = OpenAiCompatSettings(base_url=openai_upstream.base_url)
    async with (
        open_http_pool(HttpLimits()) as pool,
        open_openai_compat(
            settings, pool=pool, clock=ManualClock(unix_ms=now_s * 1000)
        ) as provider,
    ):
        seconds = await failure(provider, "fake=status:429;retry_after:7")
        date = await failure(provider, f"fake=status:429;retry_after:date{now_s + 30}")

    assert (Failure.RATE_LIMITED, 429, 7.0) == (
        seconds.failure,
        seconds.status,
        seconds.retry_after_s,
    )
    assert 30.0 == date.retry_after_s


async def test_probe_takes_any_answer_below_500(
    provider: OpenAiCompatProvider, openai_upstream: OpenAiUpstream
) -> None:
    assert await provider.probe()

    assert ("GET", "/v1/models") == (
        openai_upstream.seen[0].method,
        openai_upstream.seen[0].path,
    )
    assert "Bearer sk-upstream" == openai_upstream.seen[0].headers["authorization"]


async def test_secrets_do_not_show_in_a_provider(provider: OpenAiCompatProvider) -> None:
    settings = OpenAiCompatSettings(base_url="http://h", api_key=SecretStr("sk-upstream"))

    assert "sk-upstream" not in repr(provider) + repr(settings)
