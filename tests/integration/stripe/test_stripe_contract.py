"""What Stripe is asked and how it answers: the same suite over our fake and over localstripe.

Both are asked through Stripe's own SDK, over HTTP. What only one of them can do is tested apart:
Checkout, replay by idempotency keys and faults with the fake, delivery of webhooks by localstripe.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import generate_latest
from pydantic import SecretStr

from kit.clock import SystemClock
from kit.errors import Reason, TurnpikeError
from services.payment.stripe.client import StripeCards, open_cards
from services.payment.stripe.events import CHARGE_KEY
from services.payment.stripe.port import UnansweredError
from services.payment.stripe.rules import Charge, Purpose
from services.payment.stripe.servicer import BillingServicer
from services.payment.stripe.settings import StripeSettings
from tests.fakes.stripe_server import API_KEY, SECRET, StripeServer, open_stripe_server
from tests.fixtures.localstripe import running_localstripe
from tests.unit.payment.stripe.wallet import Wallet, open_wallet
from turnpike.payment.v1 import billing_pb2 as pb

GOOD, DECLINED = "4242424242424242", "4000000000000341"


@dataclass
class Party:
    """A Stripe to ask, and how a card comes to be saved there."""

    url: str
    cards: StripeCards
    fake: StripeServer | None
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000)))

    async def charge(self, number: str = GOOD, *, cents: int = 2_000) -> Charge:
        """Return a charge of a card with a number that says how it goes."""
        customer_id = await self.cards.create_customer(f"account-{next(self.numbers)}")
        if self.fake is not None:
            card_id = f"pm_{number}"
            if number == DECLINED:
                self.fake.declined_cards.add(card_id)
        else:
            card_id = await self._saved(number, customer_id)
        return Charge("a", next(self.numbers), Purpose.RECHARGE, cents, customer_id, card_id, "", 0)

    async def _saved(self, number: str, customer_id: str) -> str:
        card = {"number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123"}
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {API_KEY}"}) as http:
            made = await _post(
                http, f"{self.url}/v1/payment_methods", {"type": "card", "card": card}
            )
            where = f"{self.url}/v1/payment_methods/{made['id']}/attach"
            await _post(http, where, {"customer": customer_id})
        return str(made["id"])


async def _post(http: aiohttp.ClientSession, url: str, body: Any) -> dict[str, Any]:
    async with http.post(url, json=body) as answer:
        assert 200 == answer.status, await answer.text()
        text = await answer.text()
        return dict(await answer.json()) if text else {}


@pytest.fixture(scope="module")
def localstripe_url() -> Iterator[str]:
    with running_localstripe() as url:
        yield url


@pytest.fixture(params=["fake", "localstripe"])
async def party(request: pytest.FixtureRequest) -> AsyncIterator[Party]:
    async with open_stripe_server() as fake:
        is_fake = request.param == "fake"
        url = fake.url if is_fake else request.getfixturevalue("localstripe_url")
        settings = StripeSettings(
            api_key=SecretStr(API_KEY), webhook_secret=SecretStr(SECRET), api_base=url
        )
        async with open_cards(settings) as cards:
            yield Party(url, cards, fake if is_fake else None)


async def test_saved_card_is_charged_with_nobody_there(party: Party) -> None:
    charge = await party.charge()

    charged = await party.cards.charge(charge)

    assert charged.paid is not None
    assert (charged.intent_id, "a", 2_000, charge.number, charge.customer_id) == (
        charged.paid.intent_id,
        charged.paid.account_id,
        charged.paid.paid_cents,
        charged.paid.charge_number,
        charged.paid.customer_id,
    )


async def test_declined_card_says_so(party: Party) -> None:
    charge = await party.charge(DECLINED)

    charged = await party.cards.charge(charge)

    assert charged.paid is None
    assert charged.decline_code in {"card_declined", "do_not_honor"}


async def test_card_that_is_not_there_is_a_decline_too(party: Party) -> None:
    charge = await party.charge()
    if party.fake is not None:
        party.fake.declined_cards.add("pm_none")
    gone = Charge("a", 9, Purpose.RECHARGE, 500, charge.customer_id, "pm_none", "", 0)

    charged = await party.cards.charge(gone)

    assert (None, True) == (charged.paid, bool(charged.decline_code))


async def test_charge_is_found_again_by_its_intent(party: Party) -> None:
    charge = await party.charge()
    charged = await party.cards.charge(charge)
    known = replace(charge, intent_id=charged.intent_id)

    found = await party.cards.find(known)

    assert found is not None
    assert charged.intent_id == found.intent_id
    assert found.paid is not None
    assert 2_000 == found.paid.paid_cents


async def test_payment_is_given_back_in_parts(party: Party) -> None:
    charged = await party.cards.charge(await party.charge())

    one = await party.cards.refund(charged.intent_id, 500, key="refund-1")
    two = await party.cards.refund(charged.intent_id, 700, key="refund-2")

    assert one.reversal is not None
    assert two.reversal is not None
    assert (500, 700) == (one.reversal.amount_cents, two.reversal.amount_cents)
    assert (charged.intent_id, True) == (one.intent_id, one.reversal_id != two.reversal_id)


async def test_refund_of_an_unknown_payment_is_refused(party: Party) -> None:
    if party.fake is not None:
        party.fake.intents["pi_none"] = {
            "id": "pi_none",
            "amount_received": 0,
            "amount_refunded": 0,
        }

    with pytest.raises(TurnpikeError) as refused:
        await party.cards.refund("pi_none", 500, key="refund-3")

    assert Reason.INVALID_VALUE is refused.value.reason


async def test_row_20_charge_that_was_done_and_never_answered_is_done_once(
    sqlite_url: str,
) -> None:
    async with (
        open_stripe_server() as stripe,
        open_wallet(sqlite_url, stripe_url=stripe.url, call_s=0.2) as hasty,
        open_cards(hasty.settings.model_copy(update={"call_s": 10.0})) as patient,
    ):
        charge = Charge("a", 1, Purpose.RECHARGE, 500, "cus_1", "pm_1", "", 0)
        stripe.faults.append("hang")
        assert hasty.cards is not None
        with pytest.raises(UnansweredError, match="timeout"):
            await hasty.cards.charge(charge)
        stripe.faults.clear()

        charged = await patient.charge(charge)
        found = await patient.find(charge)

    assert [charged.intent_id] == list(stripe.intents)
    assert charged.paid is not None
    assert charged == found


@dataclass
class Inbox:
    """Takes webhooks over HTTP, as the gateway does, and keeps what was answered."""

    servicer: BillingServicer
    url: str = ""
    bodies: list[tuple[bytes, str]] = field(default_factory=list)
    effects: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        """Take one."""
        body, signature = await request.read(), request.headers["Stripe-Signature"]
        self.bodies.append((body, signature))
        asked = pb.TakeWebhookRequest(body=body, signature=signature)
        answer = await self.servicer.TakeWebhook(asked, None)  # type: ignore[arg-type]
        self.effects.put_nowait(answer.effect)
        return web.Response()


@pytest.fixture
async def wallet(sqlite_url: str) -> AsyncIterator[Wallet]:
    async with open_wallet(sqlite_url) as opened:
        yield opened


@pytest.fixture
def quiet_url() -> Iterator[str]:
    """Address of a localstripe that has no older events to deliver."""
    with running_localstripe() as url:
        yield url


@pytest.fixture
async def inbox(wallet: Wallet, quiet_url: str) -> AsyncIterator[Inbox]:
    async with open_cards(wallet.settings) as cards:
        wallet.cards = cards
        servicer = wallet.servicer
        servicer._clock = SystemClock()  # localstripe signs by the machine's clock
        opened = Inbox(servicer)
        runner = web.ServerRunner(web.Server(opened.take), shutdown_timeout=0.1)  # type: ignore[arg-type]
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        opened.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        events = ["payment_intent.succeeded", "payment_intent.payment_failed"]
        async with aiohttp.ClientSession() as http:
            where = f"{quiet_url}/_config/webhooks/inbox"
            told = {"url": opened.url, "secret": SECRET, "events": events}
            await _post(http, where, told)
        yield opened
        await runner.cleanup()


async def test_row_21_webhook_of_localstripe_is_taken_once(
    inbox: Inbox, wallet: Wallet, quiet_url: str
) -> None:
    settings = wallet.settings.model_copy(update={"api_base": quiet_url})
    async with open_cards(settings) as cards, asyncio.timeout(20.0):
        party = Party(quiet_url, cards, None)
        charged = await cards.charge(await party.charge())
        effect = await inbox.effects.get()

    assert charged.paid is not None
    await wallet.intake.take(charged.paid)
    body, signature = inbox.bodies[0]
    asked = pb.TakeWebhookRequest(body=body, signature=signature)
    again = await inbox.servicer.TakeWebhook(asked, None)  # type: ignore[arg-type]

    assert CHARGE_KEY.encode() in body
    assert (pb.TakeWebhookResponse.EFFECT_APPLIED, pb.TakeWebhookResponse.EFFECT_DUPLICATE) == (
        effect,
        again.effect,
    )
    assert (2_000, 0) == await wallet.has_cents()
    counted = generate_latest(wallet.registry).decode()
    assert 'effect="duplicate",type="payment_intent.succeeded"} 1.0' in counted
