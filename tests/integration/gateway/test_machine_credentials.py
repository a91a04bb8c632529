"""Row E7 and failures 25, 27, 36 and 41: which credentials are taken, and who sees them."""

import asyncio
import json
from typing import Any

import pytest

from tests.fakes.machine_payments import CHANNEL
from tests.fixtures.catalogues import chat
from tests.fixtures.gateway import OpenSite, Wish, until
from tests.fixtures.machine import (
    CHAT,
    ENOUGH,
    Event,
    MachineSite,
    events_of,
    open_machine_site,
)
from tests.integration.gateway.wire import answer_of, connected
from turnpike.events.v1 import events_pb2
from turnpike.payment.v1 import machine_pb2 as pb

PLAIN = chat("shape=c4-d0", max_tokens=8)
VOUCHER = f"voucher.{CHANNEL}.500.ch-9"


@pytest.fixture
async def machine(open_site: OpenSite) -> MachineSite:
    return await open_machine_site(open_site)


async def opened(machine: MachineSite) -> None:
    """Open the usual channel with enough in it."""
    assert 200 == (await machine.paid(PLAIN)).status
    machine.rail.calls.clear()


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer KEY"), ("Authorization", f"Payment {VOUCHER}")],
        [("Authorization", f"Payment {VOUCHER}"), ("Authorization", "Bearer KEY")],
        [("Authorization", f"Bearer KEY, Payment {VOUCHER}")],
        [("Authorization", f"Payment {VOUCHER}, Bearer KEY")],
        [("Authorization", f"Payment {VOUCHER}, Payment {VOUCHER}")],
        [("Authorization", f"Payment {VOUCHER}"), ("Authorization", f"payment {VOUCHER}")],
        [("Authorization", f"Payment {VOUCHER}"), ("x-api-key", "KEY")],
    ],
)
async def test_e7_several_credentials_are_refused(
    machine: MachineSite, headers: list[tuple[str, str]]
) -> None:
    key = await machine.site.key()
    sent = [(name, value.replace("KEY", key.secret)) for name, value in headers]

    answer = await answer_of(
        machine.site.http.post(machine.site.url + CHAT, json=PLAIN, headers=sent)
    )

    assert (400, "bad_request") == (answer.status, answer.error["code"])
    assert [] == machine.rail.calls


@pytest.mark.parametrize("value", ["Basic abc", "Bearer", "Bearer sk-tp-wrong", "Payments x"])
async def test_other_schemes_and_bad_keys_are_401_as_without_the_rail(
    machine: MachineSite, value: str
) -> None:
    answer = await answer_of(
        machine.site.http.post(
            machine.site.url + CHAT, json=PLAIN, headers={"Authorization": value}
        )
    )

    assert (401, "invalid_api_key") == (answer.status, answer.error["code"])
    assert [] == machine.rail.calls


async def test_key_pays_as_ever_while_the_rail_is_on(machine: MachineSite) -> None:
    key = await machine.site.key()

    answer = await answer_of(machine.site.post(key, PLAIN))
    poor = await answer_of(machine.site.post(await machine.site.key(credit_nusd=0), PLAIN))

    assert 200 == answer.status
    assert (402, "insufficient_quota") == (poor.status, poor.error["code"])
    assert "WWW-Authenticate" not in poor.headers
    assert "Payment-Receipt" not in answer.headers
    assert [] == machine.rail.calls
    await machine.site.settled(key, 1)


async def test_without_the_rail_a_payment_credential_is_no_key(open_site: OpenSite) -> None:
    site = await open_site()
    headers = {"Authorization": f"Payment {VOUCHER}"}

    answer = await answer_of(site.http.post(site.url + CHAT, json=PLAIN, headers=headers))
    got = await answer_of(site.http.get(site.url + CHAT, headers=headers))

    assert (401, 405) == (answer.status, got.status)
    assert "must be of the form Bearer" in answer.error["message"]


async def chunked(*pieces: bytes) -> Any:
    """A body without a length."""
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("POST", {}),
        ("POST", {"data": b""}),
        ("POST", {"data": b"", "headers": {"Content-Type": "application/json"}}),
        ("POST", {"chunked": True}),
        ("POST", {"chunked": True, "headers": {"Content-Type": "application/json"}}),
        ("HEAD", {}),
        ("GET", {}),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/api/v1/messages", "/v1/audio/transcriptions"])
async def test_failure_27_credential_without_a_body_never_reaches_a_model(
    machine: MachineSite, method: str, options: dict[str, Any], path: str
) -> None:
    await opened(machine)
    more = dict(options)
    headers = {**more.pop("headers", {}), "Authorization": f"Payment {VOUCHER}"}
    if more.pop("chunked", False):
        more["data"] = chunked()

    call = machine.site.http.request(method, machine.site.url + path, headers=headers, **more)
    answer = await answer_of(call)

    assert (204, b"") == (answer.status, answer.body)
    assert "private" == answer.headers["Cache-Control"]
    assert answer.headers["Payment-Receipt"]
    assert [pb.ManageRequest] == [type(call) for call in machine.rail.calls]
    assert VOUCHER == machine.rail.calls[0].credential
    assert 1 == len(machine.site.main.seen)


@pytest.mark.parametrize(
    ("method", "options", "status"),
    [
        ("GET", {"data": b"{}"}, 400),
        ("POST", {"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", {"chunked": True}, 400),
        (
            "POST",
            {"data": b" " * 5000 + b"{}", "headers": {"Content-Type": "application/json"}},
            413,
        ),
    ],
)
async def test_failure_27_body_is_content_whatever_is_in_it(
    open_site: OpenSite, method: str, options: dict[str, Any], status: int
) -> None:
    wish = Wish(gateway={"body_bytes_max": 4096})
    machine = await open_machine_site(open_site, wish)
    more = dict(options)
    headers = {**more.pop("headers", {}), "Authorization": f"Payment {VOUCHER}"}
    if more.pop("chunked", False):
        more["data"] = chunked(b"{", b"oops")
        headers["Content-Type"] = "application/json"

    call = machine.site.http.request(method, machine.site.url + CHAT, headers=headers, **more)
    answer = await answer_of(call)

    assert status == answer.status
    assert [] == machine.rail.calls


async def test_failure_27_chunked_content_is_bought_like_any_other(machine: MachineSite) -> None:
    credential = await machine.credential(PLAIN, ENOUGH)
    text = json.dumps(PLAIN).encode()
    headers = {"Authorization": f"Payment {credential}", "Content-Type": "application/json"}

    answer = await answer_of(
        machine.site.http.post(
            machine.site.url + CHAT, data=chunked(text[:9], text[9:]), headers=headers
        )
    )

    assert 200 == answer.status


async def test_chunked_body_that_does_not_come_is_given_up(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site, Wish(gateway={"body_timeout_s": 0.2}))
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        f"Authorization: Payment {VOUCHER}\r\n\r\n"
    )

    async with connected(machine.site.gateway.port) as client:
        await client.send(head.encode())
        answer = await client.answer()

    assert (408, "request_timeout") == (answer.status, answer.error["code"])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_other_methods_are_still_not_allowed_without_a_credential(
    machine: MachineSite, method: str
) -> None:
    call = machine.site.http.request(method, machine.site.url + CHAT)
    answer = await answer_of(call)

    assert (405, "POST") == (answer.status, answer.headers["Allow"])


async def test_refused_voucher_is_told_and_has_no_receipt(machine: MachineSite) -> None:
    await opened(machine)
    machine.rail.channel.is_closed = True

    answer = await machine.voucher(900)

    assert (410, "gone") == (answer.status, answer.json["error"]["code"])
    assert "Payment-Receipt" not in answer.headers


async def test_payment_that_is_away_takes_no_credential(machine: MachineSite) -> None:
    await opened(machine)
    machine.site.board.broken.add("turnpike.payment.v1.MachinePaymentService")

    answers = [
        await machine.voucher(900),
        await machine.send(PLAIN),
        await machine.send(PLAIN, VOUCHER),
    ]

    assert [(503, "ledger_unavailable", "1")] * 3 == [
        (one.status, one.error["code"], one.headers["Retry-After"]) for one in answers
    ]


@pytest.mark.parametrize(("size", "status"), [(60_000, 402), (70_000, 431)])
async def test_long_credentials_are_read_and_longer_ones_refused(
    machine: MachineSite, size: int, status: int
) -> None:
    credential = f"open.{CHANNEL}.5.{'x' * size}"

    answer = await machine.send(PLAIN, credential)

    assert status == answer.status


async def test_failure_25_same_credential_in_parallel_buys_once(machine: MachineSite) -> None:
    credential = await machine.credential(PLAIN, ENOUGH)

    answers = await asyncio.gather(*(machine.send(PLAIN, credential) for _ in range(50)))

    assert [200] + 49 * [402] == sorted(one.status for one in answers)
    assert 1 == len(machine.site.main.seen)
    assert 1 == len([one for one in answers if "Payment-Receipt" in one.headers])


async def test_failure_36_credential_of_another_route_or_model_buys_nothing(
    machine: MachineSite,
) -> None:
    credential = await machine.credential(PLAIN, ENOUGH)

    other_model = await machine.send({**PLAIN, "model": "acme/twice"}, credential)
    dearer = await machine.send({**PLAIN, "max_tokens": 900}, credential)
    same = await machine.send(PLAIN, credential)

    assert [402, 402, 200] == [other_model.status, dearer.status, same.status]


async def test_failure_41_credentials_are_in_no_log_metric_or_error(
    machine: MachineSite, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = "canary5f3a"
    good = f"open.{CHANNEL}.{ENOUGH}.{await machine.challenge(PLAIN)}"
    machine.rail.terms[canary] = machine.rail.terms.pop(good.rsplit(".", maxsplit=1)[-1])

    answers = [
        await machine.send(PLAIN, good.replace("ch-1", canary)),
        await machine.send(PLAIN, good.replace("ch-1", canary)),
        await machine.send(PLAIN, f"{canary}, Payment {canary}"),
        await machine.send({"model": "?"}, f"open.{CHANNEL}.1.{canary}"),
        await machine.send(PLAIN, f"bad-{canary}"),
    ]
    machine.site.board.broken.add("turnpike.payment.v1.MachinePaymentService")
    answers.append(await machine.send(PLAIN, f"open.{CHANNEL}.1.{canary}"))
    printed = "".join(capfd.readouterr())
    seen = machine.site.metrics() + json.dumps(machine.site.logged()) + printed
    seen += "".join(str(one.headers) + one.body.decode() for one in answers[1:])

    assert [200, 402, 400, 400, 503, 503] == [one.status for one in answers]
    assert canary not in seen


async def test_closed_channel_ends_its_streams(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site)
    body = chat("shape=c200-d20", stream=True)
    change = events_pb2.ChannelChanged(channel_id=CHANNEL, is_closed=True)

    async with machine.post(body, await machine.credential(body, ENOUGH)) as response:
        seen: list[Event] = []
        async for event in events_of(response):
            if not seen:
                await machine.site.bus.publish("payment.channel.v1", change.SerializeToString())
            seen.append(event)

    assert "gone" == seen[-1].data["error"]["code"]
    await until(lambda: machine.site.main.seen[0].is_over)


async def test_change_that_closes_nothing_ends_nothing(machine: MachineSite) -> None:
    body = chat("shape=c8-d20", stream=True)
    change = events_pb2.ChannelChanged(channel_id=CHANNEL)

    async with machine.post(body, await machine.credential(body, ENOUGH)) as response:
        await machine.site.bus.publish("payment.channel.v1", change.SerializeToString())
        seen = [event async for event in events_of(response)]

    assert "[DONE]" == seen[-1].data


async def test_limits_of_payers_are_counted_one_by_one(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site, requests_per_minute=1, tier="wallet")

    first = await machine.paid(PLAIN)
    second = await machine.paid(PLAIN)
    challenge = await machine.challenge(PLAIN)
    other = await machine.send(PLAIN, f"open.0xfeed.{ENOUGH}.{challenge}")

    assert [200, 429, 200] == [first.status, second.status, other.status]
    assert ("1", "wallet") == (
        first.headers["X-RateLimit-Limit"],
        first.headers["X-RateLimit-Tier"],
    )
    assert "Retry-After" in second.headers
    await until(lambda: not machine.rail.channel.leases)


async def test_tokens_of_payers_are_limited(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site, tokens_per_minute=10)

    answer = await machine.paid(PLAIN)

    assert (429, "tokens_limit_exceeded") == (answer.status, answer.error["code"])
    assert [] == machine.site.main.seen
