"""In which order deployments are tried. Source: facts/features.md sections 3.1 to 3.3."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.candidates import Features
from services.router.pricing import PriceRow
from services.router.snapshots import Candidate
from services.router.speed import PRIORS
from services.router.strategies import EXPLORE_ONE_IN
from tests.unit.router.places import (
    BALANCED,
    CHEAPEST,
    EXTERNAL,
    FASTEST,
    NATIVE,
    QUOTA,
    SIZES,
    asked,
    decided,
    place,
    snapshot,
    tried,
)


def first_of(features: Features, *places: Candidate, rounds: int = 300) -> Counter[str]:
    taken = snapshot(*places)
    return Counter(tried(features, taken, seed=seed)[0] for seed in range(rounds))


def test_cheapest_draws_evenly_from_a_fifth_above_the_lowest_price() -> None:
    drawn = first_of(asked(strategy=CHEAPEST), place("a", 250), place("b", 280), place("c", 350))

    assert {"a", "b"} == drawn.keys()
    assert min(drawn.values()) > 100


def test_vram_ranks_by_the_sum_of_prices() -> None:
    dear_in = place("in", price=0)._replace(price=PriceRow("p", 100, 10))
    dear_out = place("out", price=0)._replace(price=PriceRow("p", 10, 80))
    usual = asked(strategy=CHEAPEST, prompt_tokens_max=10)
    by_sum = asked(strategy=CHEAPEST, prompt_tokens_max=10, is_ranked_by_sum=True)

    assert ["in", "out"] == [tried(each, [dear_in, dear_out])[0] for each in (usual, by_sum)]


def test_balanced_takes_native_before_quota_before_external() -> None:
    places = [place("far", 1, type=EXTERNAL), place("account", 5, type=QUOTA), place("own", 90)]

    assert ["own", "account", "far"] == tried(asked(), places)


def test_balanced_follows_the_owners_order_first() -> None:
    places = [place("later", 1, priority=1), place("sooner", 90, type=QUOTA)]

    assert ["sooner", "later"] == tried(asked(), places)


def test_balanced_prefers_the_less_busy_of_two() -> None:
    places = [place("busy"), place("idle")]

    assert {"idle"} == {tried(asked(), places, seed=seed, busy=5)[0] for seed in range(20)}


def test_balanced_weighs_load_by_speed() -> None:
    places = [fast("quick", 0.1, 100.0), fast("slow", 2.0, 10.0)]

    assert {"quick"} == {tried(asked(), places, seed=seed, quick=2)[0] for seed in range(20)}


def fast(name: str, ttft_s: float, rate: float, **more: Any) -> Candidate:
    return place(name, ttft_s=(ttft_s,) * SIZES, tokens_per_s=rate, **more)


def test_fastest_goes_by_type_until_something_is_measured() -> None:
    places = [place("far", type=EXTERNAL), place("own", 900), place("account", type=QUOTA)]
    known = [fast("far", 0.05, 200.0, type=EXTERNAL), *places[1:]]

    assert ["own", "account", "far"] == tried(asked(strategy=FASTEST), places)
    assert ["far", "own", "account"] == tried(asked(strategy=FASTEST), known)


def test_fastest_knows_that_long_prompts_are_read_at_different_speeds() -> None:
    short = place("short", ttft_s=(0.1, 9.0, 9.0, 9.0), tokens_per_s=50.0)
    long = place("long", ttft_s=(0.5, 0.6, 0.7, 0.8), tokens_per_s=50.0)
    little = asked(strategy=FASTEST, prompt_tokens_max=100)
    much = asked(strategy=FASTEST, prompt_tokens_max=20_000)

    assert ["short", "long"] == [tried(each, [short, long])[0] for each in (little, much)]


def test_what_nobody_heard_of_for_long_is_explored_now_and_then() -> None:
    known, old = fast("known", 0.1, 100.0), fast("old", 0.1, 100.0, is_stale=True)
    rounds = 2_000

    drawn = first_of(asked(), known, old, rounds=rounds)
    busy = Counter(tried(asked(), [known, old], seed=seed, old=50)[0] for seed in range(rounds))

    assert drawn["old"] > rounds // EXPLORE_ONE_IN
    assert rounds // (2 * EXPLORE_ONE_IN) < busy["old"] < 2 * rounds // EXPLORE_ONE_IN


def test_exploring_stays_within_the_band() -> None:
    dear = place("dear", 500, is_stale=True)

    assert {"good"} == first_of(asked(), place("good"), dear, rounds=400).keys()


def test_same_key_of_an_account_keeps_to_its_deployment() -> None:
    places = [place(f"p{n}") for n in range(5)]

    def stuck(key: str, among: Iterable[Candidate], account: str = "a") -> str:
        wanted = asked(sticky_key=key, account_id=account)
        (only,) = {tried(wanted, among, seed=seed)[0] for seed in range(5)}
        return only

    homes = {key: stuck(key, places) for key in map(str, range(60))}

    assert 5 == len(set(homes.values()))
    assert homes != {key: stuck(key, places, "b") for key in homes}
    left = [each for each in places if each.name != "p0"]
    assert all(stuck(key, left) == home for key, home in homes.items() if home != "p0")


def test_callers_order_goes_first_and_a_refused_fallback_is_no_fallback() -> None:
    places = [place("a", 1), place("b", 2), place("c", 3)]
    ordered = asked(preferred=["c", "b-provider"])

    assert ["c", "b", "a"] == tried(ordered, places)
    assert ["c"] == tried(asked(preferred=["c"], has_no_fallback=True), places)
    assert ["a"] == tried(asked(strategy=CHEAPEST, has_no_fallback=True), places)


def test_who_broke_constraints_comes_last_for_constrained_requests_alone() -> None:
    places = [place("loose", 1, open_failure_count=3), place("sound", 90)]

    assert ["sound", "loose"] == tried(asked(is_constrained=True), places)
    assert ["loose", "sound"] == tried(asked(), places)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shares_of_the_band_follow_the_rule(count: int) -> None:
    places = [place(f"p{n}") for n in range(count)]
    rounds = 4_000

    for features in (asked(strategy=CHEAPEST), asked()):
        drawn = first_of(features, *places, rounds=rounds)
        expected = rounds / count
        chi_square = sum((drawn[f"p{n}"] - expected) ** 2 / expected for n in range(count))
        # The 99.99th percentile of four degrees of freedom is 23.5; of fewer it is less.
        assert chi_square < 23.5


PRICES = st.lists(st.integers(0, 1000), min_size=1, max_size=12)
STRATEGIES = st.sampled_from([CHEAPEST, FASTEST, BALANCED, 0])
TYPES = st.sampled_from([NATIVE, QUOTA, EXTERNAL])


@given(PRICES, STRATEGIES, st.integers(0, 2**32), st.booleans())
def test_every_candidate_is_tried_once_and_the_cheapest_first_is_never_dear(
    prices: list[int], strategy: Any, seed: int, is_sum: bool
) -> None:
    places = [place(f"p{n}", price) for n, price in enumerate(prices)]

    found = decided(asked(strategy=strategy, is_ranked_by_sum=is_sum), places, seed=seed)
    order = list(found.tries())

    assert sorted(each.name for each in order) == sorted(each.name for each in places)
    if strategy == CHEAPEST:
        assert 5 * order[0].price.input_pusd_per_token <= 6 * min(prices)


@given(
    st.lists(st.tuples(TYPES, st.integers(1, 500), st.booleans()), min_size=1, max_size=10),
    STRATEGIES,
    st.integers(1, 500),
    st.lists(st.sampled_from([f"p{n}" for n in range(10)]), max_size=3),
    st.integers(0, 2**32),
)
def test_a_ceiling_is_never_exceeded_and_the_excluded_never_called(
    kinds: list[tuple[Any, int, bool]], strategy: Any, most: int, ignored: list[str], seed: int
) -> None:
    places = [
        place(f"p{n}", price, type=type_, rest_s=5.0 if rests else 0.0)
        for n, (type_, price, rests) in enumerate(kinds)
    ]
    features = asked(
        strategy=strategy,
        input_pusd_per_token_max=most,
        output_pusd_per_token_max=most,
        ignored=ignored,
    )

    order = list(decided(features, places, seed=seed).tries())

    assert all(each.price.input_pusd_per_token <= most for each in order)
    assert not {each.name for each in order} & set(ignored)
    assert all(each.rest_s == 0 for each in order)
    if strategy == CHEAPEST:
        assert all(each.type is not EXTERNAL for each in order)


def test_priors_stand_in_the_order_of_types() -> None:
    assert sorted(PRIORS, key=lambda kind: PRIORS[kind][0]) == [NATIVE, QUOTA, EXTERNAL]
