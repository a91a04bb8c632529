"""Recorded traffic against other strategies, prices and outages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.router.catalog import Catalogue, Deployment, DeploymentType, Model
from services.router.pricing import PriceRow, ceiling, floor
from services.router.simulation import Outage, Result, Simulation, Traffic, World

NATIVE, QUOTA, EXTERNAL = DeploymentType


def deployment(name: str, price: int, **more: Any) -> Deployment:
    usual = Deployment(
        name=name,
        deployment_id=name,
        provider=name,
        kind="scripted",
        backend="scripted",
        upstream_model="m",
        price=PriceRow("p", price, price),
    )
    return replace(usual, **more)


def catalogue(*places: Deployment) -> Catalogue:
    prices = [each.price for each in places]
    model = Model("m", (), "o", 1000, 100, 512, 0, places, ceiling(prices), floor(prices))
    return Catalogue(1, (model,), {"m": model})


THREE = catalogue(
    deployment("own", 300),
    deployment("account", 200, type=QUOTA),
    deployment("far", 100, type=EXTERNAL),
)


def traffic(count: int, *, every_s: float = 0.2, **more: Any) -> list[Traffic]:
    return [Traffic(number * every_s, "m", 500, 200, 100, **more) for number in range(count)]


def played(world: World, sample: Sequence[Traffic], places: Catalogue = THREE) -> Result:
    return Simulation(places, sample, world).run()


def test_one_seed_has_one_result_and_another_has_another() -> None:
    sample = traffic(300)

    one, again, other = (played(World(seed=seed), sample) for seed in (5, 5, 6))

    assert one == again
    assert one.duration_s != other.duration_s


def test_strategies_pay_and_wait_as_they_say() -> None:
    results = {
        name: played(World(strategy=name), traffic(400))
        for name in ("balanced", "cheapest", "fastest")
    }

    assert results["balanced"].shares == {"own": 400}
    assert results["cheapest"].shares == {"account": 400}
    assert results["cheapest"].cost_nusd < results["balanced"].cost_nusd
    assert results["fastest"].duration_s[50] <= results["cheapest"].duration_s[50]


def test_request_keeps_its_own_strategy_unless_the_world_has_one() -> None:
    sample = [*traffic(10, strategy="cheapest"), *traffic(10)]

    assert played(World(), sample).shares == {"account": 10, "own": 10}
    assert played(World(strategy="balanced"), sample).shares == {"own": 20}


def test_an_outage_costs_attempts_and_next_to_no_answers() -> None:
    sample = traffic(1_500)
    places = catalogue(*(deployment(name, 100) for name in ("a", "b", "c")))

    calm = played(World(), sample, places)
    storm = played(World(outages=(Outage("a", 60.0, 180.0),)), sample, places)

    assert calm.served_count == calm.attempt_count == len(sample)
    assert storm.served_count >= 0.999 * len(sample)
    assert storm.attempt_count <= 1.2 * len(sample)
    assert storm.shares["a"] > 0.4 * calm.shares["a"]


def test_speeds_that_the_sample_saw_are_the_truth() -> None:
    slow = traffic(200, deployment="own", ttft_s=5.0, tokens_per_s=10.0)

    assert 14 < played(World(), slow).duration_s[50] < 16


@pytest.mark.parametrize("sample", [[], [Traffic(0.0, "unknown", 1, 1, 1)]])
def test_nothing_served_is_nothing_paid(sample: list[Traffic]) -> None:
    result = played(World(), sample)

    assert (result.served_count, result.cost_nusd, result.ttft_s) == (0, 0, {})
