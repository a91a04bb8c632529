"""Good answers over a real socket: bodies, headers, identifiers, dialects, many at once."""

import asyncio
import json
from typing import Any

import pytest

from kit.ids import name_id
from tests.fixtures.catalogues import SMALL, chat, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import (
    UUID7,
    Answer,
    answer_of,
    connected,
    events_of,
    request_bytes,
    text_of,
    tokens,
)

ROUTE_HEADERS = {
    "X-Backend": "fake-openai",
    "X-Deployment-Id": name_id("deployment", "small-main"),
    "X-Model-Used": "upstream-small",
    "X-Route-Model": "small",
    "X-Turnpike-Attempts": "1",
    "X-RateLimit-Limit": "600",
    "X-RateLimit-Remaining": "599",
    "X-RateLimit-Tier": "default",
}


def shown(answer: Answer, names: Any) -> dict[str, str | None]:
    return {name: answer.headers.get(name) for name in names}


async def test_plain_answer_has_every_header_and_the_records_id(site: Site) -> None:
    key = await site.key()

    answer = await answer_of(site.post(key, chat(model="small")))

    (record,) = await site.settled(key, 1)
    assert 200 == answer.status
    assert ROUTE_HEADERS == shown(answer, ROUTE_HEADERS)
    assert "application/json; charset=utf-8" == answer.headers["Content-Type"]
    assert UUID7.fullmatch(record.request_id)
    assert record.request_id == answer.headers["X-Request-Id"]
    assert f"chatcmpl-{record.request_id}" == answer.json["id"]
    assert SMALL == answer.json["model"]
    assert tokens(16) == answer.json["choices"][0]["message"]["content"]
    assert 28 == answer.json["usage"]["total_tokens"]
    assert price_nusd(12, 16) == record.charge_nusd
    assert "0.0000114" == answer.headers["X-Turnpike-Cost"]


async def test_stream_has_every_header_and_the_records_id(site: Site) -> None:
    key = await site.key()

    answer = await answer_of(site.post(key, chat(model="small", stream=True)))

    events = events_of(answer.body)
    (record,) = await site.settled(key, 1)
    assert ROUTE_HEADERS == shown(answer, ROUTE_HEADERS)
    assert "text/event-stream; charset=utf-8" == answer.headers["Content-Type"]
    assert {"no-cache", "no"} == set(shown(answer, ("Cache-Control", "X-Accel-Buffering")).values())
    assert "Content-Encoding" not in answer.headers
    assert record.request_id == answer.headers["X-Request-Id"]
    assert tokens(16) == text_of(events)
    assert "[DONE]" == events[-1]
    heads = {(event["id"], event["created"], event["model"]) for event in events[:-1]}
    assert {f"chatcmpl-{record.request_id}"} == {head[0] for head in heads}
    assert 1 == len(heads)
    assert price_nusd(12, 16) == record.charge_nusd


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_clients_own_request_id_is_echoed_and_not_used(
    site: Site, is_streaming: bool
) -> None:
    key = await site.key()
    call = site.post(key, chat(stream=is_streaming), **{"X-Request-Id": "mine-1"})

    answer = await answer_of(call)

    assert "mine-1" == answer.headers.get("X-Client-Request-Id")
    assert UUID7.fullmatch(answer.headers["X-Request-Id"])


async def test_clients_own_request_id_is_echoed_on_errors(site: Site) -> None:
    nobody = Key("", "", "sk-tp-none")

    answer = await answer_of(site.post(nobody, chat(), **{"X-Request-Id": "mine-2"}))

    assert 401 == answer.status
    assert "mine-2" == answer.headers["X-Client-Request-Id"]


@pytest.mark.parametrize("odd", [b"\xff\xfe", b"caf\xc3\xa9", b"x" * 4000, b"a\tb"])
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_odd_client_request_id_never_breaks_an_answer(
    open_site: OpenSite, odd: bytes, is_streaming: bool
) -> None:
    site = await open_site()
    key = await site.key()
    body = json.dumps(chat(stream=is_streaming)).encode()

    async with connected(site.gateway.port) as client:
        whole = request_bytes(key.secret, body, more="Connection: close\r\nX-Request-Id: ODD\r\n")
        await client.send(whole.replace(b"ODD", odd))
        data = await client.rest()

    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"chatcmpl-" in data
    assert (b"[DONE]" in data) == is_streaming
    assert b"X-Client-Request-Id: x" + b"x" * 200 not in data


async def test_usage_asked_for_comes_in_a_chunk_of_its_own(site: Site) -> None:
    key = await site.key()
    body = chat(stream=True, stream_options={"include_usage": True})

    events = events_of((await answer_of(site.post(key, body))).body)

    *chunks, last, _done = events
    assert [] == last["choices"]
    assert 28 == last["usage"]["total_tokens"]
    assert {None} == {chunk["usage"] for chunk in chunks}


DIALECTS: dict[str, tuple[str, bool]] = {
    "/v1": ("chatcmpl-", False),
    "/api/v1": ("chatcmpl-", False),
    "/vram/v1": ("chatcmpl-", True),
    "/bud/v1": ("", False),
    "/runinfra/v1": ("chatcmpl-", False),
}


async def test_prefix_chooses_the_dialect(site: Site) -> None:
    key = await site.key()

    for prefix, (id_head, is_streaming) in DIALECTS.items():
        answer = await answer_of(site.post(key, chat(), prefix=prefix))

        is_stream = answer.headers["Content-Type"].startswith("text/event-stream")
        first = events_of(answer.body)[0] if is_stream else answer.json
        assert is_streaming == is_stream
        assert id_head + answer.headers["X-Request-Id"] == first["id"]


async def test_dialect_pinned_on_the_key_wins_over_the_path(site: Site) -> None:
    key = await site.key(dialect="runinfra")

    answer = await answer_of(site.post(key, chat(), prefix="/vram/v1"))

    assert 200 == answer.status
    assert 512 == site.main.seen[0].body["max_tokens"]
    assert 1.0 == site.main.seen[0].body["temperature"]
    assert "chat.completion" == answer.json["object"]


async def test_upstream_gets_the_bound_and_no_duplicate_field(site: Site) -> None:
    key = await site.key()
    twice = b'{"max_tokens":9000,"max_tokens":7,"model":"acme/small","messages":[%b]}'
    body = twice % b'{"role":"user","content":"hi"}'

    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, body))
        answer = await client.answer()

    assert 200 == answer.status
    assert 7 == site.main.seen[0].body["max_tokens"]
    assert 1 == site.main.seen[0].raw.count(b"max_tokens")
    assert "upstream-small" == site.main.seen[0].body["model"]


async def test_one_connection_serves_many_requests(site: Site) -> None:
    key = await site.key()
    body = b'{"model":"acme/small","messages":[{"role":"user","content":"hi"}]}'

    async with connected(site.gateway.port) as client:
        answers = []
        for _ in range(5):
            await client.send(request_bytes(key.secret, body))
            answers.append(await client.answer())

    assert {200} == {answer.status for answer in answers}
    assert 5 == len({answer.headers["X-Request-Id"] for answer in answers})


async def test_requests_sent_ahead_are_answered_in_order(site: Site) -> None:
    key = await site.key()
    body = b'{"model":"acme/small","messages":[{"role":"user","content":"shape=c%d-d1"}]}'

    async with connected(site.gateway.port) as client:
        await client.send(b"".join(request_bytes(key.secret, body % n) for n in (9, 1, 4)))
        answers = [await client.answer() for _ in range(3)]

    texts = [answer.json["choices"][0]["message"]["content"] for answer in answers]
    assert [tokens(9), tokens(1), tokens(4)] == texts


@pytest.mark.timeout(120)
async def test_two_hundred_streams_at_once_keep_their_order(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"requests_max": 200}))
    key = await site.key(requests_per_minute=0, tokens_per_minute=0)
    body = chat("shape=c32-d2 prompt=7", stream=True, max_tokens=64)

    async def one() -> tuple[str, str]:
        answer = await answer_of(site.post(key, body))
        return answer.headers["X-Request-Id"], text_of(events_of(answer.body))

    found = await asyncio.gather(*(one() for _ in range(200)))

    records = await site.settled(key, 200)
    assert {tokens(32)} == {text for _, text in found}
    assert {request_id for request_id, _ in found} == {r.request_id for r in records}
    assert {price_nusd(7, 32)} == {record.charge_nusd for record in records}


async def test_head_and_options_are_answered_without_work(site: Site) -> None:
    key = await site.key()
    url = f"{site.url}/v1"

    head = await answer_of(site.http.head(f"{url}/models", headers=key.headers))
    head_chat = await answer_of(site.http.head(f"{url}/chat/completions", headers=key.headers))
    options = await answer_of(site.http.options(f"{url}/chat/completions"))

    assert (200, b"") == (head.status, head.body)
    assert (405, b"") == (head_chat.status, head_chat.body)
    assert (405, "POST") == (options.status, options.headers["Allow"])
    assert "method_not_allowed" == options.error["code"]
    assert [] == site.main.seen


async def test_probes_and_metrics_answer_without_a_key(site: Site) -> None:
    live = await answer_of(site.http.get(f"{site.url}/livez"))
    ready = await answer_of(site.http.get(f"{site.url}/readyz"))
    metrics = await answer_of(site.http.get(f"{site.url}/metrics"))

    assert [200, 200, 200] == [live.status, ready.status, metrics.status]
    assert {"status": "ready", "missing": []} == ready.json
    assert b"turnpike_gateway_requests_total" in metrics.body
