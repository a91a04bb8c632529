"""Money over HTTP: top-ups, webhooks, invoices, and which refusal says what of the balance."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.docs.answers_billing import (
    BillingAnswer,
    CheckoutAnswer,
    InvoiceAnswer,
    InvoiceList,
)
from kit.money import nusd_from_usd
from tests.fakes.stripe_server import (
    API_KEY,
    SECRET,
    StripeServer,
    event,
    open_stripe_server,
    signed,
)
from tests.fixtures.catalogues import chat
from tests.fixtures.gateway import USD, Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import Answer, answer_of
from tests.unit.payment.stripe.wallet import charge
from turnpike.payment.v1 import billing_pb2 as pb

SCOPES = ["chat", "models", "usage", "billing"]


@pytest.fixture
async def stripe() -> AsyncIterator[StripeServer]:
    async with open_stripe_server() as opened:
        yield opened


@pytest.fixture
async def site(open_site: OpenSite, stripe: StripeServer) -> Site:
    card = {
        "api_key": API_KEY,
        "webhook_secret": SECRET,
        "api_base": stripe.url,
        "turn_s": 0.05,
        "decline_count_max": 1,
    }
    return await open_site(Wish(payment={"stripe": card}))


async def post(site: Site, key: Key, path: str, body: Any, **headers: str) -> Answer:
    sent = {**key.headers, **headers}
    return await answer_of(site.http.post(f"{site.url}/v1/billing{path}", json=body, headers=sent))


async def get(site: Site, key: Key, path: str, **headers: str) -> Answer:
    sent = {**key.headers, **headers}
    return await answer_of(site.http.get(f"{site.url}/v1/billing{path}", headers=sent))


async def hook(site: Site, body: bytes, *, signature: str = "") -> Answer:
    header = signature or signed(body, unix_s=site.gateway.deps.clock.unix_ms() // 1000)
    return await answer_of(
        site.http.post(
            f"{site.url}/webhooks/stripe",
            data=body,
            headers={"Stripe-Signature": header, "Content-Type": "application/json"},
        )
    )


async def pay(site: Site, stripe: StripeServer, key: Key, cents: int = 1_000) -> str:
    """Pay for a top-up by a link, and return the payment."""
    page = await post(site, key, "/checkout", {"amount_cents": cents})
    assert 200 == page.status, page.body
    _, paid = stripe.pay_session(page.json["id"])
    body = event("payment_intent.succeeded", paid, event_id=f"evt_{paid['id']}")
    assert 200 == (await hook(site, body)).status
    return str(paid["id"])


async def test_topup_by_link_can_be_used_at_once(site: Site, stripe: StripeServer) -> None:
    key = await site.key(credit_nusd=0, scopes=SCOPES)
    refused = await answer_of(site.post(key, chat()))

    await pay(site, stripe, key)
    answered = await answer_of(site.post(key, chat()))

    assert (402, 200) == (refused.status, answered.status)
    found = msgspec.json.decode((await get(site, key, "")).body, type=BillingAnswer)
    assert ("active", True, False) == (found.standing, found.has_card, found.is_postpaid)
    (record,) = await site.settled(key, 1)
    after = (await get(site, key, "")).json
    left = nusd_from_usd(after["available_usd"]) + nusd_from_usd(after["held_usd"])
    assert 10 * USD - record.charge_nusd == left


async def test_row_17_repeat_of_a_topup_by_its_idempotency_key_is_one_page(
    site: Site, stripe: StripeServer
) -> None:
    key, asked = await site.key(scopes=SCOPES), {"amount_cents": 500}

    one, two = [
        await post(site, key, "/checkout", asked, **{"Idempotency-Key": "k1"}) for _ in range(2)
    ]
    other = await post(site, key, "/checkout", {"amount_cents": 501}, **{"Idempotency-Key": "k1"})

    assert one.json == two.json
    assert msgspec.json.decode(one.body, type=CheckoutAnswer).url.startswith("https://")
    assert (409, 1) == (other.status, len(stripe.sessions))


async def test_row_21_webhook_is_taken_byte_for_byte_and_only_as_signed(
    site: Site, stripe: StripeServer
) -> None:
    key = await site.key(credit_nusd=0, scopes=SCOPES)
    page = await post(site, key, "/checkout", {"amount_cents": 700})
    _, paid = stripe.pay_session(page.json["id"])
    body = event("payment_intent.succeeded", paid, event_id="evt_1")
    header = signed(body, unix_s=site.gateway.deps.clock.unix_ms() // 1000)

    again = json.dumps(json.loads(body)).encode()
    refused = [
        await hook(site, again, signature=header),
        await hook(site, body, signature="t=1,v1=00"),
        await hook(site, b"", signature=header),
    ]
    assert [400] * 3 == [each.status for each in refused]
    assert 0 == (await site.balance(key)).available_nusd
    taken = [await hook(site, body, signature=header) for _ in range(3)]

    assert [(200, {"received": True})] * 3 == [(each.status, each.json) for each in taken]
    assert 7 * USD == (await site.balance(key)).available_nusd


async def test_webhook_that_is_too_long_is_refused(site: Site) -> None:
    found = await hook(site, b"x" * (64 * 1024 + 1))

    assert (413, "payload_too_large") == (found.status, found.error["code"])


async def test_recharge_keeps_requests_going(site: Site, stripe: StripeServer) -> None:
    key = await site.key(credit_nusd=0, scopes=SCOPES)
    await pay(site, stripe, key, cents=100)
    asked = {
        "is_enabled": True,
        "below_cents": 500,
        "amount_cents": 2_000,
        "daily_max_cents": 2_000,
    }

    found = await post(site, key, "/auto-recharge", asked)
    await until(lambda: len(stripe.intents) == 2)

    async def is_credited() -> bool:
        return (await site.balance(key)).available_nusd == 21 * USD

    await until(is_credited)
    assert {name: asked[name] for name in list(asked)[1:]} == found.json["auto_recharge"]
    ended = await post(site, key, "/auto-recharge", {"is_enabled": False})
    assert (200, None) == (ended.status, ended.json["auto_recharge"])


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/checkout", {}, "amount_cents"),
        ("/checkout", {"amount_cents": 99}, "amount_cents"),
        ("/checkout", {"amount_cents": "500"}, "amount_cents"),
        ("/checkout", {"amount_cents": 500.5}, "amount_cents"),
        ("/checkout", {"amount_cents": 500, "success_url": "ftp://x"}, "success_url"),
        ("/checkout", {"amount_cents": 500, "currency": "eur"}, "currency"),
        ("/auto-recharge", {"is_enabled": True, "below_cents": 5}, "amount_cents"),
        ("/auto-recharge", {"is_enabled": False, "below_cents": 5}, "below_cents"),
        ("/auto-recharge", {"below_cents": 5}, "is_enabled"),
    ],
)
async def test_bad_field_is_named(site: Site, path: str, body: Any, param: str) -> None:
    found = await post(site, await site.key(scopes=SCOPES), path, body)

    assert (400, param) == (found.status, found.error["param"])


async def test_key_needs_the_scope(site: Site) -> None:
    usual, none = await site.key(), await site.key(scopes=["chat"])

    refused = [
        await post(site, usual, "/checkout", {"amount_cents": 500}),
        await post(site, usual, "/auto-recharge", {"is_enabled": False}),
        await get(site, none, ""),
        await get(site, none, "/invoices"),
        await get(site, none, "/invoices/2026-11"),
    ]

    assert [(403, "key_scope")] * 5 == [(each.status, each.error["code"]) for each in refused]
    assert 200 == (await get(site, usual, "")).status


async def test_invoice_adds_up_as_json_and_as_csv(site: Site, stripe: StripeServer) -> None:
    key = await site.key(credit_nusd=0, scopes=SCOPES)
    payment = await pay(site, stripe, key)
    for _ in range(3):
        await answer_of(site.post(key, chat()))
    records = await site.settled(key, 3)
    await hook(site, event("charge.refunded", charge(payment, 1_000, 250), event_id="evt_r"))
    charged = sum(record.charge_nusd for record in records)
    assert charged

    listed = await get(site, key, "/invoices")
    (month,) = msgspec.json.decode(listed.body, type=InvoiceList).data
    as_json = msgspec.json.decode((await get(site, key, f"/invoices/{month.id}")).body)
    by_name = await get(site, key, f"/invoices/{month.id}.csv")
    by_header = await get(site, key, f"/invoices/{month.id}", Accept="text/csv")

    assert by_name.body == by_header.body
    assert by_name.headers["Content-Type"].startswith("text/csv")
    found = msgspec.convert(as_json, type=InvoiceAnswer)
    amounts = [nusd_from_usd(line.amount_usd) for line in found.lines]
    assert 10 * USD - 250 * USD // 100 - charged == sum(amounts)
    assert nusd_from_usd(found.closing_usd) == sum(amounts) + nusd_from_usd(found.opening_usd)
    rows = [*csv.DictReader(io.StringIO(by_name.body.decode()))]
    assert ("opening", "closing") == (rows[0]["kind"], rows[-1]["kind"])
    assert amounts == [nusd_from_usd(row["amount_usd"]) for row in rows[1:-1]]
    assert found.closing_usd == rows[-1]["amount_usd"]


@pytest.mark.parametrize("name", ["2020-01", "2026-13", "x", "2026-11/y", "%00", "..%2f.."])
async def test_month_without_postings_is_not_found(site: Site, name: str) -> None:
    found = await get(site, await site.key(credit_nusd=0), f"/invoices/{name}")

    assert (404, "not_found") == (found.status, found.error["code"])


async def test_402_says_which_limit_refuses(site: Site, stripe: StripeServer) -> None:
    empty = await site.key(credit_nusd=0)
    owes = await site.key(credit_nusd=0, scopes=SCOPES)
    payment = await pay(site, stripe, owes, cents=100)
    await answer_of(site.post(owes, chat()))
    await site.settled(owes, 1)
    await hook(site, event("charge.refunded", charge(payment, 100, 100), event_id="evt_r"))

    async def is_in_debt() -> bool:
        return (await site.balance(owes)).debt_nusd > 0

    await until(is_in_debt)
    await until(lambda: _refused(site, owes))
    found = {
        "balance": await answer_of(site.post(empty, chat())),
        "debt": await answer_of(site.post(owes, chat())),
    }

    assert {"balance": (402, "insufficient_quota"), "debt": (402, "billing_not_active")} == {
        name: (each.status, each.error["code"]) for name, each in found.items()
    }
    assert ["balance", "debt"] == [each.error["details"]["limit_source"] for each in found.values()]
    assert {"billing_error"} == {each.error["type"] for each in found.values()}
    assert int(found["balance"].error["details"]["need_nusd"]) > 0
    assert "debt" == (await get(site, owes, "")).json["standing"]


async def test_402_after_a_declined_recharge_names_the_card(
    site: Site, stripe: StripeServer
) -> None:
    key = await site.key(credit_nusd=0, scopes=SCOPES)
    payment = await pay(site, stripe, key, cents=100)
    stripe.declined_cards.add("pm_card")
    asked = {"below_cents": 500, "amount_cents": 2_000, "daily_max_cents": 2_000}
    await post(site, key, "/auto-recharge", {"is_enabled": True, **asked})

    async def is_suspended() -> bool:
        standing: str = (await get(site, key, "")).json["standing"]
        return standing == "suspended"

    await until(is_suspended)
    await hook(site, event("charge.refunded", charge(payment, 100, 100), event_id="evt_r"))
    found = await answer_of(site.post(key, chat()))

    assert (402, "billing_not_active") == (found.status, found.error["code"])
    assert "card" == found.error["details"]["limit_source"]


async def test_operator_gives_a_payment_back(site: Site, stripe: StripeServer) -> None:
    key = await site.key(credit_nusd=0, scopes=SCOPES)
    payment = await pay(site, stripe, key)

    done = await site.billing.RefundPayment(
        pb.RefundPaymentRequest(payment_id=payment, amount_nusd=USD, request_id="f1")
    )

    assert 9 * USD == done.billing.available_nusd


async def test_without_stripe_money_is_told_and_not_taken(open_site: OpenSite) -> None:
    site = await open_site()
    key = await site.key(scopes=SCOPES)

    refused = [
        await post(site, key, "/checkout", {"amount_cents": 500}),
        await hook(site, b"{}"),
    ]

    assert [404, 404] == [each.status for each in refused]
    assert "1.00" == (await get(site, key, "")).json["available_usd"]
    assert 1 == len((await get(site, key, "/invoices")).json["data"])


async def _refused(site: Site, key: Key) -> bool:
    found: bool = (await answer_of(site.post(key, chat()))).status == 402
    return found
