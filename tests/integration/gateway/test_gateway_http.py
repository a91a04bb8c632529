"""Requests that are no good HTTP, and connections at the end of the gateway's life."""

import asyncio
import json

import pytest
import structlog

from tests.fixtures.catalogues import chat
from tests.fixtures.gateway import OpenSite, Site
from tests.integration.gateway.wire import (
    UUID7,
    answer_of,
    connected,
    events_of,
    read_chunks,
    request_bytes,
    text_of,
    tokens,
)

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
CANARY = b"sk-tp-canary-in-a-broken-header"
MALFORMED: dict[str, tuple[int, bytes]] = {
    "no request": (400, b"hello\r\n\r\n"),
    "unknown method": (400, b"BREW /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"),
    "tls": (400, bytes.fromhex("16030100a1010000") + b"\0" * 40),
    "http/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "unknown version": (400, b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"),
    "no host": (400, b"GET /v1/models HTTP/1.1\r\n\r\n"),
    "bad url": (400, b"GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "header without colon": (400, POST + b"Authorization Bearer " + CANARY + b"\r\n\r\n"),
    "zero byte in a header": (400, POST + b"X: a\0b\r\n\r\n"),
    "two lengths": (400, POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "two framings": (
        400,
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "negative length": (400, POST + b"Content-Length: -5\r\n\r\n"),
    "bad chunk size": (400, POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "long header": (431, POST + b"X: " + b"a" * 20_000 + b"\r\n\r\n"),
    "long url": (431, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    "many headers": (431, POST + b"X: a\r\n" * 1000 + b"\r\n"),
}


async def test_malformed_request_is_refused_in_the_usual_form(site: Site) -> None:
    found = {}
    with structlog.testing.capture_logs() as logs:
        for name, (_, data) in MALFORMED.items():
            async with connected(site.gateway.port) as client:
                await client.send(data)
                answer = await client.answer()
                found[name] = (answer.status, answer.error["type"])
                assert b"" == await client.rest()
                assert CANARY not in answer.body

    assert {n: (s, "invalid_request_error") for n, (s, _) in MALFORMED.items()} == found
    assert [] == [line for line in logs if line["log_level"] in ("error", "critical")]
    lines = site.logged()
    assert len(MALFORMED) == len(lines)
    assert {"BAD_REQUEST", "HEADERS_TOO_LARGE"} == {line["error"] for line in lines}
    assert CANARY.decode() not in str(lines)


async def test_broken_body_encoding_is_refused(site: Site) -> None:
    key = await site.key()
    zipped = request_bytes(key.secret, b"hello", more="Content-Encoding: gzip\r\n")

    async with connected(site.gateway.port) as client:
        await client.send(zipped)
        answer = await client.answer()

    assert (400, "bad_request") == (answer.status, answer.error["code"])


async def test_client_that_leaves_during_its_upload_is_no_fault_of_ours(site: Site) -> None:
    key = await site.key()
    whole = request_bytes(key.secret, json.dumps(chat("x" * 100_000)).encode())

    with structlog.testing.capture_logs() as logs:
        for kept in (10, 300, 50_000):
            async with connected(site.gateway.port) as client:
                await client.send(whole[:kept])
        async with connected(site.gateway.port) as client:
            await client.send(whole)
            answer = await client.answer()

    assert 200 == answer.status
    assert [] == [line for line in logs if line["log_level"] in ("error", "critical")]
    assert {200, 499} >= {line["status"] for line in site.logged()}
    assert 1 == len(await site.settled(key, 1))


async def test_request_in_tiny_pieces_is_understood(site: Site) -> None:
    key = await site.key()
    whole = request_bytes(key.secret, json.dumps(chat("shape=c2-d0")).encode())

    async with connected(site.gateway.port) as client:
        for at in range(0, len(whole), 7):
            await client.send(whole[at : at + 7])
            await asyncio.sleep(0)
        answer = await client.answer()

    assert 200 == answer.status
    assert UUID7.fullmatch(answer.headers["X-Request-Id"])


async def test_ending_gateway_finishes_what_runs_and_takes_nothing_new(
    open_site: OpenSite,
) -> None:
    site = await open_site()
    key = await site.key()
    idle_body = json.dumps(chat("shape=c1-d0")).encode()
    async with connected(site.gateway.port) as idle, asyncio.TaskGroup() as tasks:
        await idle.send(request_bytes(key.secret, idle_body))
        assert 200 == (await idle.answer()).status
        async with site.post(key, chat("shape=c60-d20", stream=True)) as response:
            first = await read_chunks(response, 2)

            leaving = tasks.create_task(site.leave())
            closed = await idle.rest()
            is_running = not site.main.seen[1].is_over
            rest = await response.read()
        await leaving

    assert (b"", True) == (closed, is_running)
    assert tokens(60) == text_of(events_of(first + rest))
    with pytest.raises(OSError, match="Connect"):
        await answer_of(site.post(key, chat()))
