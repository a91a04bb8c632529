"""A payment credential beside a key, where that is allowed, and on the gRPC port: it is not."""

from typing import Any

import grpc
import pytest
from grpc import aio

from gateway.openai.schema import encode
from kit.errors import Reason
from tests.fakes.machine_payments import CHANNEL
from tests.fixtures.catalogues import chat
from tests.fixtures.gateway import OpenSite, Wish, until
from tests.fixtures.grpc_caller import SERVED, caller_of, told_by
from tests.fixtures.machine import CHAT, ENOUGH, MachineSite, open_machine_site
from tests.integration.gateway.wire import answer_of
from turnpike.payment.v1 import machine_pb2 as pb
from turnpike.router.v1 import router_pb2

PLAIN = chat("shape=c4-d0", max_tokens=8)


@pytest.fixture
async def machine(open_site: OpenSite) -> MachineSite:
    return await open_machine_site(open_site, payment_authorization_header=True)


async def test_key_without_credit_is_offered_to_pay_beside_it(machine: MachineSite) -> None:
    key = await machine.site.key(credit_nusd=0)

    refused = await answer_of(machine.site.post(key, PLAIN))

    body = refused.json
    assert 402 == refused.status
    assert ("insufficient_quota", "billing_error") == (
        body["error"]["code"],
        body["error"]["type"],
    )
    assert 2 == len(refused.headers.getall("WWW-Authenticate"))
    assert "Payment-Authorization" == machine.rail.of(pb.ChallengeRequest)[0].header


async def test_credential_beside_a_key_pays_and_the_key_is_untouched(machine: MachineSite) -> None:
    key = await machine.site.key(credit_nusd=0)
    challenge = (await answer_of(machine.site.post(key, PLAIN))).json["challengeId"]
    beside = {"Payment-Authorization": f"Payment open.{CHANNEL}.{ENOUGH}.{challenge}"}

    answer = await answer_of(machine.site.post(key, PLAIN, **beside))

    asked = machine.rail.of(pb.AuthorizeRequest)[0]
    assert 200 == answer.status, answer.body
    assert answer.headers["Payment-Receipt"]
    assert "Payment-Authorization" == asked.header
    assert machine.rail.channel.spent_nusd > 0
    assert [] == await machine.site.records(key)


@pytest.mark.parametrize("change", [{"models": ["acme/twice"]}, {"scopes": ["models"]}])
async def test_key_beside_a_credential_still_says_what_may_be_used(
    machine: MachineSite, change: dict[str, Any]
) -> None:
    key = await machine.site.key(**change)
    beside = {"Payment-Authorization": f"Payment open.{CHANNEL}.{ENOUGH}.ch-1"}

    answer = await answer_of(machine.site.post(key, PLAIN, **beside))

    assert answer.status in (403, 404)
    assert [] == machine.rail.calls


async def test_bad_key_beside_a_credential_is_401(machine: MachineSite) -> None:
    headers = {
        "Authorization": "Bearer sk-tp-wrong",
        "Payment-Authorization": f"Payment open.{CHANNEL}.{ENOUGH}.ch-1",
    }

    answer = await machine.send(PLAIN, **headers)

    assert (401, "invalid_api_key") == (answer.status, answer.error["code"])


@pytest.mark.parametrize(
    "headers",
    [
        {"Payment-Authorization": "Bearer x"},
        {"Payment-Authorization": "Payment a, Payment b"},
        {"Payment-Authorization": "Payment a", "Authorization": "Payment b"},
    ],
)
async def test_two_payments_or_none_beside_are_refused(
    machine: MachineSite, headers: dict[str, str]
) -> None:
    answer = await machine.send(PLAIN, **headers)

    assert (400, "bad_request") == (answer.status, answer.error["code"])


async def test_credential_in_its_own_header_needs_no_key(machine: MachineSite) -> None:
    challenge = await machine.challenge(PLAIN)
    beside = {"Payment-Authorization": f"Payment open.{CHANNEL}.{ENOUGH}.{challenge}"}

    answer = await machine.send(PLAIN, **beside)

    assert 200 == answer.status


async def test_voucher_comes_beside_a_key_as_well(machine: MachineSite) -> None:
    await machine.paid(PLAIN)
    key = await machine.site.key()
    headers = {**key.headers, "Payment-Authorization": f"Payment voucher.{CHANNEL}.{ENOUGH}.x"}

    answer = await answer_of(machine.site.http.post(machine.site.url + CHAT, headers=headers))

    assert 204 == answer.status


async def test_header_is_not_looked_at_where_it_is_off(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site)
    key = await machine.site.key()

    answer = await answer_of(
        machine.site.post(key, PLAIN, **{"Payment-Authorization": "Payment x"})
    )

    assert 200 == answer.status
    assert [] == machine.rail.calls
    await machine.site.settled(key, 1)


async def test_challenges_that_cannot_be_had_leave_the_refusal_as_it_is(
    machine: MachineSite,
) -> None:
    key = await machine.site.key(credit_nusd=0)
    machine.site.board.broken.add("turnpike.payment.v1.MachinePaymentService")

    answer = await answer_of(machine.site.post(key, PLAIN))

    assert (402, "insufficient_quota") == (answer.status, answer.error["code"])


@pytest.mark.parametrize(
    ("metadata", "code", "reason"),
    [
        (
            {"authorization": "Payment abc"},
            grpc.StatusCode.INVALID_ARGUMENT,
            Reason.PAYMENT_METHOD_UNSUPPORTED,
        ),
        ({}, grpc.StatusCode.UNAUTHENTICATED, Reason.INVALID_API_KEY),
    ],
)
async def test_grpc_port_takes_no_payment(
    open_site: OpenSite, metadata: dict[str, str], code: grpc.StatusCode, reason: Reason
) -> None:
    machine = await open_machine_site(open_site, Wish(gateway=SERVED))

    async with caller_of(machine.site) as router:
        request = router_pb2.RunRequest(body=encode(PLAIN))
        told = await told_by(router.Run(request, metadata=tuple(metadata.items()), timeout=10))

    assert (code, reason) == (told.code, told.reason)
    assert [] == machine.rail.calls
    await until(lambda: machine.site.gateway.deps.running.count == 0)


async def test_grpc_port_lets_nobody_end_a_request(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway=SERVED))

    async with caller_of(site) as router:
        with pytest.raises(aio.AioRpcError) as refused:
            await router.EndRun(router_pb2.EndRunRequest(request_id="any"), timeout=10)

    assert grpc.StatusCode.UNIMPLEMENTED == refused.value.code()
