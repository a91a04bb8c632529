"""When a new snapshot is taken, and what it shows."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kit.clock import ManualClock
from services.router.catalog import Deployment, Model
from services.router.fleet import Fleet, Wanted, open_fleet
from services.router.health import CONSECUTIVE_MAX
from services.router.pricing import PriceRow, ceiling, floor
from services.router.provider_entries import TritonEntry
from services.router.providers.port import Failure, ProviderError
from services.router.snapshot_keeper import FIGURES_S, QUIET_S, SnapshotKeeper
from services.router.speed import SAMPLES_MIN
from tests.unit.router.scripted import PRICE, ScriptedProvider


def deployment(name: str) -> Deployment:
    return Deployment(name, name, name, "scripted", "scripted", "m", PRICE)


PLACES = (deployment("a"), deployment("b"))
MODEL = Model("m", (), "o", 1000, 100, 512, 0, PLACES, ceiling([PRICE]), floor([PRICE]))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    @asynccontextmanager
    async def open_provider(_item: Wanted) -> AsyncIterator[ScriptedProvider]:
        yield ScriptedProvider([])

    async with open_fleet(open_provider) as fleet:
        await fleet.adopt([Wanted(d, TritonEntry(kind="triton"), "mark") for d in PLACES])
        yield fleet


@pytest.fixture
def keeper(fleet: Fleet) -> SnapshotKeeper:
    return SnapshotKeeper(fleet, ManualClock())


def measure(fleet: Fleet, keeper: SnapshotKeeper, name: str, *, now_s: float) -> None:
    member = fleet.member(deployment(name))
    assert member is not None
    member.speed.measured(prompt_tokens=10, ttft_s=0.5, duration_s=2.5, tokens=101, now_s=now_s)
    keeper.answered(MODEL, 101)


async def test_figures_wait_and_health_does_not(fleet: Fleet, keeper: SnapshotKeeper) -> None:
    first = keeper.of(MODEL, 10.0)
    measure(fleet, keeper, "a", now_s=10.0)

    assert keeper.of(MODEL, 10.0 + 0.9 * FIGURES_S) is first
    second = keeper.of(MODEL, 10.0 + FIGURES_S)
    assert second is not first
    with fleet.attempt(PLACES[0]) as attempt:
        attempt.failed(ProviderError(Failure.RATE_LIMITED, "slow", retry_after_s=9.0))
    third = keeper.of(MODEL, 10.0 + FIGURES_S)
    assert third is not second
    assert third.snapshot.candidates[0].rest_s > 0
    assert third.snapshot.candidates[1].rest_s == 0


async def test_what_nobody_changed_is_kept_for_a_while(keeper: SnapshotKeeper) -> None:
    first = keeper.of(MODEL, 10.0)

    assert keeper.of(MODEL, 10.0 + 0.9 * QUIET_S) is first
    assert keeper.of(MODEL, 10.0 + QUIET_S) is not first


async def test_figures_count_once_there_are_enough(fleet: Fleet, keeper: SnapshotKeeper) -> None:
    for number in range(SAMPLES_MIN):
        before = keeper.of(MODEL, float(number))
        measure(fleet, keeper, "a", now_s=float(number))
    after = keeper.of(MODEL, 100.0).snapshot

    assert before.snapshot.candidates[0].tokens_per_s == 0
    assert after.candidates[0].tokens_per_s == pytest.approx(50.0)
    assert after.candidates[0].ttft_s[0] == pytest.approx(0.5)
    assert after.candidates[0].is_stale
    assert after.answer_tokens == 101


async def test_one_call_finds_out_and_the_others_stay_away(
    fleet: Fleet, keeper: SnapshotKeeper
) -> None:
    for _ in range(CONSECUTIVE_MAX):
        with fleet.attempt(PLACES[0]) as attempt:
            attempt.failed(ProviderError(Failure.UNAVAILABLE, "no"))
    member = fleet.member(PLACES[0])
    assert member is not None
    member.breaker.probed(0.0)
    assert keeper.of(MODEL, 1.0).snapshot.candidates[0].rest_s == 0

    with fleet.attempt(PLACES[0]) as attempt:
        assert keeper.of(MODEL, 1.0).snapshot.candidates[0].rest_s == math.inf
        attempt.succeeded(1.0)
    assert keeper.of(MODEL, 1.0).snapshot.candidates[0].rest_s == 0


async def test_deployment_that_is_not_open_rests_and_a_new_catalogue_counts_at_once(
    keeper: SnapshotKeeper,
) -> None:
    keeper.of(MODEL, 1.0)
    dear = Deployment("new", "n", "n", "scripted", "scripted", "m", PriceRow("q", 1, 1))
    price = ceiling([PRICE])
    changed = Model("m", (), "o", 1000, 100, 512, 0, (*PLACES, dear), price, price)

    found = keeper.of(changed, 1.0)

    assert [each.name for each in found.snapshot.candidates] == ["a", "b", "new"]
    assert found.snapshot.candidates[2].rest_s == math.inf
    assert found.deployments["new"] is dear


async def test_models_that_are_gone_are_forgotten(fleet: Fleet, keeper: SnapshotKeeper) -> None:
    measure(fleet, keeper, "a", now_s=1.0)
    first = keeper.of(MODEL, 1.0)

    keeper.keep_only(frozenset({"m"}))
    assert keeper.of(MODEL, 1.0) is first
    keeper.keep_only(frozenset({"another"}))

    assert keeper.of(MODEL, 1.0) is not first
    assert keeper.of(MODEL, 1.0).snapshot.answer_tokens != 101
