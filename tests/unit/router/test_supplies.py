"""What usage events say of those who are owed for an answer, whatever becomes of the request."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from services.router.catalog_build import build
from services.router.catalog_file import parse
from services.router.pricing import PriceRow, charge_nusd
from services.router.providers.port import Failure, ProviderError
from services.router.supplies import FEE_BPS_DEFAULT, Supply
from services.router.usage_events import UsageEvent, recover, settle
from tests.unit.router import hedged
from tests.unit.router.key_rigs import KeyRig
from tests.unit.router.scripted import (
    COST,
    PRICE,
    SUPPLIES,
    Step,
    content,
    finish,
    open_rig,
    request,
    usage,
)
from turnpike.type.v1.usage_pb2 import TokenUsage

GOOD = [content("x"), finish(7, 3)]
DOWN = ProviderError(Failure.UNAVAILABLE, "It is down.", status=503)
CATALOGUE = """\
catalogue:
  providers:
    one: {kind: openai_compat, base_url: "http://127.0.0.1:9/v1"}
  models:
    vendor/model:
      context_length: 8192
      deployments:
        - name: one
          provider: one
          upstream_model: a
          price: {input_usd_per_million: 3, output_usd_per_million: 2}
"""


def cost_nusd(prompt: int, completion: int) -> int:
    return charge_nusd(COST, prompt_tokens=prompt, completion_tokens=completion)


def supplied(supply: Supply) -> UsageEvent:
    event = UsageEvent(request_id="r", kind=UsageEvent.KIND_INTENT)
    event.supply.CopyFrom(supply.message())
    return event


async def test_outcome_names_supplier_and_fee(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a-fee": [GOOD]}) as rig:
        await hedged.read(rig)
        (outcome,) = await rig.outcomes()

    assert ("acme", "a", 1_000, 0) == (
        outcome.supply.supplier_id,
        outcome.supply.provider,
        outcome.supply.fee_bps,
        outcome.supply.cost_nusd,
    )
    assert not outcome.supply.HasField("cost")


async def test_outcome_says_what_the_provider_is_owed(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a-cost": [GOOD]}) as rig:
        await hedged.read(rig)
        (outcome,) = await rig.outcomes()

    assert ("", "a", "cost-1") == (
        outcome.supply.supplier_id,
        outcome.supply.provider,
        outcome.supply.cost.price_id,
    )
    assert -(-(7 * 3_001 + 3 * 5_000) // 1_000) == outcome.supply.cost_nusd


async def test_owners_own_deployment_owes_nobody(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [GOOD]}) as rig:
        await hedged.read(rig)
        (outcome,) = await rig.outcomes()

    assert not outcome.HasField("supply")


@pytest.mark.parametrize("names", [("a-cost", "b"), ("b", "a-cost")])
async def test_who_answers_is_owed_and_not_who_failed(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    first, second = names

    async with open_rig(tmp_path, {first: [[DOWN]], second: [GOOD]}) as rig:
        await hedged.read(rig)
        (outcome,) = await rig.outcomes()

    assert second == outcome.deployment
    assert (second == "a-cost") == outcome.HasField("supply")
    assert (cost_nusd(7, 3) if second == "a-cost" else 0) == outcome.supply.cost_nusd


async def test_who_brings_a_key_pays_the_provider_and_nobody_is_owed(tmp_path: Path) -> None:
    keys = KeyRig()
    ring = keys.ring()
    await keys.put(ring, "account-1", "a", "sk-own-canary-0123456789")

    async with open_rig(tmp_path, {"a-cost": [GOOD, GOOD]}, own_keys=ring) as rig:
        await hedged.read(rig)
        await hedged.read(rig, request(account_id="account-2"))
        own, usual = await rig.outcomes()

    assert (True, False) == (own.is_byok, own.HasField("supply"))
    assert (False, cost_nusd(7, 3)) == (usual.is_byok, usual.supply.cost_nusd)


async def test_call_that_was_given_up_says_what_it_cost_the_operator(tmp_path: Path) -> None:
    slow = hedged.slow(content("late"), finish())
    scripts: dict[str, Sequence[Step]] = {"a-cost": slow, "b": hedged.QUICK}

    async with hedged.ready(tmp_path, scripts) as rig:
        await hedged.read(rig)
        mine, others = await hedged.ended(rig)

    (lost,) = others
    assert ("b", False) == (mine.deployment, mine.HasField("supply"))
    assert ("a-cost", 0) == (lost.deployment, lost.charge_nusd)
    used = lost.usage
    expected = cost_nusd(used.prompt_token_count, used.completion_token_count)
    assert expected == lost.supply.cost_nusd > 0


def test_dead_routers_request_costs_what_its_last_checkpoint_used() -> None:
    checkpoint = supplied(SUPPLIES["cost"])
    checkpoint.usage.CopyFrom(usage(11, 4))

    (found,) = recover([checkpoint.SerializeToString()], now_unix_ms=9)

    assert UsageEvent.OUTCOME_RECOVERED == found.outcome
    assert cost_nusd(11, 4) == found.supply.cost_nusd


@pytest.mark.parametrize(
    ("outcome", "used", "expected_nusd"),
    [
        (UsageEvent.OUTCOME_COMPLETED, (7, 3), cost_nusd(7, 3)),
        (UsageEvent.OUTCOME_INVALID_OUTPUT, (7, 3), cost_nusd(7, 3)),
        (UsageEvent.OUTCOME_CLIENT_CLOSED, (7, 0), cost_nusd(7, 0)),
        (UsageEvent.OUTCOME_CLIENT_CLOSED, (0, 0), 0),
        (UsageEvent.OUTCOME_REFUSED, (0, 0), 0),
    ],
)
def test_cost_follows_what_the_upstream_counted(
    outcome: UsageEvent.Outcome.ValueType, used: tuple[int, int], expected_nusd: int
) -> None:
    event = supplied(SUPPLIES["cost"])

    settle(event, PRICE, usage(*used), outcome)

    assert expected_nusd == event.supply.cost_nusd


def test_request_that_nobody_answered_costs_no_request_fee() -> None:
    event = supplied(Supply("a", cost=PriceRow("c", 1, 1, 5_000_000)))

    settle(event, PRICE, TokenUsage(), UsageEvent.OUTCOME_UPSTREAM_FAILED)

    assert 0 == event.supply.cost_nusd


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("supplier: acme", Supply("one", "acme", None, FEE_BPS_DEFAULT)),
        ("supplier: acme\n          fee_bps: 0", Supply("one", "acme", None, 0)),
        ("supplier: acme\n          fee_bps: 10000", Supply("one", "acme", None, 10_000)),
    ],
)
def test_catalogue_names_a_supplier(terms: str, expected: Supply) -> None:
    text = CATALOGUE + f"          {terms}\n"

    (model,) = build(parse(text, variables={}), generation=1).models

    assert expected == model.deployments[0].supply


@pytest.mark.parametrize("supplier", ["", "acme"])
def test_catalogue_names_a_cost(supplier: str) -> None:
    cost = "cost: {input_usd_per_million: 1, output_usd_per_million: 0.5}"
    text = CATALOGUE + f"          {cost}\n          supplier: '{supplier}'\n"

    (model,) = build(parse(text, variables={}), generation=1).models

    supply = model.deployments[0].supply
    assert supply is not None
    assert supply.cost is not None
    assert (supplier, 0) == (supply.supplier_id, supply.fee_bps)
    assert (1_000_000, 500_000) == (
        supply.cost.input_pusd_per_token,
        supply.cost.output_pusd_per_token,
    )


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ("fee_bps: 5", "fee_bps needs a supplier"),
        ("supplier: a\n          fee_bps: 10001", "less than or equal to 10000"),
        ("supplier: a\n          fee_bps: -1", "greater than or equal to 0"),
        ("supplier: 'a:b'", "pattern"),
        ("supplier: a\n          fee_bps: 5\n          cost: {unit: image, unit_usd: 1}",
         "fee_bps needs a supplier that has no cost row"),
        ("cost: {unit: image, unit_usd: 1}", "cost is for another unit than price"),
    ],
)  # fmt: skip
def test_terms_that_do_not_fit_are_refused_by_name(terms: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(CATALOGUE + f"          {terms}\n", variables={})
