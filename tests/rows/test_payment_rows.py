"""Both rails: credentials, payment events, receipts, and that a bill and a route are the same."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.fakes.machine_payments import CHANNEL, decoded
from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fakes.openai_upstream import OpenAiUpstream, open_openai_upstream
from tests.fixtures.catalogues import price_nusd
from tests.fixtures.gateway import Key, OpenSite, Wish, until
from tests.fixtures.machine import ENOUGH, MachineSite, events_of, open_machine_site
from tests.integration.gateway.wire import answer_of
from tests.rows.request_cases import USER
from tests.rows.site import catalogue
from tests.rows.table import PREFIXES
from turnpike.metering.v1 import metering_pb2
from turnpike.payment.v1 import machine_pb2 as pb
from turnpike.router.v1 import route_pb2

BODY: dict[str, Any] = {"model": "sea", "messages": [USER], "stream": False}
LONG: dict[str, Any] = {
    "model": "twice",
    "messages": [{"role": "user", "content": "shape=c16-d5"}],
    "stream": True,
    "max_tokens": 64,
}
PAYER = Key(f"tempo:{CHANNEL}", f"tempo:{CHANNEL}", "")
DEAR = {"input_usd_per_million": "3", "output_usd_per_million": "9"}
ENGINES = ("openai", "vllm", "sglang", "trtllm")


@pytest.fixture
async def model() -> AsyncIterator[OpenAiModel]:
    async with open_openai_model() as opened:
        yield opened


@pytest.fixture
async def slow() -> AsyncIterator[OpenAiUpstream]:
    async with open_openai_upstream() as opened:
        yield opened


@pytest.fixture
async def machine(open_site: OpenSite, model: OpenAiModel, slow: OpenAiUpstream) -> MachineSite:
    """A site with the rail on; `twice` streams slowly from two deployments."""
    found = catalogue(model)
    usual = found["providers"]["open"]
    found["providers"]["slow"] = {**usual, "base_url": slow.base_url}
    entry = found["models"]["sea-vllm"]
    (deployment,) = entry["deployments"]
    found["models"]["twice"] = {
        **entry,
        "deployments": [
            {**deployment, "name": "one", "provider": "slow", "price": DEAR},
            {**deployment, "name": "other", "provider": "slow"},
        ],
    }
    for engine in ENGINES:
        found["providers"][engine] = {**usual, "engine": engine}
        here = {**deployment, "name": f"{engine}-here", "provider": engine}
        found["models"][f"by-{engine}"] = {**entry, "deployments": [here]}
    wish = Wish(catalogue=found)
    return await open_machine_site(open_site, wish, slice_tokens=4, voucher_wait_s=0.3)


async def stream_of(machine: MachineSite, *, is_paying: bool) -> list[Any]:
    """Return the events of a stream whose first slice alone is covered at first."""
    challenge = await machine.challenge(LONG)
    units = -(-machine.rail.terms[challenge].slice_nusd // 1000)
    seen = []
    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        async for event in events_of(response):
            seen.append(event)
            if event.name == "payment-need-voucher" and is_paying:
                await machine.voucher(int(event.data["requiredCumulative"]))
    return seen


@pytest.mark.parametrize("prefix", PREFIXES.values())
async def test_e7_payment_credential_opens_every_prefix(machine: MachineSite, prefix: str) -> None:
    path = f"{prefix}/chat/completions"

    bought = await machine.paid(BODY, path=path)
    both = await machine.send(BODY, f"open.{CHANNEL}.1.x", path=path, **{"x-api-key": "sk-tp-a"})

    assert (200, 400) == (bought.status, both.status)


async def test_e8_same_url_takes_a_key_or_a_payment_and_decides_alike(
    machine: MachineSite,
) -> None:
    key = await machine.site.key()
    body = {**LONG, "stream": False, "routing_strategy": "cheapest"}

    by_key = await answer_of(machine.site.post(key, body))
    by_payer = await machine.paid(body)

    assert (200, 200) == (by_key.status, by_payer.status)
    decisions = [await decision_of(machine, answer) for answer in (by_key, by_payer)]
    ours = [route_pb2.Decision.FromString(each.data) for each in decisions]
    for decision in ours:
        decision.ClearField("seed")
        decision.ClearField("age_s")
        decision.ClearField("snapshot_id")
        decision.ClearField("sticky_seed")
    assert ["other", "other"] == [decision.first for decision in ours]
    assert set() == differing(*ours)


async def decision_of(machine: MachineSite, answer: Any) -> metering_pb2.RouteDecision:
    """Return how an answer's deployment was chosen."""
    request = metering_pb2.ListRouteDecisionsRequest(request_id=answer.headers["X-Request-Id"])

    async def is_there() -> bool:
        return bool((await machine.site.metering.ListRouteDecisions(request)).decisions)

    await until(is_there)
    (found,) = (await machine.site.metering.ListRouteDecisions(request)).decisions
    return found


def differing(one: Message, other: Message) -> set[str]:
    """Return the fields in which two messages differ."""
    names = [field.name for field in one.DESCRIPTOR.fields]
    return {name for name in names if getattr(one, name) != getattr(other, name)}


async def test_t2_stream_that_needs_a_voucher_says_which(machine: MachineSite) -> None:
    seen = await stream_of(machine, is_paying=True)

    needs = [event.data for event in seen if event.name == "payment-need-voucher"]
    assert needs
    assert all(
        isinstance(need[name], str)
        for need in needs
        for name in ("channelId", "requiredCumulative", "acceptedCumulative")
    )
    assert "[DONE]" == seen[-1].data


async def test_t3_stream_without_the_voucher_ends(machine: MachineSite) -> None:
    seen = await stream_of(machine, is_paying=False)

    assert "voucher_timeout" == seen[-1].data["error"]["code"]
    assert "[DONE]" not in [event.data for event in seen]


async def test_t4_stream_ends_with_its_receipt(machine: MachineSite) -> None:
    seen = await stream_of(machine, is_paying=True)

    receipt = seen[-2]
    assert "payment-receipt" == receipt.name
    assert {"challengeId", "method", "reference", "status"} <= set(receipt.data)
    assert ("tempo", "success") == (receipt.data["method"], receipt.data["status"])


async def test_t5_plain_answer_has_its_receipt_in_a_header(machine: MachineSite) -> None:
    answer = await machine.paid(BODY)

    receipt = decoded(answer.headers["Payment-Receipt"])
    assert ("ch-1", "tempo", "success") == (
        receipt["challengeId"],
        receipt["method"],
        receipt["status"],
    )


@pytest.mark.parametrize("prefix", PREFIXES.values())
async def test_t6_request_without_a_key_is_challenged(machine: MachineSite, prefix: str) -> None:
    answer = await machine.send(BODY, path=f"{prefix}/chat/completions")

    assert 402 == answer.status
    assert answer.headers["WWW-Authenticate"].startswith("Payment ")


@pytest.mark.parametrize(("dialect", "prefix"), PREFIXES.items())
async def test_x4_challenge_is_an_error_of_its_own_type(
    machine: MachineSite, dialect: str, prefix: str
) -> None:
    answer = await machine.send(BODY, path=f"{prefix}/chat/completions")

    error = answer.json["error"]
    assert ("payment_required", 402, "no-store") == (
        error["type"],
        answer.status,
        answer.headers["Cache-Control"],
    ), dialect


async def test_b1_prompt_and_completion_both_count_on_both_rails(machine: MachineSite) -> None:
    key = await machine.site.key()

    by_key = await answer_of(machine.site.post(key, BODY))
    await machine.paid(BODY)

    (record,) = await machine.site.settled(key, 1)
    usage = by_key.json["usage"]
    cost = price_nusd(usage["prompt_tokens"], usage["completion_tokens"])
    assert min(usage["prompt_tokens"], usage["completion_tokens"]) > 0
    assert cost == record.charge_nusd == machine.rail.channel.spent_nusd


async def test_b2_prices_are_published_to_who_may_pay(machine: MachineSite) -> None:
    async with machine.site.http.get(f"{machine.site.url}/v1/models") as response:
        models = {each["id"]: each for each in (await response.json())["data"]}

    assert ("0.15", "0.60") == (
        models["sea"]["pricing"]["input_usd_per_million"],
        models["sea"]["pricing"]["output_usd_per_million"],
    )


async def test_b3_payer_is_recorded_like_a_key(machine: MachineSite) -> None:
    key = await machine.site.key()

    await answer_of(machine.site.post(key, BODY))
    await machine.paid(BODY)

    await until(lambda: _has_records(machine, key, PAYER))
    (one,), (other,) = [await machine.site.records(each) for each in (key, PAYER)]
    assert differing(one, other) <= {
        "request_id",
        "account_id",
        "key_id",
        "start_time",
        "duration_ms",
        "ttft_ms",
        "episode_id",
    }
    assert PAYER.account_id == other.account_id


async def _has_records(machine: MachineSite, *keys: Key) -> bool:
    return all([await machine.site.records(key) for key in keys])


@pytest.mark.parametrize("engine", ENGINES)
async def test_b4_every_engine_is_sold_on_both_rails(machine: MachineSite, engine: str) -> None:
    body = {**BODY, "model": f"by-{engine}"}
    key = await machine.site.key()

    by_key = await answer_of(machine.site.post(key, body))
    by_payer = await machine.paid(body, ENOUGH)

    assert (200, 200) == (by_key.status, by_payer.status)
    concluded = machine.rail.of(pb.ConcludeRequest)[0]
    (record,) = await machine.site.settled(key, 1)
    assert record.charge_nusd == concluded.charge_nusd
