"""Both rails are one path after admission: the same routes, and the same prices."""

from random import Random
from typing import Any

import pytest

from tests.fixtures.catalogues import SMALL, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Site, Wish, until
from tests.fixtures.paid import OpenPaid, PaidSite
from turnpike.metering.v1 import metering_pb2
from turnpike.router.v1 import route_pb2

REQUESTS = 1_000
DEPLOYMENTS = (("dear", "0.30", "1.20"), ("even", "0.15", "0.60"), ("odd", "0.15", "0.60"))
TIMED = ("snapshot_id", "age_s", "score")
"""Ids, and what the clock decides."""


def wishes(seed: int) -> list[dict[str, Any]]:
    """Return requests that ask for all sorts of routes."""
    random = Random(seed)
    found = []
    for number in range(REQUESTS):
        body = chat(
            f"number {number} " + "x" * random.randrange(60, 260), stream=random.random() < 0.3
        )
        body["max_tokens"] = random.randrange(16, 300)
        body["routing_strategy"] = "cheapest"
        if random.random() < 0.3:
            body["max_input_price_per_million"] = random.choice((15, 30, 100))
            body["max_output_price_per_million"] = random.choice((60, 120, 400))
        if random.random() < 0.2:
            body["tools"] = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
        found.append(body)
    return found


def three_deployments(site: Site) -> dict[str, Any]:
    catalogue = usual_catalogue(site.main, site.spare)
    catalogue["models"][SMALL]["deployments"] = [
        {
            "name": name,
            "provider": "main",
            "upstream_model": "upstream-small",
            "price": {"input_usd_per_million": cost, "output_usd_per_million": gain},
        }
        for name, cost, gain in DEPLOYMENTS
    ]
    return catalogue


async def decisions_of(site: Site) -> list[route_pb2.Decision]:
    """Return the stored choices in the order of their requests."""
    found: list[metering_pb2.RouteDecision] = []

    async def are_all() -> bool:
        asked = metering_pb2.ListRouteDecisionsRequest(page_size=10_000)
        found[:] = (await site.metering.ListRouteDecisions(asked)).decisions
        return len(found) == REQUESTS

    await until(are_all)
    chosen = []
    for each in sorted(found, key=lambda each: each.request_id):
        decision = route_pb2.Decision.FromString(each.data)
        for name in TIMED:
            decision.ClearField(name)  # type: ignore[arg-type] # their names stand above
        chosen.append(decision)
    return chosen


async def opened(open_paid: OpenPaid) -> PaidSite:
    paid = await open_paid(
        Wish(
            router={"probe_interval_s": 3_600.0},
            auth={"tiers": {"default": {"requests_per_minute": 0, "tokens_per_minute": 0}}},
        ),
        mpp={"vouchers_per_second_max": 100_000},
    )
    paid.site.write_catalogue(three_deployments(paid.site))
    key = await paid.site.key()
    names = {name for name, _, _ in DEPLOYMENTS}

    async def is_taken() -> bool:
        body = chat()
        async with paid.site.http.post(
            f"{paid.site.url}/v1/route:explain", json=body, headers=key.headers
        ) as answer:
            return (await answer.json()).get("deployment") in names

    await until(is_taken)
    return paid


@pytest.mark.timeout(300)
async def test_e8_decisions_of_1000_requests_are_equal_on_both_rails(
    open_paid: OpenPaid, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances: list[Random] = []

    def chance() -> Random:
        chances.append(Random())
        return chances[-1]

    monkeypatch.setattr("services.router.dispatch.Random", chance)
    by_key, by_channel = await opened(open_paid), await opened(open_paid)
    for each in chances:
        each.seed(1917)
    key = await by_key.site.key(credit_nusd=10**12)
    client = by_channel.client(1, deposit=10**9)

    for body in wishes(8):
        async with by_key.site.post(key, body) as answer:
            await answer.read()
        paid_answer = await client.chat(body)
        assert (answer.status, answer.status) == (200, paid_answer.status), paid_answer.body

    prepaid, paid = await decisions_of(by_key.site), await decisions_of(by_channel.site)
    assert prepaid == paid
    assert {name for name, _, _ in DEPLOYMENTS[1:]} <= {each.first for each in prepaid}
    charged = sum(each.charge_nusd for each in await by_key.site.settled(key, REQUESTS))
    records = await by_channel.settled(client, REQUESTS)
    assert charged == sum(each.charge_nusd for each in records)


@pytest.mark.parametrize("chunks", [1, 7, 64])
async def test_failure_9_streamed_answer_costs_what_a_plain_one_costs_on_both_rails(
    open_paid: OpenPaid, chunks: int
) -> None:
    paid = await open_paid(slice_tokens=8)
    key, client = await paid.site.key(), paid.client(1)

    for is_streaming in (False, True):
        body = chat(f"shape=c{chunks}-d0", stream=is_streaming, max_tokens=100)
        async with paid.site.post(key, body) as answer:
            await answer.read()
        paid_answer = await client.chat(body)
        assert (200, 200, True) == (answer.status, paid_answer.status, paid_answer.is_whole)

    records = [*await paid.site.settled(key, 2), *await paid.settled(client, 2)]
    assert [price_nusd(12, chunks)] * 4 == [each.charge_nusd for each in records]
