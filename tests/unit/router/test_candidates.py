"""Who may serve a request, and why the others may not. Source: facts/features.md 3.1 and 3.3."""

import math
from typing import Any

import pytest

from kit.errors import Reason
from services.router.candidates import Features, none_available
from services.router.pricing import PriceRow
from services.router.snapshots import KEPT_SELECTIONS_MAX, Candidate
from tests.unit.router.places import CHEAPEST, EXTERNAL, FASTEST, asked, decided, place, tried


def test_who_lacks_a_feature_is_left_out() -> None:
    able = place("able", features=frozenset({"tools", "n"}))

    assert ["able"] == tried(asked(("n", "tools")), [place("plain"), able])


@pytest.mark.parametrize(
    ("routing", "served"),
    [
        ({"strategy": CHEAPEST}, {"own"}),
        ({"strategy": CHEAPEST, "is_external_allowed": True}, {"own", "far"}),
        ({"strategy": FASTEST}, {"own", "far"}),
        ({"is_external_allowed": False}, {"own"}),
        ({"input_pusd_per_token_max": 99, "output_pusd_per_token_max": 100}, set()),
        ({"input_pusd_per_token_max": 100, "output_pusd_per_token_max": 100}, {"own", "far"}),
        ({"deployments": ["far"]}, {"far"}),
        ({"only": ["far-provider"]}, {"far"}),
        ({"only": ["own"]}, {"own"}),
        ({"ignored": ["own-provider"]}, {"far"}),
        ({"facts": ["zdr"]}, {"own"}),
        ({"facts": ["quantization:fp8|bf16"]}, {"far"}),
        ({"facts": ["quantization:int4"]}, set()),
    ],
    ids=[
        "P33-cheapest", "P33-allowed", "P33-fastest", "P33-refused", "P34", "P35", "E12",
        "only-provider", "only-deployment", "ignored", "zdr", "quantization", "quantization-none",
    ],
)  # fmt: skip
def test_caller_says_who_may_serve(routing: dict[str, Any], served: set[str]) -> None:
    own = place("own", facts=frozenset({"zdr"}))
    far = place("far", type=EXTERNAL, facts=frozenset({"quantization:bf16"}))

    assert served == set(tried(asked(**routing), [own, far]))


def test_ceiling_leaves_out_who_asks_for_more_than_two_figures() -> None:
    fee = place("fee")._replace(price=PriceRow("p", 0, 0, request_pusd=7))
    ceilings: dict[str, Any] = {"input_pusd_per_token_max": 5, "output_pusd_per_token_max": 5}

    assert [] == tried(asked(**ceilings), [fee])
    assert ["fee"] == tried(asked(**ceilings, request_pusd_max=7), [fee])
    assert [] == tried(asked(request_pusd_max=6), [fee])


def test_hold_is_a_ceiling_whatever_was_remembered() -> None:
    places = [place("cheap", 1), place("dear", 10**9)]
    taken = decided(asked(hold_nusd=10**12), places).snapshot

    assert {"cheap", "dear"} == set(tried(asked(hold_nusd=10**12), taken))
    assert ["cheap"] == tried(asked(hold_nusd=1), taken)
    assert {"cheap", "dear"} == set(tried(asked(hold_nusd=10**12), taken))


def test_adapter_is_served_by_who_has_it() -> None:
    places = [place("plain"), place("tuned", adapters=("law",))]

    assert ["tuned"] == tried(asked(adapter="law"), places)


def test_rest_ends_by_itself() -> None:
    places = [place("up"), place("down", rest_s=3.0), place("asked", rest_s=math.inf)]

    assert {"up"} == set(tried(asked(), places, age_s=2.9))
    assert {"up", "down"} == set(tried(asked(), places, age_s=3.0))


def refusal(features: Features, *places: Candidate) -> Any:
    found = decided(features, places)
    return none_available(found.snapshot, features, found.eligible)


def test_parameters_alone_make_it_the_clients_fault() -> None:
    error = refusal(asked(("top_logprobs>5", "tools")), place("one"), place("two"))

    assert (Reason.UNSUPPORTED_PARAMETER, "top_logprobs") == (error.reason, error.metadata["param"])


def test_image_is_named_by_the_field_it_came_in() -> None:
    assert "messages" == refusal(asked(("image_url",)), place("one")).metadata["param"]


@pytest.mark.parametrize(("rest_s", "retry"), [(3.0, "3"), (0.2, "1"), (math.inf, "1")])
def test_mixed_reasons_are_counted(rest_s: float, retry: str) -> None:
    error = refusal(
        asked(("n",), is_external_allowed=False),
        place("far", type=EXTERNAL),
        place("plain"),
        place("down", features=frozenset({"n"}), rest_s=rest_s),
    )

    assert Reason.NO_PROVIDERS_AVAILABLE == error.reason
    assert {"excluded": "external=1,health=1,parameters=1", "retry_after_s": retry} == (
        error.metadata
    )


def test_sessions_share_what_was_found_and_much_variety_is_bounded() -> None:
    taken = decided(asked(), [place("a"), place("b")]).snapshot
    for number in range(3 * KEPT_SELECTIONS_MAX):
        tried(asked(sticky_key=f"session {number}"), taken)
    assert 1 == len(taken.remembered)

    for number in range(3 * KEPT_SELECTIONS_MAX):
        tried(asked(input_pusd_per_token_max=100 + number, output_pusd_per_token_max=200), taken)
    assert len(taken.remembered) <= KEPT_SELECTIONS_MAX
