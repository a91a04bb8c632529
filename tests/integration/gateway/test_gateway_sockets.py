"""The gateway with a socket between it and the rooms: clients see nothing different."""

import asyncio
import json

import pytest

from tests.fixtures.catalogues import chat, price_nusd
from tests.fixtures.gateway import OpenSite, Site, Wish, until
from tests.integration.gateway.wire import (
    answer_of,
    connected,
    events_of,
    read_chunks,
    request_bytes,
    stalled,
    text_of,
    tokens,
)


@pytest.fixture
async def site(open_site: OpenSite) -> Site:
    return await open_site(Wish(is_split=True))


async def test_plain_and_streamed_answers_are_charged(site: Site) -> None:
    key = await site.key()

    plain = await answer_of(site.post(key, chat()))
    streamed = await answer_of(site.post(key, chat(stream=True)))

    events = events_of(streamed.body)
    records = await site.settled(key, 2)
    assert tokens(16) == plain.json["choices"][0]["message"]["content"] == text_of(events)
    assert "[DONE]" == events[-1]
    assert {plain.headers["X-Request-Id"], streamed.headers["X-Request-Id"]} == {
        record.request_id for record in records
    }
    assert {price_nusd(12, 16)} == {record.charge_nusd for record in records}


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("status:500", 502, "all_providers_failed"),
        ("status:400", 400, "invalid_value"),
        ("hang:headers_before", 504, "timeout"),
    ],
)
async def test_failure_before_content_keeps_its_status_and_record(
    site: Site, script: str, status: int, code: str, is_streaming: bool
) -> None:
    key = await site.key()
    asked = chat(f"fake={script}", stream=is_streaming, timeout_ms=300)

    answer = await answer_of(site.post(key, asked))

    (record,) = await site.settled(key, 1)
    assert (status, code) == (answer.status, answer.error["code"])
    assert record.request_id == answer.error["request_id"]
    assert 0 == record.charge_nusd


async def test_failure_after_content_is_one_event(site: Site) -> None:
    key = await site.key()
    asked = chat("fake=chunks:40;delay_ms:2;cut_after:9;usage:every", stream=True)

    events = events_of((await answer_of(site.post(key, asked))).body)

    (record,) = await site.settled(key, 1)
    assert "upstream_incomplete" == events[-1]["error"]["code"]
    assert tokens(9) == text_of(events[:-1])
    assert ("upstream_failed", price_nusd(12, 9)) == (record.outcome, record.charge_nusd)


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_client_that_leaves_before_content_cancels_the_upstream(
    site: Site, is_streaming: bool
) -> None:
    key = await site.key()
    asked = chat("fake=hang:headers_before", stream=is_streaming)

    async with asyncio.TaskGroup() as tasks:
        left = tasks.create_task(answer_of(site.post(key, asked)))
        await until(lambda: len(site.main.seen) == 1)
        left.cancel()
    await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    assert ("client_closed", 0) == (record.outcome, record.charge_nusd)


async def test_client_that_leaves_a_stream_cancels_the_upstream_and_pays_for_its_part(
    site: Site,
) -> None:
    key = await site.key()
    asked = chat("fake=chunks:2000;delay_ms:5;usage:every", stream=True, max_tokens=2000)

    async with site.post(key, asked) as response:
        await read_chunks(response, 5)
        response.close()
    await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    delivered = record.usage.completion_token_count
    assert "client_closed" == record.outcome
    assert 4 <= delivered <= site.main.seen[0].chunks_sent < 1000
    assert price_nusd(12, delivered) == record.charge_nusd


async def test_client_that_never_reads_stalls_the_upstream_and_is_cut(
    open_site: OpenSite,
) -> None:
    site = await open_site(Wish(is_split=True, gateway={"write_timeout_s": 1.0}))
    key = await site.key()
    asked = chat("fake=chunks:2000;event_bytes:16384", stream=True, max_tokens=2000)

    async with connected(site.gateway.port, ahead_bytes=4096) as silent:
        await silent.send(request_bytes(key.secret, json.dumps(asked).encode()))
        sent = await stalled(site.main)
        await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    assert sent <= 16 * 1024**2
    assert site.main.seen[0].is_aborted
    assert 0 < record.usage.completion_token_count < 1500


async def test_revoked_key_ends_its_stream(site: Site) -> None:
    key = await site.key()
    asked = chat("fake=chunks:3000;delay_ms:5", stream=True, max_tokens=3000)

    async with site.post(key, asked) as response:
        first = await read_chunks(response, 3)
        await site.revoke(key)
        events = events_of(first + await response.read())
    await until(lambda: site.main.seen[0].is_over)

    assert "key_revoked" == events[-1]["error"]["code"]
    assert 1 == len(await site.settled(key, 1))


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("turnpike.auth.v1.AuthService", "auth_unavailable"),
        ("turnpike.payment.v1.PaymentService", "ledger_unavailable"),
        ("turnpike.router.v1.RouterService", "unavailable"),
    ],
)
async def test_room_that_is_away_is_no_fault_of_the_caller(
    site: Site, service: str, code: str
) -> None:
    key = await site.key()
    site.board.broken.add(service)

    away = await answer_of(site.post(key, chat()))
    site.board.broken.clear()
    back = await answer_of(site.post(key, chat()))

    assert (503, code) == (away.status, away.error["code"])
    assert 200 == back.status
    assert 1 == len(await site.settled(key, 1))


async def test_fifty_streams_at_once_keep_their_order(site: Site) -> None:
    key = await site.key()

    answers = await asyncio.gather(
        *(answer_of(site.post(key, chat("shape=c32-d2", stream=True))) for _ in range(50))
    )

    assert {tokens(32)} == {text_of(events_of(answer.body)) for answer in answers}
    assert 50 == len(await site.settled(key, 50))
