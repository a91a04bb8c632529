"""Which parameters a body uses, what it wants of its route, and what nobody knows."""

import json
from typing import Any

import pytest

from gateway.call import ModelCall
from gateway.openai.envelope import read_chat
from gateway.openai.presets import Preset
from gateway.openai.schema import decode_fields
from kit.errors import Reason, TurnpikeError
from tests.fixtures.rules import NEW_ID as MINTED
from tests.fixtures.rules import rules as rules_of
from turnpike.router.v1 import router_pb2

PAST = "0199c82c-c400-7000-8000-000000000001"
FUTURE = "0199c82d-c400-7000-8000-000000000001"


def read(*, dialect: str = "openai", rules: dict[str, Any] | None = None, **more: Any) -> ModelCall:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]} | more
    return read_chat(json.dumps(body).encode(), rules_of(dialect, **rules or {}))


def refusal(**more: Any) -> tuple[Reason, str | None]:
    with pytest.raises(TurnpikeError) as caught:
        read(**more)
    return caught.value.reason, caught.value.metadata.get("param")


@pytest.mark.parametrize(
    ("fields", "features"),
    [
        ({}, ()),
        ({"temperature": 1.5}, ("temperature>1",)),
        ({"tools": []}, ()),
        ({"tools": [{"type": "function"}], "tool_choice": "auto"}, ("tools",)),
        ({"tool_choice": "required"}, ("tool_choice",)),
        ({"parallel_tool_calls": True}, ()),
        ({"parallel_tool_calls": False}, ("parallel_tool_calls",)),
        ({"logprobs": True, "top_logprobs": 0}, ("logprobs",)),
        ({"logprobs": True, "top_logprobs": 5}, ("logprobs", "top_logprobs")),
        (
            {"logprobs": True, "top_logprobs": 6},
            ("logprobs", "top_logprobs", "top_logprobs>5"),
        ),
        ({"n": 1}, ()),
        ({"n": 2}, ("n",)),
        ({"frequency_penalty": 0, "presence_penalty": 0.0}, ()),
        ({"frequency_penalty": 1}, ("frequency_penalty",)),
        ({"presence_penalty": -1}, ("presence_penalty",)),
        ({"logit_bias": {}}, ()),
        ({"logit_bias": {"5": -100}}, ("logit_bias",)),
        ({"stop": "x"}, ("stop",)),
        ({"stop": ["a", "b", "c", "d", "e"]}, ("stop", "stop>4")),
        ({"modalities": ["text"]}, ()),
        ({"modalities": ["text", "audio"], "audio": {"voice": "x"}}, ("modalities", "audio")),
        ({"top_k": 5}, ("top_k",)),
        ({"seed": 5, "user": "u", "metadata": {}, "service_tier": "auto", "store": False}, ()),
    ],
)
def test_semantic_parameters_are_features(
    fields: dict[str, Any], features: tuple[str, ...]
) -> None:
    assert features == read(**fields).features


def test_unknown_fields_are_named_and_go_on() -> None:
    call = read(zebra=1, apple=2, seed=3)

    assert ("apple", "zebra") == call.unknown_fields
    assert {"zebra", "apple"} <= call.fields.keys()


@pytest.mark.parametrize(
    "name",
    ["max_input_price_per_milion", "routing_stategy", "guided_jsn", "max_token", "allow_externl"],
)
def test_slip_of_the_pen_in_a_field_that_guards_is_refused(name: str) -> None:
    assert (Reason.UNSUPPORTED_PARAMETER, name) == refusal(**{name: 1})


def test_strict_keys_take_known_fields_only() -> None:
    strict = {"is_strict": True}

    assert (Reason.UNSUPPORTED_PARAMETER, "zebra") == refusal(rules=strict, zebra=1)
    assert "top_k" in read(rules=strict, top_k=3).features


def test_names_that_are_no_names_and_too_many_of_them_are_refused() -> None:
    assert Reason.INVALID_VALUE == refusal(**{"x" * 129: 1})[0]
    assert Reason.INVALID_VALUE == refusal(**{"x\n": 1})[0]
    assert Reason.INVALID_VALUE == refusal(**{f"unknown-{n}": 1 for n in range(65)})[0]


def routing(**fields: Any) -> router_pb2.Routing:
    wish = read(**fields).routing
    assert wish is not None
    return wish


def test_wishes_for_a_route_are_read_and_not_sent_on() -> None:
    wishes: dict[str, Any] = {
        "routing_strategy": "cheapest",
        "allow_external": True,
        "max_input_price_per_million": 15,
        "max_output_price_per_million": 60.0,
        "timeout_ms": 5000,
    }

    wish = routing(**wishes)

    assert router_pb2.STRATEGY_CHEAPEST == wish.strategy
    assert (True, 150_000, 600_000) == (
        wish.is_external_allowed,
        wish.input_pusd_per_token_max,
        wish.output_pusd_per_token_max,
    )
    assert {"model", "messages"} == read(**wishes).fields.keys()


def test_request_that_wants_nothing_has_no_wish() -> None:
    assert read().routing is None
    assert not routing(routing_strategy="fastest").HasField("is_external_allowed")
    assert routing(dialect="vram", routing_strategy="cheapest").is_ranked_by_sum


@pytest.mark.parametrize(
    ("fields", "reason", "param"),
    [
        ({"routing_strategy": "best"}, Reason.INVALID_VALUE, "routing_strategy"),
        ({"routing_strategy": 1}, Reason.INVALID_VALUE, "routing_strategy"),
        ({"allow_external": "yes"}, Reason.INVALID_VALUE, "allow_external"),
        (
            {"max_input_price_per_million": 5},
            Reason.PRICE_CEILING_INCOMPLETE,
            "max_output_price_per_million",
        ),
        (
            {"max_output_price_per_million": 5},
            Reason.PRICE_CEILING_INCOMPLETE,
            "max_input_price_per_million",
        ),
        (
            {"max_input_price_per_million": -1, "max_output_price_per_million": 5},
            Reason.INVALID_VALUE,
            "max_input_price_per_million",
        ),
        (
            {"max_input_price_per_million": 1, "max_output_price_per_million": 0.5},
            Reason.INVALID_VALUE,
            "max_output_price_per_million",
        ),
        ({"episode_id": "x"}, Reason.INVALID_VALUE, "episode_id"),
        (
            {"tensorzero::episode_id": "5f0c2b1e-0f62-4c2e-9d0a-0b5b0c1d2e3f"},
            Reason.INVALID_VALUE,
            "tensorzero::episode_id",
        ),
        ({"episode_id": FUTURE}, Reason.INVALID_VALUE, "episode_id"),
        ({"rules": {"episode_id": "x"}}, Reason.INVALID_VALUE, "X-Episode-Id"),
        (
            {"rules": {"episode_id": MINTED}, "episode_id": PAST},
            Reason.INVALID_VALUE,
            "episode_id",
        ),
        ({"session_id": "x" * 513}, Reason.INVALID_VALUE, "session_id"),
    ],
)
def test_wishes_that_cannot_be_are_refused(
    fields: dict[str, Any], reason: Reason, param: str
) -> None:
    assert (reason, param) == refusal(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"episode_id": PAST},
        {"tensorzero::episode_id": PAST.upper()},
        {"rules": {"episode_id": PAST}},
        {"rules": {"episode_id": PAST}, "episode_id": PAST},
    ],
)
def test_episode_is_sticky_and_shown(fields: dict[str, Any]) -> None:
    call = read(**fields)

    assert PAST == call.episode_id
    assert call.routing is not None
    assert PAST == call.routing.sticky_key
    assert {"episode_id": PAST} == json.loads(call.answer_defaults)
    assert "episode_id" not in call.fields


def test_bud_always_has_an_episode_and_shows_what_is_empty() -> None:
    call = read(dialect="bud")

    assert MINTED == call.episode_id
    assert call.routing is None
    assert {"episode_id": MINTED, "system_fingerprint": "", "service_tier": ""} == json.loads(
        call.answer_defaults
    )


@pytest.mark.parametrize("name", ["session_id", "prompt_cache_key"])
def test_sessions_stick_too(name: str) -> None:
    fields: dict[str, Any] = {name: "s-1"}

    call = read(**fields)

    assert call.routing is not None
    assert "s-1" == call.routing.sticky_key
    assert (name == "prompt_cache_key") == (name in call.fields)


PRESET = Preset(
    "m1",
    decode_fields(
        b'{"temperature":0.2,"max_tokens":9,"messages":[{"role":"system","content":"S"}]}'
    ),
    frozenset({"max_tokens"}),
)


def test_function_lays_its_fields_under_the_requests_own() -> None:
    name = "tensorzero::function_name::draft"

    call = read(rules={"presets": {"draft": PRESET}}, model=name, max_tokens=5)

    assert (name, 5) == (call.model, call.asked_max_tokens)
    assert b"0.2" == bytes(call.fields["temperature"])
    assert ["system", "user"] == [m["role"] for m in json.loads(bytes(call.fields["messages"]))]


def test_function_keeps_to_itself_what_is_not_overridable() -> None:
    rules = {"presets": {"draft": PRESET}}
    name = "turnpike::function_name::draft"

    assert (Reason.INVALID_VALUE, "temperature") == refusal(rules=rules, model=name, temperature=1)
    assert (Reason.FUNCTION_NOT_FOUND, "model") == refusal(
        rules=rules, model="turnpike::function_name::none"
    )
