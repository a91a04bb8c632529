"""Who may serve, in which order, and what the caller is told when nobody may."""

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Reason
from services.router.candidates import choose, none_available
from services.router.catalog import Deployment, DeploymentType, Model
from services.router.pricing import PriceRow, ceiling, floor
from services.router.speed import SAMPLES_MIN, Speed
from services.router.strategies import View, ranked
from turnpike.router.v1 import router_pb2

NATIVE, QUOTA, EXTERNAL = DeploymentType
CHEAPEST = router_pb2.STRATEGY_CHEAPEST
FASTEST = router_pb2.STRATEGY_FASTEST


def place(name: str, price: int = 100, **more: Any) -> Deployment:
    usual = Deployment(
        name=name,
        deployment_id=name,
        provider=name,
        kind="scripted",
        backend="scripted",
        upstream_model="m",
        price=PriceRow("p", price, price),
        capabilities=frozenset({"tools"}),
    )
    return replace(usual, **more)


def model(*deployments: Deployment) -> Model:
    prices = [each.price for each in deployments]
    return Model("m", (), "o", 1000, 100, 512, 0, deployments, ceiling(prices), floor(prices))


def envelope(features: tuple[str, ...] = (), **routing: Any) -> router_pb2.Envelope:
    asked = router_pb2.Envelope(
        account_id="a",
        hold_nusd=10**9,
        max_tokens=100,
        prompt_tokens_max=100,
        completion_tokens_max=100,
        features=features,
    )
    if routing:
        asked.routing.CopyFrom(router_pb2.Routing(**routing))
    return asked


def names(places: list[Deployment]) -> list[str]:
    return [each.name for each in places]


def chosen(asked: router_pb2.Envelope, *places: Deployment) -> list[str]:
    found = choose(model(*places), asked, wait_s=lambda _place, _now: 0.0, now_s=0.0)
    return names(found.deployments)


def test_who_lacks_a_feature_is_left_out() -> None:
    able = place("able", capabilities=frozenset({"tools", "n"}))

    assert ["able"] == chosen(envelope(("n", "tools")), place("plain"), able)


@pytest.mark.parametrize(
    ("routing", "served"),
    [
        ({"strategy": CHEAPEST}, ["own"]),
        ({"strategy": CHEAPEST, "is_external_allowed": True}, ["own", "far"]),
        ({"strategy": FASTEST}, ["own", "far"]),
        ({"is_external_allowed": False}, ["own"]),
        ({"input_pusd_per_token_max": 99, "output_pusd_per_token_max": 100}, []),
        ({"input_pusd_per_token_max": 100, "output_pusd_per_token_max": 100}, ["own", "far"]),
        ({"deployments": ["far"]}, ["far"]),
    ],
    ids=["P33-cheapest", "P33-allowed", "P33-fastest", "P33-refused", "P34", "P35", "E12"],
)
def test_caller_says_who_may_serve(routing: dict[str, Any], served: list[str]) -> None:
    asked = envelope(**routing)

    assert served == chosen(asked, place("own"), place("far", type=EXTERNAL))


def test_ceiling_leaves_out_who_asks_for_more_than_two_figures() -> None:
    fee = place("fee", price=0)
    fee = replace(fee, price=PriceRow("p", 0, 0, request_pusd=1))

    assert [] == chosen(envelope(input_pusd_per_token_max=5, output_pusd_per_token_max=5), fee)


def test_adapter_is_served_by_who_has_it() -> None:
    asked = envelope()
    asked.adapter = "law"

    assert ["tuned"] == chosen(asked, place("plain"), place("tuned", adapters=("law",)))


def refusal(asked: router_pb2.Envelope, *places: Deployment, wait_s: float = 0.0) -> Any:
    found = choose(model(*places), asked, wait_s=lambda _place, _now: wait_s, now_s=0.0)
    return none_available(model(*places), found)


def test_parameters_alone_make_it_the_clients_fault() -> None:
    error = refusal(envelope(("top_logprobs>5", "tools")), place("one"), place("two"))

    assert (Reason.UNSUPPORTED_PARAMETER, "top_logprobs") == (error.reason, error.metadata["param"])


def test_image_is_named_by_the_field_it_came_in() -> None:
    assert "messages" == refusal(envelope(("image_url",)), place("one")).metadata["param"]


def test_mixed_reasons_are_counted() -> None:
    asked = envelope(("n",), is_external_allowed=False)

    error = refusal(
        asked,
        place("far", type=EXTERNAL),
        place("plain"),
        place("down", capabilities=frozenset({"n"})),
        wait_s=3.0,
    )

    assert Reason.NO_PROVIDERS_AVAILABLE == error.reason
    assert {"excluded": "external=1,health=1,parameters=1", "retry_after_s": "3"} == error.metadata


def view(speeds: dict[str, Speed] | None = None, seed: int = 1, **loads: int) -> View:
    known = speeds or {}
    return View(
        lambda place: loads.get(place.name, 0),
        lambda place: known.get(place.name, Speed()),
        Random(seed),
    )


def first_of(asked: router_pb2.Envelope, *places: Deployment, rounds: int = 300) -> Counter[str]:
    around = view()
    return Counter(ranked(places, asked, around)[0].name for _ in range(rounds))


def test_cheapest_draws_evenly_from_a_fifth_above_the_lowest_price() -> None:
    places = place("a", 250), place("b", 280), place("c", 350)

    drawn = first_of(envelope(strategy=CHEAPEST), *places)

    assert {"a", "b"} == drawn.keys()
    assert min(drawn.values()) > 100


def test_vram_ranks_by_the_sum_of_prices() -> None:
    dear_in = replace(place("in"), price=PriceRow("p", 100, 10))
    dear_out = replace(place("out"), price=PriceRow("p", 10, 80))
    asked = envelope(strategy=CHEAPEST)
    asked.prompt_tokens_max = 10

    by_estimate = ranked([dear_in, dear_out], asked, view())[0].name
    asked.routing.is_ranked_by_sum = True

    assert ("in", "out") == (by_estimate, ranked([dear_in, dear_out], asked, view())[0].name)


def test_balanced_takes_native_before_quota_before_external() -> None:
    places = [place("far", 1, type=EXTERNAL), place("account", 5, type=QUOTA), place("own", 90)]

    assert ["own", "account", "far"] == names(ranked(places, envelope(), view()))


def test_balanced_follows_the_owners_order_first() -> None:
    places = [place("later", 1, priority=1), place("sooner", 90, type=QUOTA)]

    assert ["sooner", "later"] == names(ranked(places, envelope(), view()))


def test_balanced_prefers_the_less_busy_of_two() -> None:
    places = [place("busy"), place("idle")]

    assert {"idle"} == {
        ranked(places, envelope(), view(seed=seed, busy=5))[0].name for seed in range(20)
    }


def measured(ttft_s: float, duration_s: float) -> Speed:
    speed = Speed()
    for _ in range(SAMPLES_MIN):
        speed.measured(ttft_s=ttft_s, duration_s=duration_s, tokens=100)
    return speed


def test_fastest_goes_by_type_until_something_is_measured() -> None:
    places = [place("far", type=EXTERNAL), place("own", 900), place("account", type=QUOTA)]
    asked = envelope(strategy=FASTEST)
    fast = {"far": measured(0.05, 0.5)}

    assert ["own", "account", "far"] == names(ranked(places, asked, view()))
    assert ["far", "own", "account"] == names(ranked(places, asked, view(fast)))


def test_same_key_of_an_account_keeps_to_its_deployment() -> None:
    places = [place(f"p{n}") for n in range(5)]

    def stuck(key: str, among: list[Deployment], account: str = "a") -> str:
        asked = envelope(sticky_key=key)
        asked.account_id = account
        (only,) = {ranked(among, asked, view(seed=seed))[0].name for seed in range(10)}
        return only

    homes = {key: stuck(key, places) for key in map(str, range(60))}

    assert 5 == len(set(homes.values()))
    assert homes != {key: stuck(key, places, "b") for key in homes}
    left = [each for each in places if each.name != "p0"]
    assert all(stuck(key, left) == home for key, home in homes.items() if home != "p0")


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=12),
    st.sampled_from([CHEAPEST, FASTEST, router_pb2.STRATEGY_BALANCED, 0]),
    st.integers(0, 2**32),
)
def test_every_candidate_is_tried_once_and_the_cheapest_first_is_never_dear(
    prices: list[int], strategy: Any, seed: int
) -> None:
    places = [place(f"p{n}", price) for n, price in enumerate(prices)]

    order = ranked(places, envelope(strategy=strategy), view(seed=seed))

    assert sorted(names(order)) == sorted(names(places))
    if strategy == CHEAPEST:
        assert 5 * order[0].price.input_pusd_per_token <= 6 * min(prices)
