"""Constraints on a real Triton: its model keeps to a choice and knows no other kind."""

from typing import Any

import pytest

from services.router.constraints import constraint_of
from services.router.providers.port import Call, Failure
from tests.fixtures.triton import Triton
from tests.integration.router.triton_calls import (
    Open,
    Transport,
    a_body,
    a_call,
    failure_of,
    opener,
    run,
)

pytestmark = pytest.mark.timeout(180)
CHOICES = ["salt comes from rock", "ñandú", "yes", "yesterday"]


@pytest.fixture(params=["grpc", "http"])
def open_model(triton: Triton, request: pytest.FixtureRequest) -> Open:
    chosen: Transport = request.param
    return opener(triton, chosen)


def constrained_call(**changes: Any) -> tuple[Call, Any]:
    body = a_body(seed=changes.pop("seed", 1), **changes)
    return a_call(constraint=constraint_of(body), max_tokens=60), body


@pytest.mark.parametrize("choices", [CHOICES, CHOICES[1:2]])
async def test_triton_answers_with_one_of_the_choices(open_model: Open, choices: list[str]) -> None:
    async with open_model() as provider:
        outcomes = [
            await run(provider, *constrained_call(guided_choice=choices, seed=seed, temperature=2))
            for seed in range(6)
        ]

    assert {outcome.text for outcome in outcomes} <= set(choices)
    assert {"stop"} == {outcome.batches[-1].finish.finish_reason for outcome in outcomes}


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_json": {"type": "object"}},
        {"guided_regex": "a+"},
        {"guided_grammar": 'root ::= "a"'},
        {"response_format": {"type": "json_object"}},
        {"structural_tag": {"type": "structural_tag", "format": {"type": "any_text"}}},
    ],
)
async def test_triton_that_does_not_know_a_kind_is_no_route_for_it(
    open_model: Open, fields: dict[str, Any]
) -> None:
    async with open_model() as provider:
        error, batches = await failure_of(provider, *constrained_call(**fields))
        after = await run(provider, a_call(max_tokens=3), a_body(seed=3))

    assert (Failure.UNSUPPORTED, *fields) == (error.failure, error.param)
    assert [] == batches
    assert after.text
