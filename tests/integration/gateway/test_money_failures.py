"""Failures seen elsewhere, over real HTTP; the rows are those of facts/payments section 6."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from kit.db import upgrade
from services.payment.room import MIGRATIONS
from services.payment.store_tables import METADATA
from tests.fakes.openai_upstream import OpenAiUpstream, open_openai_upstream
from tests.fixtures.catalogues import FREE, SMALL, chat, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.replicas import open_replica
from tests.integration.gateway.wire import answer_of
from turnpike.payment.v1 import caps_pb2, payment_pb2

MAX_TOKENS = 16
OUTPUT_NUSD = 600
HOLD = MAX_TOKENS * OUTPUT_NUSD
FULL = chat("prompt=1 use=max", max_tokens=MAX_TOKENS)
"""The upstream reports all of `max_tokens`, and only completion tokens cost: exactly the hold."""
PARALLEL, AFFORDABLE = 200, 10


def one_price(main: OpenAiUpstream, spare: OpenAiUpstream) -> dict[str, Any]:
    catalogue = usual_catalogue(main, spare)
    price = {"input_usd_per_million": "0", "output_usd_per_million": "0.60"}
    catalogue["models"][SMALL]["deployments"][0]["price"] = price
    return catalogue


class Pair:
    """A site with two gateways, each with a router of its own."""

    def __init__(self, site: Site, other: Gateway) -> None:
        self.site = site
        self.gateways = (site.gateway, other)

    async def burst(self, key: Key, body: Any, count: int = PARALLEL) -> Counter[int]:
        """Send so many requests at once, half to each gateway, and count the statuses."""
        calls = [
            answer_of(self.site.post_to(self.gateways[number % 2], key, body))
            for number in range(count)
        ]
        return Counter(answer.status for answer in await asyncio.gather(*calls))

    async def is_settled(self, key: Key, count: int) -> None:
        await self.site.settled(key, count)

        async def is_free() -> bool:
            return not (await self.site.balance(key)).held_nusd

        await until(is_free)
        verify = await self.site.payment.VerifyLedger(payment_pb2.VerifyLedgerRequest())
        assert verify.is_clean, verify.findings


@pytest.fixture
async def pair(open_site: OpenSite, database_url: str, tmp_path: Path) -> AsyncIterator[Pair]:
    await upgrade(database_url, MIGRATIONS, METADATA)
    async with _upstreams() as upstreams:
        wish = Wish(databases={"payment": database_url}, catalogue=one_price(*upstreams))
        site = await open_site(wish)
        async with open_replica(site, tmp_path / "replica") as other:
            yield Pair(site, other)


@asynccontextmanager
async def _upstreams() -> AsyncIterator[tuple[OpenAiUpstream, OpenAiUpstream]]:
    async with open_openai_upstream() as main, open_openai_upstream() as spare:
        yield main, spare


async def cap(
    site: Site, key: Key, limit_nusd: int, scope: caps_pb2.CapName.Scope.ValueType
) -> None:
    of_account = scope == caps_pb2.CapName.SCOPE_ACCOUNT
    name = caps_pb2.CapName(
        account_id=key.account_id,
        scope=scope,
        subject="" if of_account else key.key_id,
        window=caps_pb2.CapName.WINDOW_TOTAL,
    )
    request_id = site.new_id()
    request = caps_pb2.SetCapRequest(name=name, limit_nusd=limit_nusd, request_id=request_id)
    await site.caps.SetCap(request)


@pytest.mark.timeout(120)
async def test_row_1_of_200_parallel_requests_credit_for_10_pays_exactly_10_over_two_replicas(
    pair: Pair,
) -> None:
    key = await pair.site.key(credit_nusd=AFFORDABLE * HOLD)

    seen = await pair.burst(key, FULL)

    assert {200: AFFORDABLE, 402: PARALLEL - AFFORDABLE} == seen
    await pair.is_settled(key, AFFORDABLE)
    balance = await pair.site.balance(key)
    assert (0, 0, AFFORDABLE * HOLD) == (
        balance.available_nusd,
        balance.held_nusd,
        balance.charged_nusd,
    )


@pytest.mark.timeout(120)
async def test_row_1_of_200_parallel_requests_a_cap_for_10_lets_through_exactly_10(
    pair: Pair,
) -> None:
    key = await pair.site.key()
    await cap(pair.site, key, AFFORDABLE * HOLD, caps_pb2.CapName.SCOPE_KEY)

    seen = await pair.burst(key, FULL)

    assert {200: AFFORDABLE, 402: PARALLEL - AFFORDABLE} == seen
    await pair.is_settled(key, AFFORDABLE)


@pytest.mark.timeout(120)
async def test_row_2_first_parallel_requests_of_an_unknown_episode_keep_to_the_default_budget(
    pair: Pair,
) -> None:
    key = await pair.site.key()
    await cap(pair.site, key, 5 * HOLD, caps_pb2.CapName.SCOPE_KEY_EPISODE)

    seen = await pair.burst(key, {**FULL, "episode_id": pair.site.new_id()}, 50)

    assert {200: 5, 402: 45} == seen
    await pair.is_settled(key, 5)


@pytest.mark.timeout(120)
async def test_row_7_what_a_gateway_still_knows_does_not_reopen_a_closed_budget(
    pair: Pair,
) -> None:
    key = await pair.site.key()
    assert {200: 4} == await pair.burst(key, FULL, 4)
    await pair.site.settled(key, 4)

    await cap(pair.site, key, 4 * HOLD, caps_pb2.CapName.SCOPE_ACCOUNT)

    async def is_closed() -> bool:
        return {402: 20} == await pair.burst(key, FULL, 20)

    await until(is_closed, wait_s=5.0)
    passed = len(await pair.site.records(key))
    assert {402: 20} == await pair.burst(key, FULL, 20)
    await pair.site.settled(key, passed)


async def test_row_8_hold_is_sized_by_what_may_be_generated(pair: Pair) -> None:
    key = await pair.site.key(credit_nusd=0)

    async def needed(**fields: Any) -> str:
        answer = await answer_of(pair.site.post(key, chat("x", **fields)))
        assert 402 == answer.status, answer.body
        return str(answer.error["details"]["missing_nusd"])

    missing = await needed()
    huge = await answer_of(pair.site.post(key, chat("x", max_tokens=1_000_000_000)))

    assert str(256 * OUTPUT_NUSD) == missing
    assert str(7 * OUTPUT_NUSD) == await needed(max_tokens=7)
    assert str(14 * OUTPUT_NUSD) == await needed(max_tokens=7, n=2)
    assert huge.status in {400, 402}
    if huge.status == 402:
        assert int(huge.error["details"]["missing_nusd"]) <= 8192 * OUTPUT_NUSD


async def test_row_13_free_model_passes_with_an_empty_balance_and_an_exhausted_cap(
    pair: Pair,
) -> None:
    key = await pair.site.key(credit_nusd=0)
    await cap(pair.site, key, 0, caps_pb2.CapName.SCOPE_ACCOUNT)

    free = await answer_of(pair.site.post(key, chat(model=FREE)))
    dear = await answer_of(pair.site.post(key, chat()))

    assert [200, 402] == [free.status, dear.status]
