"""How answers are framed, read by the standard library's client and byte by byte."""

import asyncio
import http.client
import json
from typing import Any

import pytest

from tests.fixtures.catalogues import chat
from tests.fixtures.gateway import Key, Site
from tests.integration.gateway.wire import connected, events_of, request_bytes, text_of, tokens


def ask(site: Site, key: Key, bodies: list[dict[str, Any]]) -> list[tuple[int, bytes]]:
    """Send requests over one connection of `http.client`, which nobody here wrote."""
    connection = http.client.HTTPConnection("127.0.0.1", site.gateway.port, timeout=15)
    headers = {"Authorization": f"Bearer {key.secret}", "Content-Type": "application/json"}
    found = []
    try:
        for body in bodies:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            found.append((response.status, response.read()))
    finally:
        connection.close()
    return found


async def test_whole_and_streamed_answers_alternate_on_one_connection(site: Site) -> None:
    key = await site.key()
    bodies = [chat("shape=c3-d0", stream=number % 2 == 1) for number in range(4)]

    answers = await asyncio.to_thread(ask, site, key, bodies)

    assert [200] * 4 == [status for status, _ in answers]
    for status, body in answers[1::2]:
        assert (200, tokens(3)) == (status, text_of(events_of(body)))
    assert all("choices" in json.loads(body) for _, body in answers[::2])


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_http_1_0_client_gets_an_answer_without_chunks(
    site: Site, *, is_streaming: bool
) -> None:
    key = await site.key()
    body = json.dumps(chat("shape=c3-d0", stream=is_streaming)).encode()
    whole = request_bytes(key.secret, body).replace(b"HTTP/1.1", b"HTTP/1.0")

    async with connected(site.gateway.port) as client:
        await client.send(whole)
        data = await client.rest()

    head, _, answer = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    if is_streaming:
        assert tokens(3) == text_of(events_of(answer))
    else:
        assert "choices" in json.loads(answer)


async def test_http_1_0_client_may_keep_its_connection_for_whole_answers(site: Site) -> None:
    key = await site.key()
    body = json.dumps(chat("shape=c1-d0")).encode()
    whole = request_bytes(key.secret, body, more="Connection: keep-alive\r\n").replace(
        b"HTTP/1.1", b"HTTP/1.0"
    )

    async with connected(site.gateway.port) as client:
        for _ in range(2):
            await client.send(whole)
            answer = await client.answer()
            assert (200, "keep-alive") == (answer.status, answer.headers["Connection"])


async def test_client_that_waits_to_be_asked_for_its_body_is_asked(site: Site) -> None:
    key = await site.key()
    body = json.dumps(chat("shape=c1-d0")).encode()
    whole = request_bytes(key.secret, body, more="Expect: 100-continue\r\n")
    head = whole[: -len(body)]

    async with connected(site.gateway.port) as client:
        await client.send(head)
        interim = await client.reader.readuntil(b"\r\n\r\n")
        await client.send(body)
        answer = await client.answer()

    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert 200 == answer.status


async def test_expectation_that_nobody_knows_is_refused_in_the_usual_form(site: Site) -> None:
    key = await site.key()
    whole = request_bytes(key.secret, b"{}", more="Expect: a-miracle\r\n")

    async with connected(site.gateway.port) as client:
        await client.send(whole)
        answer = await client.answer()

    assert (400, "bad_request") == (answer.status, answer.error["code"])


async def test_head_of_a_page_has_its_headers_and_no_body(site: Site) -> None:
    async with connected(site.gateway.port) as client:
        await client.send(b"HEAD /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        data = await client.rest()

    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"" == body


async def test_no_answer_tells_versions_of_what_it_is_made_with(site: Site) -> None:
    key = await site.key()
    body = json.dumps(chat("shape=c1-d0")).encode()
    requests = [
        request_bytes(key.secret, body),
        request_bytes("sk-tp-none", body),
        b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        b"no request\r\n\r\n",
    ]

    for request in requests:
        async with connected(site.gateway.port) as client:
            await client.send(request)
            answer = await client.answer()
            assert answer.headers.get("Server", "turnpike") == "turnpike"


async def test_answer_says_when_it_was_made_and_how_long_it_is(site: Site) -> None:
    key = await site.key()
    body = json.dumps(chat("shape=c1-d0")).encode()

    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, body))
        answer = await client.answer()

    assert len(answer.body) == int(answer.headers["Content-Length"])
    assert answer.headers["Date"].endswith(" GMT")
    assert ["Date"] == [name for name in answer.headers if name.lower() == "date"]
