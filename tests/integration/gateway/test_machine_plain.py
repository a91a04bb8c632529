"""Rows E7, T5, T6 and X4: plain answers that a request pays for by itself, and what asks for it."""

from typing import Any

import pytest

from tests.fakes.machine_payments import CHANNEL, PAYER, decoded
from tests.fixtures.catalogues import FREE, chat, price_nusd
from tests.fixtures.gateway import OpenSite
from tests.fixtures.machine import ENOUGH, MachineSite, open_machine_site
from turnpike.payment.v1 import machine_pb2 as pb

PLAIN = chat("shape=c16-d0", max_tokens=32)


@pytest.fixture
async def machine(open_site: OpenSite) -> MachineSite:
    return await open_machine_site(open_site)


async def test_t6_request_without_a_key_is_told_how_to_pay(machine: MachineSite) -> None:
    answer = await machine.send(
        PLAIN, **{"Accept-Payment": "tempo/session", "Payment-Session": "0x1"}
    )

    challenges = answer.headers.getall("WWW-Authenticate")
    asked = machine.rail.of(pb.ChallengeRequest)[0]
    assert 402 == answer.status
    assert 2 == len(challenges)
    assert all(challenge.startswith("Payment id=") for challenge in challenges)
    assert ("application/problem+json", "no-store") == (
        answer.headers["Content-Type"],
        answer.headers["Cache-Control"],
    )
    assert "POST /v1/chat/completions acme/small" == asked.terms.resource
    assert ("tempo/session", "0x1") == (asked.accept_payment, asked.session_hint)
    assert asked.terms.hold_nusd == asked.terms.slice_nusd > price_nusd(1, 31)


async def test_x4_refusal_is_a_problem_and_an_openai_error_in_one(machine: MachineSite) -> None:
    answer = await machine.send(PLAIN)

    body = answer.json
    error = body.pop("error")
    assert {
        "type": "https://paymentauth.org/problems/payment-required",
        "title": "Payment required",
        "status": 402,
        "detail": "Payment says no.",
        "challengeId": "ch-1",
        "requiredTopUp": "17",
    } == body
    assert ("payment_required", "payment_required") == (error["type"], error["code"])
    assert "Payment-Receipt" not in answer.headers


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "acme/small"}, 400, "missing_field"),
        ({**PLAIN, "temperature": 9}, 400, "invalid_value"),
        ({**PLAIN, "model": "nobody/nothing"}, 404, "model_not_found"),
    ],
)
async def test_body_and_model_are_checked_before_payment(
    machine: MachineSite, body: Any, status: int, code: str
) -> None:
    answer = await machine.send(body)

    assert (status, code) == (answer.status, answer.error["code"])
    assert [] == machine.rail.calls


async def test_e7_payment_credential_buys_an_answer(machine: MachineSite) -> None:
    answer = await machine.paid(PLAIN)

    concluded = machine.rail.of(pb.ConcludeRequest)[0]
    assert 200 == answer.status
    assert concluded.charge_nusd == price_nusd(12, 16)
    assert concluded.run_id == answer.headers["X-Request-Id"]
    assert (16, "ch-1") == (concluded.unit_count, concluded.challenge_id)
    assert {} == machine.rail.channel.leases


async def test_t5_receipt_of_a_plain_answer_is_a_header(machine: MachineSite) -> None:
    answer = await machine.paid(PLAIN)

    receipt = decoded(answer.headers["Payment-Receipt"])
    assert (CHANNEL, "ch-1", "success") == (
        receipt["channelId"],
        receipt["challengeId"],
        receipt["status"],
    )
    assert "private" == answer.headers["Cache-Control"]


async def test_b1_charge_is_that_of_the_usage_event_and_of_the_payer(machine: MachineSite) -> None:
    answer = await machine.paid(PLAIN)

    usage = answer.json["usage"]
    cost = price_nusd(usage["prompt_tokens"], usage["completion_tokens"])
    assert cost == machine.rail.channel.spent_nusd
    assert "machine" == answer.headers["X-RateLimit-Tier"]


async def test_charge_has_its_receipt_before_the_answer(machine: MachineSite) -> None:
    body = chat("shape=c4-d0", stream=True)
    challenge = await machine.challenge(body)

    answer = await machine.send(body, f"charge.{PAYER}.{ENOUGH}.{challenge}")

    assert "0xpaid" == decoded(answer.headers["Payment-Receipt"])["reference"]
    assert "private" == answer.headers["Cache-Control"]


async def test_b2_anybody_may_look_at_models_and_prices(machine: MachineSite) -> None:
    http, url = machine.site.http, machine.site.url

    async with http.get(f"{url}/v1/models") as response:
        models = (await response.json())["data"]
    async with http.get(f"{url}/v1/models/{models[0]['id']}") as response:
        one = await response.json()

    assert 3 == len(models)
    assert models[0] == one
    assert all("pricing" in model for model in models)


async def test_model_list_takes_no_payment(machine: MachineSite) -> None:
    headers = {"Authorization": f"Payment open.{CHANNEL}.5.ch-1"}

    async with machine.site.http.get(f"{machine.site.url}/v1/models", headers=headers) as response:
        error = (await response.json())["error"]

    assert (400, "payment_method_unsupported") == (response.status, error["code"])


async def test_free_model_is_sold_for_the_smallest_amount(machine: MachineSite) -> None:
    answer = await machine.paid({**PLAIN, "model": FREE}, 1)

    assert 200 == answer.status
    assert 0 == machine.rail.channel.spent_nusd
    assert 1 == machine.rail.of(pb.AuthorizeRequest)[0].terms.hold_nusd


async def test_failure_26_captured_credential_buys_nothing_after_the_answer(
    machine: MachineSite,
) -> None:
    credential = await machine.credential(PLAIN, ENOUGH)

    first = await machine.send(PLAIN, credential)
    again = await machine.send(PLAIN, credential)

    assert (200, 402) == (first.status, again.status)
    assert again.json["type"].endswith("/invalid-challenge")
    assert 1 == len(machine.site.main.seen)


async def test_failure_35_gone_channel_says_so(machine: MachineSite) -> None:
    credential = await machine.credential(PLAIN, ENOUGH)
    await machine.paid(PLAIN)
    machine.rail.channel.is_closed = True

    answer = await machine.send(PLAIN, credential.replace("ch-1", await machine.challenge(PLAIN)))

    assert (410, "gone") == (answer.status, answer.json["error"]["code"])
    assert "WWW-Authenticate" not in answer.headers


async def test_failure_40_no_receipt_on_a_refusal_or_a_failure(machine: MachineSite) -> None:
    body = chat("fake=status:400")

    refused = await machine.send(PLAIN, await machine.credential(PLAIN, 0))
    failed = await machine.paid(body)

    assert [402, 400] == [refused.status, failed.status]
    assert "Payment-Receipt" not in {*refused.headers, *failed.headers}
    assert "no-store" == refused.headers["Cache-Control"]
    assert [0] == [call.charge_nusd for call in machine.rail.of(pb.ConcludeRequest)]
    assert {} == machine.rail.channel.leases
