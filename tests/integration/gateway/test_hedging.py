"""Second calls through a whole site: charges, records, and the loser's end at its upstream."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest

from kit.ids import OPERATOR_ID, name_id
from kit.rpc.local import LocalMode
from services.router.speed import SAMPLES_MIN
from tests.fakes.openai_script import Script, says
from tests.fakes.openai_upstream import OpenAiUpstream, open_openai_upstream
from tests.fixtures.catalogues import TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import answer_of, events_of, text_of, tokens
from turnpike.metering.v1 import metering_pb2
from turnpike.payment.v1 import payment_pb2

MAIN = name_id("deployment", "twice-main")
SPARE = name_id("deployment", "twice-spare")


class Place(NamedTuple):
    """A site over two native deployments, of which the first has answered many requests."""

    site: Site
    key: Key
    main: OpenAiUpstream
    spare: OpenAiUpstream


OpenPlace = Callable[..., Awaitable[Place]]


@pytest.fixture
async def open_place(open_site: OpenSite) -> AsyncIterator[OpenPlace]:
    """A function that opens one: `await open_place(is_streaming=True)`."""
    async with open_openai_upstream() as main, open_openai_upstream() as spare:
        catalogue = usual_catalogue(main, spare)
        for provider in catalogue["providers"].values():
            provider["type"] = "native"

        async def open_one(*, is_streaming: bool, hedge_share: float = 0.05) -> Place:
            settings = {"hedge_share": hedge_share}
            wish = Wish(mode=LocalMode.VERIFY, router=settings, catalogue=catalogue)
            site = await open_site(wish)
            key = await site.key(requests_per_minute=0)
            for _ in range(SAMPLES_MIN):
                answer = await answer_of(site.post(key, chat(model=TWICE, stream=is_streaming)))
                assert MAIN == answer.headers["X-Deployment-Id"]
            return Place(site, key, main, spare)

        yield open_one


async def operators(site: Site) -> list[metering_pb2.UsageRecord]:
    request = metering_pb2.ListUsageRequest(account_id=OPERATOR_ID)
    return list((await site.metering.ListUsage(request)).records)


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_late_first_token_is_had_elsewhere_at_one_price(
    open_place: OpenPlace, is_streaming: bool
) -> None:
    site, key, main, spare = await open_place(is_streaming=is_streaming)
    main.handler = lambda _seen: Script(hang="headers_before")
    asked = len(main.seen)

    answer = await answer_of(site.post(key, chat(model=TWICE, stream=is_streaming)))

    text = (
        text_of(events_of(answer.body))
        if is_streaming
        else answer.json["choices"][0]["message"]["content"]
    )
    assert (200, SPARE, "2", tokens(16)) == (
        answer.status,
        answer.headers["X-Deployment-Id"],
        answer.headers["X-Turnpike-Attempts"],
        text,
    )
    assert [asked + 1, 1] == [len(main.seen), len(spare.seen)]
    await until(lambda: main.seen[-1].is_aborted)
    records = await site.settled(key, SAMPLES_MIN + 1)
    assert ("twice-spare", 2, price_nusd(12, 16)) == (
        records[0].deployment,
        records[0].attempt_count,
        records[0].charge_nusd,
    )
    (lost,) = await operators(site)
    assert ("hedged", "twice-main", 0, "") == (
        lost.outcome,
        lost.deployment,
        lost.charge_nusd,
        lost.key_id,
    )
    assert lost.request_id == f"{records[0].request_id}:hedge"
    hedges = 'turnpike_router_hedges_total{deployment="twice-spare",result="won"} 1.0'
    assert hedges in site.metrics()
    proof = await site.payment.VerifyLedger(payment_pb2.VerifyLedgerRequest())
    assert proof.is_clean, proof.findings


async def test_loser_that_had_begun_to_stream_is_cut_off(open_place: OpenPlace) -> None:
    site, key, main, _ = await open_place(is_streaming=True)
    # Its head and the chunk that names the role are there, its first content is not.
    main.handler = lambda _seen: Script(chunks=40, delay_ms=50, deltas=({},) * 40)

    answer = await answer_of(site.post(key, chat(model=TWICE, stream=True)))

    assert tokens(16) == text_of(events_of(answer.body))
    await until(lambda: main.seen[-1].is_over)
    assert main.seen[-1].is_aborted
    assert main.seen[-1].chunks_sent < 40


async def test_client_that_leaves_while_both_are_asked_ends_both(open_place: OpenPlace) -> None:
    site, key, main, spare = await open_place(is_streaming=True)
    main.handler = spare.handler = lambda _seen: Script(hang="headers_after")

    async def leave() -> None:
        async with site.post(key, chat(model=TWICE, stream=True)):
            pass

    async with asyncio.TaskGroup() as group:
        task = group.create_task(leave())
        await until(lambda: len(spare.seen) == 1)
        task.cancel()
    await until(lambda: main.seen[-1].is_aborted and spare.seen[-1].is_aborted)
    records = await site.settled(key, SAMPLES_MIN + 1)
    (lost,) = await operators(site)

    assert ("client_closed", 0) == (records[0].outcome, records[0].charge_nusd)
    assert ("hedged", "twice-spare", 0) == (lost.outcome, lost.deployment, lost.charge_nusd)


async def test_off_means_that_nobody_is_called_twice(open_place: OpenPlace) -> None:
    site, key, main, spare = await open_place(is_streaming=True, hedge_share=0.0)
    main.handler = lambda _seen: says({}, {}, {}, {"content": "x"}, delay_ms=50)

    answer = await answer_of(site.post(key, chat(model=TWICE, stream=True)))

    assert ("1", []) == (answer.headers["X-Turnpike-Attempts"], spare.seen)
