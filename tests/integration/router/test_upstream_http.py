"""The HTTP client over real sockets: reuse, bounds, back-pressure, TLS, endings."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from services.router.upstream import (
    HttpExchange,
    HttpLimits,
    HttpPool,
    Target,
    UpstreamBusyError,
    UpstreamClosedError,
    UpstreamConnectError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    build_headers,
    open_http_pool,
)
from tests.fakes.openai_calls import eventually
from tests.fakes.openai_script import Script, dumps
from tests.fakes.openai_upstream import OpenAiUpstream, open_openai_upstream
from tests.fixtures.tls import certificate, server_context

LIMITS = HttpLimits(connections_max=4, idle_max=2, idle_s=30.0, unread_bytes_max=50_000)


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(LIMITS) as opened:
        yield opened


def soon() -> float:
    return asyncio.get_running_loop().time() + 10


async def send(pool: HttpPool, upstream: OpenAiUpstream, *, stream: bool = False) -> HttpExchange:
    target = Target.of(upstream.base_url, "/chat/completions")
    body = dumps({"stream": stream, "max_tokens": 5})
    return await pool.request("POST", target, headers=build_headers(target, {}), body=body)


async def whole(pool: HttpPool, upstream: OpenAiUpstream) -> bytes:
    exchange = await send(pool, upstream)
    try:
        assert 200 == (await exchange.head(soon())).status
        return await exchange.read_all(soon(), 100_000)
    finally:
        exchange.close()


async def test_one_connection_serves_requests_after_each_other(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    for _ in range(3):
        assert b"tok15" in await whole(pool, openai_upstream)

    target = Target.of(openai_upstream.base_url)
    assert 1 == openai_upstream.connection_count
    assert (1, 1) == pool.counts(target)


async def test_request_that_finds_no_free_place_fails_at_once(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    openai_upstream.handler = lambda _seen: Script(hang="headers_before")
    exchanges = [await send(pool, openai_upstream) for _ in range(4)]

    with pytest.raises(UpstreamBusyError):
        await send(pool, openai_upstream)

    for exchange in exchanges:
        exchange.close()
    await eventually(lambda: openai_upstream.open_count == 0)


async def test_no_more_connections_are_kept_than_the_bound(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    exchanges = [await send(pool, openai_upstream) for _ in range(4)]
    for exchange in exchanges:
        await exchange.head(soon())
        await exchange.read_all(soon(), 100_000)

    for exchange in exchanges:
        exchange.close()

    await eventually(lambda: openai_upstream.open_count == 2)
    assert (2, 2) == pool.counts(Target.of(openai_upstream.base_url))


async def test_idle_connection_is_dropped_after_its_time(openai_upstream: OpenAiUpstream) -> None:
    async with open_http_pool(HttpLimits(idle_s=0.02)) as pool:
        await whole(pool, openai_upstream)

        await eventually(lambda: openai_upstream.open_count == 0)
        assert (0, 0) == pool.counts(Target.of(openai_upstream.base_url))


async def test_reused_connection_that_was_closed_is_replaced_once(pool: HttpPool) -> None:
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        with suppress(EOFError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            requests += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            # The second request on this connection is read and dropped: a close in the act.
            await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        target = Target.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(2):
            exchange = await pool.request("GET", target, headers=build_headers(target, {}))
            assert 200 == (await exchange.head(soon())).status
            assert b"ok" == await exchange.read_all(soon(), 10)
            exchange.close()
        pool.close()

    assert 2 == requests


async def test_new_connection_that_closes_is_not_tried_again(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        target = Target.of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        exchange = await pool.request("GET", target, headers=build_headers(target, {}))

        with pytest.raises(UpstreamClosedError) as caught:
            await exchange.head(soon())
        exchange.close()

    assert caught.value.is_untouched


async def test_reader_that_stops_stops_the_upstream(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    openai_upstream.handler = lambda _seen: Script(chunks=4_000, event_bytes=10_000)
    exchange = await send(pool, openai_upstream, stream=True)
    await exchange.head(soon())
    seen = openai_upstream.seen[0]
    sent = -1
    while sent != seen.bytes_sent:
        sent = seen.bytes_sent
        await asyncio.sleep(0.2)

    # The kernel's buffers on both sides hold the rest; 40 MB were offered.
    assert 15_000_000 > sent
    assert len(await exchange.reader()(soon())) < LIMITS.unread_bytes_max + 600_000

    total = 0
    while data := await exchange.reader()(soon()):
        total += len(data)
    exchange.close()
    assert 39_000_000 < total
    assert seen.is_complete


async def test_closing_an_open_answer_ends_the_connection_at_once(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    openai_upstream.handler = lambda _seen: Script(chunks=4, hang="stream")
    exchange = await send(pool, openai_upstream, stream=True)
    await exchange.head(soon())
    await exchange.reader()(soon())

    exchange.close()

    await eventually(lambda: openai_upstream.seen[0].is_aborted)
    await eventually(lambda: (0, 0) == pool.counts(Target.of(openai_upstream.base_url)))


async def test_finished_exchange_keeps_the_connection_though_the_last_bytes_are_missing(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    openai_upstream.handler = lambda _seen: Script(chunks=3, delay_ms=5)
    exchange = await send(pool, openai_upstream, stream=True)
    await exchange.head(soon())
    await exchange.reader()(soon())

    exchange.finish()
    exchange.close()

    await eventually(lambda: pool.counts(Target.of(openai_upstream.base_url)) == (1, 1))
    openai_upstream.handler = lambda _seen: Script()
    await whole(pool, openai_upstream)
    assert 1 == openai_upstream.connection_count


async def test_compressed_answer_is_refused(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    openai_upstream.handler = lambda _seen: Script(gzip=1)
    exchange = await send(pool, openai_upstream)
    await exchange.head(soon())

    with pytest.raises(UpstreamProtocolError):
        await exchange.read_all(soon(), 100_000)
    exchange.close()


async def test_silence_ends_at_the_deadline_of_its_phase(
    pool: HttpPool, openai_upstream: OpenAiUpstream
) -> None:
    phases = []
    scripts = iter([Script(hang="headers_before"), Script(hang="headers_after")])
    openai_upstream.handler = lambda _seen: next(scripts)

    async def read_until(deadline_s: float) -> None:
        with closing(await send(pool, openai_upstream)) as exchange:
            await exchange.head(deadline_s)
            await exchange.reader()(deadline_s)

    for _ in range(2):
        with pytest.raises(UpstreamTimeoutError) as caught:
            await read_until(asyncio.get_running_loop().time() + 0.3)
        phases.append(caught.value.phase)

    assert ["head", "body"] == phases


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid:80"])
async def test_host_that_is_not_there_is_a_connect_error(pool: HttpPool, url: str) -> None:
    with pytest.raises(UpstreamConnectError):
        await pool.request("GET", Target.of(url), headers=b"")


async def test_handshake_that_hangs_is_a_connect_error(pool: HttpPool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        target = Target.of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")

        with pytest.raises(UpstreamConnectError):
            await pool.request("GET", target, headers=b"", connect_s=0.1)

    assert (0, 0) == pool.counts(target)


async def test_closed_pool_has_no_connections_and_takes_no_requests(
    openai_upstream: OpenAiUpstream,
) -> None:
    async with open_http_pool(LIMITS) as pool:
        await whole(pool, openai_upstream)

    await eventually(lambda: openai_upstream.open_count == 0)
    with pytest.raises(UpstreamConnectError):
        await send(pool, openai_upstream)


async def test_tls_upstream_with_a_known_certificate_is_served(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    trusted = ssl.create_default_context(cafile=files[0])

    async with (
        open_openai_upstream(tls=server_context(files)) as upstream,
        open_http_pool(LIMITS, tls_context=trusted) as pool,
    ):
        for _ in range(2):
            assert b"tok15" in await whole(pool, upstream)
        assert 1 == upstream.connection_count


@pytest.mark.parametrize("fault", ["unknown", "name", "expired"])
async def test_tls_upstream_that_cannot_be_trusted_is_a_connect_error(
    tmp_path: Path, fault: str
) -> None:
    files = certificate(
        tmp_path,
        name="127.0.0.2" if fault == "name" else "127.0.0.1",
        days=-1 if fault == "expired" else 1,
    )
    trusted = ssl.create_default_context(cafile=None if fault == "unknown" else files[0])

    async with (
        open_openai_upstream(tls=server_context(files)) as upstream,
        open_http_pool(LIMITS, tls_context=trusted) as pool,
    ):
        with pytest.raises(UpstreamConnectError):
            await send(pool, upstream)
        assert [] == upstream.seen
