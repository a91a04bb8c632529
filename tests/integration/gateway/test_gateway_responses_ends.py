"""Streamed responses that do not end well: what the client is told, and what it pays."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.fakes.openai_script import Script, says
from tests.fixtures.catalogues import SMALL, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.responses import Follower, response_events
from tests.integration.gateway.responses_wire import post, read_deltas
from tests.integration.gateway.wire import UUID7, answer_of, tokens


@pytest.fixture
async def key(site: Site) -> Key:
    return await site.key(requests_per_minute=0, tokens_per_minute=0)


@pytest.fixture
async def client(site: Site, key: Key) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{site.url}/v1", api_key=key.secret, max_retries=0
    ) as opened:
        yield opened


async def test_broken_stream_is_told_and_raised(
    site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    prompt = "fake=chunks:16;cut_after:5;usage:every"
    seen: list[Any] = []

    async def read() -> None:
        stream = await client.responses.create(model=SMALL, input=prompt, stream=True)
        async for event in stream:
            seen.append(event)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(openai.APIError) as caught:
        await read()

    (record,) = await site.settled(key, 1)
    assert "upstream_incomplete" == caught.value.code
    assert "response.failed" == seen[-1].type
    failed = seen[-1].response
    assert ("failed", "server_error") == (failed.status, failed.error and failed.error.code)
    assert tokens(5) == failed.output_text
    assert ("upstream_failed", price_nusd(12, 5)) == (record.outcome, record.charge_nusd)


@pytest.mark.parametrize("junk", ["router", "codec"])
async def test_junk_in_an_upstreams_stream_ends_it_in_good_order(
    site: Site, key: Key, junk: str
) -> None:
    """The router finds broken events; what is merely no delta is found by who reads deltas."""
    said = [{"content": f"tok{index} "} for index in range(4)]
    odd = {"router": Script(chunks=4, body="junk_late", delay_ms=5),
           "codec": says(*said, "oops", *said, delay_ms=5, usage="every")}  # fmt: skip
    site.main.handler = lambda _seen: odd[junk]

    answer = await answer_of(post(site, key, stream=True))

    events = response_events(answer.body)
    (record,) = await site.settled(key, 1)
    assert ["response.failed", "error"] == [event["type"] for event in events[-2:]]
    assert "upstream_invalid_response" == events[-1]["code"]
    text = Follower(events).last["response"]["output"][0]["content"][0]["text"]
    delivered = record.usage.completion_token_count
    assert text.startswith("tok0 ")
    assert text.count("tok") <= delivered + 1
    assert price_nusd(record.usage.prompt_token_count, delivered) == record.charge_nusd


async def test_client_that_leaves_cancels_the_upstream_and_pays_what_was_delivered(
    site: Site, key: Key
) -> None:
    prompt = "fake=chunks:2000;delay_ms:5;usage:every"
    call = post(site, key, input=prompt, max_output_tokens=2000, stream=True)

    async with call as response:
        seen = await read_deltas(response, 5)
        response.close()
    await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    delivered = record.usage.completion_token_count
    assert site.main.seen[0].is_aborted
    assert "client_closed" == record.outcome
    assert seen.count(b"event: response.output_text.delta") <= delivered + 1
    assert 4 <= delivered <= site.main.seen[0].chunks_sent < 1000
    assert price_nusd(12, delivered) == record.charge_nusd


async def test_sdk_that_stops_reading_cancels_the_upstream(
    site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    prompt = "fake=chunks:2000;delay_ms:5;usage:every"
    async with client.responses.stream(model=SMALL, input=prompt, max_output_tokens=2000) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                break
    await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    assert site.main.seen[0].is_aborted
    assert "client_closed" == record.outcome
    assert price_nusd(12, record.usage.completion_token_count) == record.charge_nusd


async def test_stream_that_fails_before_it_began_ends_with_one_error(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"header_hold_s": 0.05, "keep_alive_s": 0.05}))
    key = await site.key()

    answer = await answer_of(
        post(site, key, input="fake=hang:headers_before", stream=True, timeout_ms=3500)
    )

    (event,) = response_events(answer.body)
    assert 200 == answer.status
    assert ("error", "timeout", 0) == (event["type"], event["code"], event["sequence_number"])
    assert UUID7.fullmatch(event["error"]["request_id"])
