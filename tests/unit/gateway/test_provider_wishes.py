"""OpenRouter's `provider` object as wishes of a route."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.openai.envelope import read_chat
from gateway.openai.schema import encode
from kit.errors import Reason, TurnpikeError
from tests.fixtures.catalogues import chat
from tests.fixtures.rules import rules
from turnpike.router.v1 import router_pb2


def routing(provider: Any, **more: Any) -> router_pb2.Routing:
    call = read_chat(encode(chat(provider=provider, **more)), rules())
    assert "provider" not in call.fields
    return call.routing or router_pb2.Routing()


@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        ({"order": ["b", "a"]}, {"preferred": ["b", "a"]}),
        ({"only": ["a"], "ignore": ["b"]}, {"only": ["a"], "ignored": ["b"]}),
        ({"allow_fallbacks": False}, {"has_no_fallback": True}),
        ({"allow_fallbacks": True}, {}),
        ({"require_parameters": True}, {}),
        ({"sort": "price"}, {"strategy": router_pb2.STRATEGY_CHEAPEST}),
        ({"sort": {"by": "latency"}}, {"strategy": router_pb2.STRATEGY_FASTEST}),
        ({"sort": "throughput"}, {"strategy": router_pb2.STRATEGY_FASTEST}),
        ({"zdr": True, "data_collection": "deny"}, {"facts": ["zdr", "no_data_collection"]}),
        ({"data_collection": "allow", "zdr": False}, {}),
        ({"quantizations": ["fp8", "bf16"]}, {"facts": ["quantization:fp8|bf16"]}),
        ({"max_price": {"prompt": 1}}, {"input_pusd_per_token_max": 1_000_000}),
        ({"max_price": {"completion": "0.25"}}, {"output_pusd_per_token_max": 250_000}),
        ({"max_price": {"request": 0.002}}, {"request_pusd_max": 2_000_000_000}),
        ({"max_price": {"prompt": "0.0000019"}}, {"input_pusd_per_token_max": 1}),
        ({}, {}),
    ],
)
def test_member_is_a_wish(provider: Any, wanted: dict[str, Any]) -> None:
    assert routing(provider) == router_pb2.Routing(**wanted)


@pytest.mark.parametrize(
    ("provider", "param"),
    [
        ({"sort": "exacto"}, "provider.sort"),
        ({"max_price": {"prompt": "cheap"}}, "provider.max_price.prompt"),
        ({"max_price": {"prompt": -1}}, "provider.max_price.prompt"),
        ({"max_price": {"prompt": "NaN"}}, "provider.max_price.prompt"),
        ({"max_price": {"completion": 1e9}}, "provider.max_price.completion"),
        ({"max_price": {"image": 1}}, "provider.max_price.image"),
        ({"order": "a"}, "provider.order"),
        ({"order": ["x"] * 33}, "provider.order"),
        ({"quantizations": ["fp8|x"]}, "provider.quantizations"),
        ({"enforce_distillable_text": True}, "provider.enforce_distillable_text"),
        ({"data_collection": "maybe"}, "provider.data_collection"),
        ("openai", "provider"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(provider: Any, param: str) -> None:
    with pytest.raises(TurnpikeError) as caught:
        routing(provider)

    assert caught.value.reason in (Reason.INVALID_VALUE, Reason.UNSUPPORTED_PARAMETER)
    assert caught.value.metadata["param"].startswith(param)


def test_two_names_for_one_wish_must_agree() -> None:
    agreed = routing({"sort": "price"}, routing_strategy="cheapest")

    assert agreed.strategy == router_pb2.STRATEGY_CHEAPEST
    for more, param in (
        ({"routing_strategy": "fastest"}, "provider.sort"),
        (
            {"max_input_price_per_million": 1, "max_output_price_per_million": 1},
            "provider.max_price",
        ),
    ):
        with pytest.raises(TurnpikeError) as caught:
            routing({"sort": "price", "max_price": {"prompt": 1}}, **more)
        assert caught.value.metadata["param"] == param


def test_what_is_merely_preferred_is_told() -> None:
    provider = {"preferred_min_throughput": 50, "preferred_max_latency": {"p90": 2}}
    body = encode(chat(provider={**provider, "require_parameters": False}))

    call = read_chat(body, rules())

    assert call.ignored == (
        "provider.preferred_min_throughput",
        "provider.preferred_max_latency",
        "provider.require_parameters",
    )


@given(st.decimals(0, 1_000_000, places=9, allow_nan=False, allow_infinity=False))
def test_a_ceiling_is_never_raised_by_rounding(usd: Any) -> None:
    found = routing({"max_price": {"prompt": str(usd)}}).input_pusd_per_token_max

    assert found <= usd * 1_000_000 < found + 1
