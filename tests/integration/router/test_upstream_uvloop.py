"""The HTTP client on uvloop, which production runs on; the other tests use asyncio's own loop."""

import asyncio
from contextlib import aclosing

import pytest
import uvloop

from kit.clock import SystemClock
from services.router.providers.openai.compat import (
    OpenAiCompatProvider,
    OpenAiCompatSettings,
    open_openai_compat,
)
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.upstream import HttpLimits, open_http_pool
from tests.fakes.openai_calls import eventually, make_body, make_call
from tests.fakes.openai_upstream import OpenAiUpstream, open_openai_upstream


async def ask(
    provider: OpenAiCompatProvider, prompt: str, *, plain: bool = False, batches_max: int = 10_000
) -> list[Batch]:
    loop = asyncio.get_running_loop()
    call = make_call(is_streaming=not plain, idle_s=1.0)
    found: list[Batch] = []
    stream = provider.stream(call, make_body(prompt), deadline_s=loop.time() + 10)
    async with aclosing(stream) as batches:
        async for batch in batches:
            found.append(batch)
            if len(found) >= batches_max:
                break
    return found


async def check_answers(provider: OpenAiCompatProvider, upstream: OpenAiUpstream) -> None:
    for form in ("split:1", "line:cr;split:3", "joined:1", "usage:every"):
        batches = await ask(provider, f"shape=c10-d0 fake={form}")
        assert 10 == batches[-1].finish.usage.completion_token_count
        assert 10 == sum(batch.content_event_count for batch in batches)
        await eventually(lambda: upstream.seen[-1].is_over)
    assert b"tok9" in (await ask(provider, "shape=c10-d0", plain=True))[0].completion
    assert 1 == upstream.connection_count


async def check_failures(provider: OpenAiCompatProvider, upstream: OpenAiUpstream) -> None:
    for form, failure in (
        ("cut_after:2;cut:rst", Failure.INCOMPLETE),
        ("cut_after:2;cut:half", Failure.INCOMPLETE),
        ("hang:stream", Failure.TIMEOUT),
        ("status:503", Failure.UNAVAILABLE),
    ):
        with pytest.raises(ProviderError) as caught:
            await ask(provider, f"shape=c6-d0 fake={form}")
        assert failure is caught.value.failure


async def check_cancelling(provider: OpenAiCompatProvider, upstream: OpenAiUpstream) -> None:
    await ask(provider, "shape=c9-d0 fake=hang:stream", batches_max=1)

    await eventually(lambda: upstream.seen[0].is_aborted)
    await eventually(lambda: upstream.open_count == 0)


@pytest.mark.parametrize("check", [check_answers, check_failures, check_cancelling])
def test_uvloop_behaves_as_asyncio_does(check: object) -> None:
    assert callable(check)

    async def run() -> None:
        async with open_openai_upstream() as upstream, open_http_pool(HttpLimits()) as pool:
            settings = OpenAiCompatSettings(base_url=upstream.base_url)
            async with open_openai_compat(settings, pool=pool, clock=SystemClock()) as provider:
                await check(provider, upstream)

    uvloop.run(run())
