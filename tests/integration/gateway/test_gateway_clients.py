"""Clients that leave, do not read or wait long: bounded memory, prompt ends, honest bills."""

import asyncio
import json

from tests.fakes.openai_script import Script
from tests.fixtures.catalogues import chat, price_nusd
from tests.fixtures.gateway import OpenSite, Wish, until
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
from turnpike.metering.v1 import metering_pb2

MIB = 1024**2
STALLED_BYTES_MAX = 10 * MIB  # mostly in the kernel, between upstream and router
CHUNKS = 2000
CHUNK_BYTES = 16 * 1024


def priced(record: metering_pb2.UsageRecord) -> int:
    usage = record.usage
    return price_nusd(usage.prompt_token_count, usage.completion_token_count)


async def test_client_that_never_reads_costs_bounded_memory_and_is_cut(
    open_site: OpenSite,
) -> None:
    site = await open_site(Wish(gateway={"write_timeout_s": 1.0}))
    key, other = await site.key(), await site.key()
    prompt = f"fake=chunks:{CHUNKS};event_bytes:{CHUNK_BYTES}"
    body = json.dumps(chat(prompt, stream=True, max_tokens=CHUNKS)).encode()

    async with connected(site.gateway.port, ahead_bytes=4096) as silent:
        await silent.send(request_bytes(key.secret, body))
        sent = await stalled(site.main)
        beside = await answer_of(site.post(other, chat("shape=c8-d1", stream=True)))
        await until(lambda: site.main.seen[0].is_over)
        (record,) = await site.settled(key, 1)

    assert sent <= STALLED_BYTES_MAX
    assert tokens(8) == text_of(events_of(beside.body))
    assert site.main.seen[0].is_aborted
    assert site.main.seen[0].bytes_sent <= STALLED_BYTES_MAX
    assert "client_closed" == record.outcome
    assert 0 < record.usage.completion_token_count <= site.main.seen[0].chunks_sent
    assert priced(record) == record.charge_nusd
    await until(lambda: 499 in {line["status"] for line in site.logged()})
    assert 0 == site.gateway.deps.running.count


async def test_many_clients_that_never_read_do_not_hinder_others(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"write_timeout_s": 1.0}))
    key = await site.key()
    prompt = f"fake=chunks:300;event_bytes:{CHUNK_BYTES}"
    body = json.dumps(chat(prompt, stream=True, max_tokens=CHUNKS)).encode()

    async def silent() -> None:
        async with connected(site.gateway.port, ahead_bytes=4096) as client:
            await client.send(request_bytes(key.secret, body))
            await until(lambda: client.reader.at_eof() or cut.is_set())

    cut = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(silent())
        await until(lambda: len(site.main.seen) == 8)
        beside = await answer_of(site.post(key, chat("shape=c8-d1", stream=True)))
        await until(lambda: all(seen.is_over for seen in site.main.seen))
        cut.set()

    assert tokens(8) == text_of(events_of(beside.body))
    assert 9 == len(await site.settled(key, 9))


async def test_slow_client_gets_everything(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"write_timeout_s": 5.0}))
    key = await site.key()
    prompt = "fake=chunks:300;event_bytes:8192"
    body = json.dumps(chat(prompt, stream=True, max_tokens=300)).encode()

    async with connected(site.gateway.port, ahead_bytes=8192) as client:
        await client.send(request_bytes(key.secret, body, more="Connection: close\r\n"))
        data = b""
        while part := await client.reader.read(16 * 1024):
            data += part
            await asyncio.sleep(0.001)

    (record,) = await site.settled(key, 1)
    assert data.endswith(b"0\r\n\r\n")
    assert 300 == data.count(b'"content":"tok')
    assert b"data: [DONE]" in data
    assert ("completed", price_nusd(12, 300)) == (record.outcome, record.charge_nusd)


async def test_hundred_clients_that_leave_at_once_are_all_billed_as_delivered(
    open_site: OpenSite,
) -> None:
    site = await open_site()
    key = await site.key(requests_per_minute=0, tokens_per_minute=0)
    asked = chat("fake=chunks:200;delay_ms:20;usage:every", stream=True, max_tokens=2000)

    async def one(count: int) -> None:
        async with site.post(key, asked) as response:
            await read_chunks(response, count)
            response.close()

    await asyncio.gather(*(one(1 + number % 9) for number in range(100)))
    await until(lambda: all(seen.is_over for seen in site.main.seen))

    records = await site.settled(key, 100)
    assert {"client_closed"} == {record.outcome for record in records}
    assert [priced(record) for record in records] == [record.charge_nusd for record in records]
    sent = sum(seen.chunks_sent for seen in site.main.seen)
    assert 0 < sum(record.usage.completion_token_count for record in records) <= sent
    assert 0 == site.gateway.deps.running.count


async def test_silence_is_filled_with_comments(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"keep_alive_s": 0.05}))
    key = await site.key()

    async with site.post(key, chat("shape=c2-d1200", stream=True)) as response:
        data = await response.read()

    assert b"\n\n: keep-alive\n\n" in data
    assert tokens(2) == text_of(events_of(data))
    assert "[DONE]" == events_of(data)[-1]


async def test_headers_are_not_held_for_ever(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"header_hold_s": 0.05, "keep_alive_s": 0.05}))
    key = await site.key()
    asked = chat("fake=hang:headers_before", stream=True, timeout_ms=3500)

    async with site.post(key, asked) as response:
        status, backend = response.status, response.headers["X-Backend"]
        data = await response.read()

    (record,) = await site.settled(key, 1)
    error = events_of(data)[-1]["error"]
    assert (200, "pending") == (status, backend)
    assert ("timeout", "server_error") == (error["code"], error["type"])
    assert record.request_id == error["request_id"]
    assert b"[DONE]" not in data
    assert b": keep-alive\n\n" in data
    assert ("refused", 0) == (record.outcome, record.charge_nusd)


async def test_stream_that_starts_late_goes_on_after_the_hold(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"header_hold_s": 0.05}, router={"attempt_min_s": 1.5}))
    key = await site.key()
    asked = chat("fake=hang:headers_before", model="acme/twice", stream=True, timeout_ms=4000)
    site.spare.handler = lambda _seen: Script(chunks=3)

    async with site.post(key, asked) as response:
        backend = response.headers["X-Backend"]
        events = events_of(await response.read())

    (record,) = await site.settled(key, 1)
    assert "pending" == backend
    assert tokens(3) == text_of(events)
    assert f"chatcmpl-{record.request_id}" == events[0]["id"]
    assert ("completed", 2) == (record.outcome, record.attempt_count)
