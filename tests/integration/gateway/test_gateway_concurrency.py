"""Limits that several gateways share: requests at once, and requests in a minute."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.app import Gateway
from tests.fixtures.catalogues import chat
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import Answer, answer_of, events_of, read_chunks
from turnpike.auth.v1 import auth_pb2

AUTH = "turnpike.auth.v1.AuthService"
HANGING = chat("fake=hang:headers_before")
FREE: dict[str, Any] = {"requests_per_minute": 0, "tokens_per_minute": 0}
SHOWN = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Tier")


def shown(answer: Answer) -> tuple[str | None, ...]:
    return tuple(answer.headers.get(name) for name in SHOWN)


async def status_of(site: Site, gateway: Gateway, key: Key, body: Any) -> int:
    return (await answer_of(site.post_to(gateway, key, body))).status


@asynccontextmanager
async def held(site: Site, key: Key, count: int) -> AsyncIterator[None]:
    """Keep so many requests running upstream."""
    before = len(site.main.seen)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(answer_of(site.post(key, HANGING))) for _ in range(count)]
        await until(lambda: len(site.main.seen) == before + count)
        yield
        for task in running:
            task.cancel()


@pytest.mark.parametrize("is_split", [False, True], ids=["local", "socket"])
async def test_exactly_the_limit_runs_at_once_over_two_gateways(
    open_site: OpenSite, *, is_split: bool
) -> None:
    site = await open_site(Wish(is_split=is_split))
    key = await site.key(concurrent_requests=7, **FREE)
    other = await site.open_another()

    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(status_of(site, gateway, key, HANGING))
            for _ in range(15)
            for gateway in (site.gateway, other)
        ]
        await until(lambda: sum(task.done() for task in asked) == 23)
        refused = Counter(task.result() for task in asked if task.done())
        running = len(site.main.seen)
        for task in asked:
            task.cancel()

    assert (7, {429: 23}) == (running, refused)


async def test_refusal_names_the_limit_and_when_to_come_back(site: Site) -> None:
    key = await site.key(concurrent_requests=1, requests_per_minute=100)

    async with held(site, key, 1):
        refused = await answer_of(site.post(key, chat()))
        streamed = await answer_of(site.post(key, chat(stream=True)))

    for answer in (refused, streamed):
        assert (429, "concurrency_exceeded", "rate_limit_error") == (
            answer.status,
            answer.error["code"],
            answer.error["type"],
        )
        assert ("1", "0", "default") == shown(answer)
        assert "1" == answer.headers["Retry-After"]
        assert int(answer.headers["X-RateLimit-Reset"]) > 1_700_000_000


@pytest.mark.parametrize(
    "body",
    [
        chat(),
        chat(stream=True),
        chat("fake=status:500"),
        chat("fake=status:400", stream=True),
        chat("fake=chunks:40;delay_ms:2;cut_after:9;usage:every", stream=True),
        chat(model="acme/none"),
        chat(max_tokens=0),
    ],
    ids=["whole", "stream", "upstream 500", "upstream 400", "cut", "no model", "bad field"],
)
async def test_slot_comes_back_however_a_request_ends(site: Site, body: Any) -> None:
    key = await site.key(concurrent_requests=1, **FREE)

    first = await answer_of(site.post(key, body))
    again = await answer_of(site.post(key, chat()))

    assert 429 != first.status
    assert 200 == again.status


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_slot_of_a_client_that_left_comes_back(site: Site, *, is_streaming: bool) -> None:
    key = await site.key(concurrent_requests=1, **FREE)

    if is_streaming:
        asked = chat("fake=chunks:2000;delay_ms:5", stream=True, max_tokens=2000)
        async with site.post(key, asked) as response:
            await read_chunks(response, 2)
            response.close()
    else:
        async with held(site, key, 1):
            pass
    await until(lambda: site.gateway.deps.running.count == 0)
    again = await answer_of(site.post(key, chat()))

    assert 200 == again.status


async def test_slot_of_a_request_that_is_refused_after_its_draw_comes_back(site: Site) -> None:
    poor = await site.key(concurrent_requests=1, credit_nusd=0, **FREE)
    late = await site.key(concurrent_requests=1, requests_per_minute=1)

    unpaid = [(await answer_of(site.post(poor, chat()))).error["code"] for _ in range(3)]
    spent = [(await answer_of(site.post(late, chat()))).status for _ in range(3)]
    over = await answer_of(site.post(late, chat()))

    assert ["insufficient_quota"] * 3 == unpaid
    assert [200, 429, 429] == spent
    assert "rate_limit_exceeded" == over.error["code"]


async def test_one_caller_may_change_between_gateways_from_request_to_request(
    site: Site,
) -> None:
    key = await site.key(concurrent_requests=1, **FREE)
    other = await site.open_another()

    statuses = [
        await status_of(site, gateway, key, chat("shape=c1-d0"))
        for _ in range(4)
        for gateway in (site.gateway, other)
    ]

    assert [200] * 8 == statuses


async def test_gateway_that_ends_frees_its_slots(site: Site) -> None:
    key = await site.key(concurrent_requests=2, **FREE)
    other = await site.open_another()
    for _ in range(2):
        await status_of(site, other, key, chat())

    await site.leave()
    me = site.new_id()
    step = auth_pb2.RenewHolderRequest.STEP_BEGIN
    await site.auth.RenewHolder(auth_pb2.RenewHolderRequest(holder_id=me, step=step))
    request = auth_pb2.LeaseSlotsRequest(
        key_id=key.key_id, holder_id=me, sequence=1, needed_slot_count=2
    )

    assert 2 == (await site.auth.LeaseSlots(request)).slot_count


async def test_headers_show_the_tightest_of_all_limits(site: Site) -> None:
    key = await site.key(concurrent_requests=4, requests_per_minute=100, tokens_per_minute=0)

    alone = await answer_of(site.post(key, chat()))
    async with held(site, key, 2):
        streamed = await answer_of(site.post(key, chat(stream=True)))
    burst = [await answer_of(site.post(key, chat())) for _ in range(30)]

    assert ("4", "3", "default") == shown(alone)
    assert ("4", "1", "default") == shown(streamed)
    assert ("100", "66", "default") == shown(burst[-1])
    assert {200} == {answer.status for answer in (alone, streamed, *burst)}


async def test_key_without_such_a_limit_asks_for_no_slot(site: Site) -> None:
    key = await site.key()

    await answer_of(site.post(key, chat()))

    assert not [name for name in site.board.called if name.endswith(("LeaseSlots", "RenewHolder"))]


async def test_requests_end_when_their_slots_can_no_longer_be_kept(open_site: OpenSite) -> None:
    site = await open_site(Wish(auth={"holder_lease_s": 2.0}, gateway={"lease_margin_s": 1.0}))
    limited = await site.key(concurrent_requests=2, **FREE)
    free = await site.key(**FREE)
    asked = chat("fake=chunks:3000;delay_ms:5", stream=True, max_tokens=3000)

    async with site.post(limited, asked) as ending, site.post(free, asked) as going_on:
        first, rest = await read_chunks(ending, 3), await read_chunks(going_on, 3)
        site.board.broken.add(AUTH)
        events = events_of(first + await ending.read())
        site.board.broken.clear()
        rest += await read_chunks(going_on, 3)
        going_on.close()
    again = await answer_of(site.post(limited, chat()))

    assert "auth_unavailable" == events[-1]["error"]["code"]
    assert rest.count(b'"error"') == 0
    assert 200 == again.status


async def test_auth_away_lets_no_request_with_such_a_limit_through(site: Site) -> None:
    key = await site.key(concurrent_requests=2, **FREE)
    await answer_of(site.http.get(f"{site.url}/v1/models", headers=key.headers))
    site.board.broken.add(AUTH)

    away = await answer_of(site.post(key, chat()))
    site.board.broken.clear()
    back = await answer_of(site.post(key, chat()))

    assert (503, "auth_unavailable") == (away.status, away.error["code"])
    assert "1" == away.headers["Retry-After"]
    assert 200 == back.status


async def test_three_gateways_at_three_times_the_rate_let_exactly_the_limit_through(
    open_site: OpenSite,
) -> None:
    """Row R-S5."""
    site = await open_site(Wish(auth={"replicas_expected": 3}))
    key = await site.key(requests_per_minute=60, tokens_per_minute=0)
    gateways = [site.gateway, await site.open_another(), await site.open_another()]

    statuses = await asyncio.gather(
        *(status_of(site, each, key, chat("shape=c1-d0")) for _ in range(60) for each in gateways)
    )

    assert Counter({200: 60, 429: 120}) == Counter(statuses)
    assert 60 == len(site.main.seen)
