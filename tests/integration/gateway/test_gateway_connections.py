"""Rows R-L5 and R-B2: slow clients, too many of them, and requests of the wrong size or form."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from tests.fixtures.catalogues import chat
from tests.fixtures.gateway import OpenSite, Site, Wish, until
from tests.integration.gateway.wire import (
    RawClient,
    answer_of,
    connected,
    request_bytes,
)

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
BODY = json.dumps(chat("shape=c1-d0")).encode()


async def test_head_that_comes_slowly_is_given_up(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"head_timeout_s": 0.5}))

    async with connected(site.gateway.port) as client:
        await client.send(POST + b"X-Slow: ")
        answer = await client.answer()
        rest = await client.rest()

    assert (408, "request_timeout", b"") == (answer.status, answer.error["code"], rest)


async def test_drops_of_a_head_buy_no_more_time(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"head_timeout_s": 0.5}))

    async with connected(site.gateway.port) as client, asyncio.TaskGroup() as tasks:
        answering = tasks.create_task(client.answer())
        sent = 0
        await client.send(POST)
        while not answering.done():
            await client.send(b"X: a\r\n"[sent % 6 : sent % 6 + 1])
            sent += 1
            await asyncio.sleep(0.05)

    assert 408 == answering.result().status


async def test_second_head_on_a_connection_has_the_same_time(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"head_timeout_s": 0.5}))
    key = await site.key()

    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, BODY))
        first = await client.answer()
        await client.send(POST)
        second = await client.answer()

    assert [200, 408] == [first.status, second.status]


async def test_client_that_sends_nothing_is_closed_without_a_word(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"head_timeout_s": 0.3}))

    async with connected(site.gateway.port) as client:
        said = await client.rest()

    assert b"" == said
    assert [] == site.logged()


async def test_body_answer_and_rest_may_take_longer_than_a_head(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"head_timeout_s": 0.5}))
    key = await site.key()
    body = json.dumps(chat("fake=chunks:20;delay_ms:40")).encode()
    whole = request_bytes(key.secret, body)

    async with connected(site.gateway.port) as client:
        await client.send(whole[:-7])
        await asyncio.sleep(0.7)
        await client.send(whole[-7:])
        slow = await client.answer()
        await asyncio.sleep(0.7)
        await client.send(request_bytes(key.secret, BODY))
        after_rest = await client.answer()

    assert [200, 200] == [slow.status, after_rest.status]


async def test_many_slow_clients_are_closed_and_hinder_nobody(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"head_timeout_s": 1.0, "body_timeout_s": 1.0}))
    key = await site.key()
    slow_body = request_bytes(key.secret, BODY)[:-5]

    async with AsyncExitStack() as stack:
        clients: list[RawClient] = []
        for number in range(200):
            client = await stack.enter_async_context(connected(site.gateway.port))
            await client.send(slow_body if number % 2 else POST + b"X: ")
            clients.append(client)
        beside = await answer_of(site.post(key, chat()))
        answers = [await client.answer() for client in clients]
        ends = [await client.rest() for client in clients[::2]]

    assert 200 == beside.status
    assert {408} == {answer.status for answer in answers}
    assert {b""} == set(ends)
    await until(lambda: site.gateway.deps.running.count == 0)


async def test_connection_beyond_the_bound_is_refused_and_room_is_made_again(
    open_site: OpenSite,
) -> None:
    site = await open_site(Wish(gateway={"connections_max": 2}))
    key = await site.key()

    async with connected(site.gateway.port) as one, connected(site.gateway.port) as two:
        for client in (one, two):
            await client.send(request_bytes(key.secret, BODY))
            assert 200 == (await client.answer()).status
        async with connected(site.gateway.port) as third:
            full = await third.answer()
            rest = await third.rest()
        await one.send(request_bytes(key.secret, BODY))
        inside = await one.answer()

    assert (503, "overloaded", b"") == (full.status, full.error["code"], rest)
    assert ("1", "close") == (full.headers["Retry-After"], full.headers["Connection"])
    assert 200 == inside.status

    async def is_open() -> bool:
        async with connected(site.gateway.port) as client:
            await client.send(request_bytes(key.secret, BODY))
            return (await client.answer()).status == 200

    await until(is_open)
    lines = [line for line in site.logged() if line["status"] == 503]
    assert {"OVERLOADED"} == {line["error"] for line in lines}


async def test_body_without_a_length_is_refused(site: Site) -> None:
    key = await site.key()
    head = f"Authorization: Bearer {key.secret}\r\nContent-Type: application/json\r\n".encode()

    async with connected(site.gateway.port) as client:
        await client.send(POST + head + b"\r\n")
        unsaid = await client.answer()
        await client.send(POST + head + b"Content-Length: 0\r\n\r\n")
        empty = await client.answer()

    assert (411, "length_required") == (unsaid.status, unsaid.error["code"])
    assert (400, "invalid_json") == (empty.status, empty.error["code"])


@pytest.mark.parametrize("more", [b"", b"Expect: 100-continue\r\n"], ids=["at once", "asked"])
async def test_body_that_is_announced_too_long_is_refused_before_it_comes(
    site: Site, more: bytes
) -> None:
    key = await site.key()
    head = (
        f"Authorization: Bearer {key.secret}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {10**12}\r\n"
    )

    async with connected(site.gateway.port) as client:
        await client.send(POST + head.encode() + more + b"\r\n")
        answer = await client.answer()

    assert (413, "payload_too_large") == (answer.status, answer.error["code"])
    assert [] == site.main.seen


SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: smuggled\r\n\r\n"
AMBIGUOUS: dict[str, bytes] = {
    "folded header": b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "folded framing": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"Content-Length: 0\n\n" + SMUGGLED,
    "bare return": b"X: a\rContent-Length: 50\r\n\r\n",
    "space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "length with a sign": b"Content-Length: +5\r\n\r\nhello",
    "length in a list": b"Content-Length: 5, 5\r\n\r\nhello",
    "length in hexadecimal": b"Content-Length: 0x5\r\n\r\nhello",
    "length beyond all numbers": b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
    "two encodings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "encoding nobody knows": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunk size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk ended by a bare line feed": b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    "endless chunk size": b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 20_000,
}


async def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_read(site: Site) -> None:
    key = await site.key()
    head = POST + f"Authorization: Bearer {key.secret}\r\n".encode()
    head += b"Content-Type: application/json\r\n"
    found = {}

    for name, data in AMBIGUOUS.items():
        async with connected(site.gateway.port) as client:
            await client.send(head + data + SMUGGLED)
            answer = await client.answer()
            found[name] = (answer.status, await client.rest())

    assert dict.fromkeys(AMBIGUOUS, (400, b"")) == found
    assert [] == site.main.seen
    assert 0 == sum(line["status"] == 200 for line in site.logged())


async def test_requests_that_are_sent_ahead_are_answered_in_order(site: Site) -> None:
    key = await site.key()
    bodies = [json.dumps(chat(f"shape=c{count}-d0")).encode() for count in (3, 1, 2)]

    async with connected(site.gateway.port) as client:
        await client.send(b"".join(request_bytes(key.secret, body) for body in bodies))
        answers = [await client.answer() for _ in bodies]

    assert [200] * 3 == [answer.status for answer in answers]
    counts = [answer.json["usage"]["completion_tokens"] for answer in answers]
    assert [3, 1, 2] == counts


@pytest.mark.parametrize(("count", "status"), [(100, 200), (200, 431)])
async def test_number_of_headers_is_bounded(site: Site, count: int, status: int) -> None:
    key = await site.key()
    more = "".join(f"X-{number}: a\r\n" for number in range(count))

    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, BODY, more=more))
        answer = await client.answer()

    assert status == answer.status


async def test_header_of_64_kilobytes_is_refused(site: Site) -> None:
    key = await site.key()

    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, BODY, more=f"X: {'a' * 65_536}\r\n"))
        answer = await client.answer()

    assert (431, "headers_too_large") == (answer.status, answer.error["code"])
