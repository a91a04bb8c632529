"""The transport for other wire formats, where it does more than one codec needs."""

import asyncio
from contextlib import aclosing
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr

from kit.clock import ManualClock
from services.router.providers.anthropic.codec import AnthropicCodec
from services.router.providers.anthropic.hosts import Host
from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.providers.key_signer import KeySigner
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.providers.translated import TARGETS_MAX, Translated
from services.router.upstream import HttpLimits, open_http_pool
from tests.fakes.anthropic_upstream import AnthropicUpstream
from tests.fakes.image_host import open_image_host
from tests.fixtures.anthropic_calls import attempt
from tests.fixtures.tls import certificate, server_context

LOOPBACK = (ip_network("127.0.0.0/8"),)
FETCHING = Host(fetches_images=True)


async def ask(provider: Translated, *contents: object) -> list[Batch]:
    call, body = attempt(*({"role": "user", "content": each} for each in contents))
    deadline_s = asyncio.get_running_loop().time() + 10
    async with aclosing(provider.stream(call, body, deadline_s=deadline_s)) as batches:
        return [batch async for batch in batches]


async def test_images_are_fetched_before_an_upstream_that_takes_no_urls_is_asked(
    anthropic_upstream: AnthropicUpstream, tmp_path: Path
) -> None:
    files = certificate(tmp_path, name="img.example.com")
    async with open_http_pool(HttpLimits()) as pool, open_image_host(server_context(files)) as host:
        rules = FetchRules(
            ports=frozenset({host.port}), ca_file=str(files[0]), networks=LOOPBACK, total_s=30.0
        )
        fetcher = ImageFetcher(rules, resolve=lambda _host, _port: ["127.0.0.1"])
        provider = Translated(
            AnthropicCodec(FETCHING),
            KeySigner("authorization", SecretStr("token"), scheme="Bearer"),
            base_url=anthropic_upstream.base_url,
            pool=pool,
            fetcher=fetcher,
            clock=ManualClock(),
        )
        image = {"type": "image_url", "image_url": {"url": host.url("/a.png")}}
        missing = {"type": "image_url", "image_url": {"url": host.url("/missing")}}
        try:
            await ask(provider, [image])
            with pytest.raises(ProviderError) as caught:
                await ask(provider, [missing])
        finally:
            fetcher.close()

    (seen,) = anthropic_upstream.seen
    (block,) = seen.body["messages"][0]["content"]
    assert (block["source"]["type"], block["source"]["media_type"]) == ("base64", "image/png")
    assert seen.headers["authorization"] == "Bearer token"
    assert caught.value.failure is Failure.REJECTED
    assert caught.value.param == "messages[0].content[0].image_url.url"


async def test_paths_of_many_models_are_not_kept_for_ever(
    anthropic_upstream: AnthropicUpstream,
) -> None:
    fetcher = ImageFetcher(FetchRules())
    async with open_http_pool(HttpLimits()) as pool:
        provider = Translated(
            AnthropicCodec(Host(stream_path="/v1/messages?model={model}")),
            KeySigner("x-api-key", SecretStr("")),
            base_url=anthropic_upstream.base_url,
            pool=pool,
            fetcher=fetcher,
            clock=ManualClock(),
        )
        call, body = attempt()
        for number in range(TARGETS_MAX + 2):
            named = call._replace(upstream_model=f"m:{number}")
            deadline_s = asyncio.get_running_loop().time() + 10
            async with aclosing(provider.stream(named, body, deadline_s=deadline_s)) as batches:
                assert [batch async for batch in batches]
    fetcher.close()

    paths = [seen.path for seen in anthropic_upstream.seen]
    assert paths == [f"/v1/messages?model=m%3A{number}" for number in range(TARGETS_MAX + 2)]
    assert "x-api-key" not in anthropic_upstream.seen[0].headers
