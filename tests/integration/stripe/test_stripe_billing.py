"""What serves billing: checkouts, webhooks, refunds, refusals; the Stripe behind it can fail."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import generate_latest

from kit.errors import Reason, TurnpikeError
from services.payment.stripe.rules import CENT_NUSD
from services.payment.stripe.servicer import BillingServicer
from services.payment.stripe.settings import StripeSettings
from tests.fakes.stripe_server import (
    API_KEY,
    SECRET,
    StripeServer,
    event,
    open_stripe_server,
    signed,
)
from tests.unit.payment.stripe.wallet import Wallet, charge, intent, open_wallet
from turnpike.payment.v1 import billing_pb2 as pb

USD = 100 * CENT_NUSD
CONTEXT: Any = None
EFFECT = pb.TakeWebhookResponse


@pytest.fixture
async def stripe() -> AsyncIterator[StripeServer]:
    async with open_stripe_server() as opened:
        yield opened


@pytest.fixture
async def wallet(sqlite_url: str, stripe: StripeServer) -> AsyncIterator[Wallet]:
    async with open_wallet(sqlite_url, stripe_url=stripe.url) as opened:
        yield opened


def order(**more: Any) -> pb.CreateCheckoutRequest:
    """Return a top-up of ten dollars."""
    fields = {"account_id": "a", "amount_nusd": 10 * USD, "request_id": "r1", **more}
    return pb.CreateCheckoutRequest(**fields)


def webhook(wallet: Wallet, body: bytes, *, signature: str = "") -> pb.TakeWebhookRequest:
    """Return a webhook that was signed now."""
    now_s = wallet.rig.clock.unix_ms() // 1000
    return pb.TakeWebhookRequest(body=body, signature=signature or signed(body, unix_s=now_s))


async def refusal(call: Any) -> TurnpikeError:
    """Return how a call was refused."""
    with pytest.raises(TurnpikeError) as refused:
        await call
    return refused.value


async def test_topup_is_paid_on_stripes_page_credited_and_saves_the_card(
    wallet: Wallet, stripe: StripeServer
) -> None:
    page = await wallet.servicer.CreateCheckout(order(), CONTEXT)
    asked = stripe.sessions[page.session_id]
    session, paid = stripe.pay_session(page.session_id)

    for number, (kind, about) in enumerate(
        (("checkout.session.completed", session), ("payment_intent.succeeded", paid))
    ):
        body = event(kind, about, event_id=f"evt_{number}")
        taken = await wallet.servicer.TakeWebhook(webhook(wallet, body), CONTEXT)
        assert EFFECT.EFFECT_APPLIED == taken.effect

    assert page.url == f"https://checkout.stripe.com/c/pay/{page.session_id}"
    assert ("payment", ["card"], "a") == (
        asked["mode"],
        asked["allowed_payment_method_types"],
        asked["client_reference_id"],
    )
    found = await wallet.servicer.GetBilling(pb.GetBillingRequest(account_id="a"), CONTEXT)
    assert (10 * USD, True) == (found.billing.available_nusd, found.billing.has_card)
    assert pb.Billing.STANDING_ACTIVE == found.billing.standing


async def test_row_17_same_topup_request_twice_is_one_page(
    wallet: Wallet, stripe: StripeServer
) -> None:
    pages = await asyncio.gather(
        *(wallet.servicer.CreateCheckout(order(), CONTEXT) for _ in range(5))
    )
    later = await wallet.servicer.CreateCheckout(order(), CONTEXT)

    assert {later.session_id} == {page.session_id for page in pages}
    assert (1, 1) == (len(stripe.sessions), len(stripe.customers))
    other = await wallet.servicer.CreateCheckout(order(request_id="r2"), CONTEXT)
    assert other.session_id != later.session_id
    assert 1 == len(stripe.customers)


async def test_request_id_of_another_topup_is_refused(wallet: Wallet) -> None:
    await wallet.servicer.CreateCheckout(order(), CONTEXT)

    error = await refusal(wallet.servicer.CreateCheckout(order(amount_nusd=USD), CONTEXT))

    assert (Reason.ALREADY_EXISTS, "request_id") == (error.reason, error.metadata["param"])


async def test_request_id_of_another_account_does_not_matter(
    wallet: Wallet, stripe: StripeServer
) -> None:
    await wallet.servicer.CreateCheckout(order(), CONTEXT)
    await wallet.servicer.CreateCheckout(order(account_id="b", amount_nusd=USD), CONTEXT)

    assert 2 == len(stripe.sessions)


@pytest.mark.parametrize("faults", [["drop"], ["", "drop"], ["refuse"], ["", "error"]])
async def test_checkout_without_an_answer_can_be_asked_for_again(
    wallet: Wallet, stripe: StripeServer, faults: list[str]
) -> None:
    stripe.faults.extend(faults)

    error = await refusal(wallet.servicer.CreateCheckout(order(), CONTEXT))
    page = await wallet.servicer.CreateCheckout(order(), CONTEXT)

    assert (Reason.UNAVAILABLE, "5") == (error.reason, error.metadata["retry_after_s"])
    assert [page.session_id] == list(stripe.sessions)
    assert 1 == len(stripe.customers)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"account_id": ""}, "account_id"),
        ({"account_id": "x" * 129}, "account_id"),
        ({"request_id": ""}, "request_id"),
        ({"amount_nusd": 0}, "amount_nusd"),
        ({"amount_nusd": -USD}, "amount_nusd"),
        ({"amount_nusd": USD + 1}, "amount_nusd"),
        ({"amount_nusd": USD - CENT_NUSD}, "amount_nusd"),
        ({"amount_nusd": 10_001 * USD}, "amount_nusd"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"cancel_url": "https://"}, "cancel_url"),
        ({"cancel_url": "http://[x"}, "cancel_url"),
        ({"success_url": "https://x/" + "y" * 2_048}, "success_url"),
    ],
)
async def test_field_that_cannot_be_is_named(
    wallet: Wallet, stripe: StripeServer, change: dict[str, Any], param: str
) -> None:
    error = await refusal(wallet.servicer.CreateCheckout(order(**change), CONTEXT))

    assert (400, param) == (error.outward.http_status, error.metadata["param"])
    assert [] == stripe.seen


async def test_row_21_webhook_that_stripe_did_not_sign_changes_nothing_and_is_counted(
    wallet: Wallet,
) -> None:
    body = event("payment_intent.succeeded", intent("pi_1", 1_000), event_id="evt_1")
    old = signed(body, unix_s=wallet.rig.clock.unix_ms() // 1000 - 301)

    for signature in ("t=1,v1=00", old, signed(body + b" ", unix_s=1)):
        asked = webhook(wallet, body, signature=signature)
        error = await refusal(wallet.servicer.TakeWebhook(asked, CONTEXT))
        assert (Reason.INVALID_VALUE, "Stripe-Signature") == (
            error.reason,
            error.metadata["param"],
        )

    assert {} == await wallet.rig.balances()
    assert 'effect="refused",type="other"} 3.0' in generate_latest(wallet.registry).decode()


async def test_row_21_unknown_type_is_taken_and_counted(wallet: Wallet) -> None:
    body = event("invoice.finalized", {"id": "in_1"}, event_id="evt_1")

    taken = await wallet.servicer.TakeWebhook(webhook(wallet, body), CONTEXT)

    assert EFFECT.EFFECT_IGNORED == taken.effect
    assert 'effect="ignored",type="other"} 1.0' in generate_latest(wallet.registry).decode()


async def test_webhook_that_is_too_long_is_not_read(wallet: Wallet) -> None:
    error = await refusal(
        wallet.servicer.TakeWebhook(webhook(wallet, b"x" * (64 * 1024 + 1)), CONTEXT)
    )

    assert Reason.PAYLOAD_TOO_LARGE is error.reason


async def paid_by_card(wallet: Wallet, stripe: StripeServer) -> str:
    """Pay ten dollars and return the payment."""
    page = await wallet.servicer.CreateCheckout(order(), CONTEXT)
    _, paid = stripe.pay_session(page.session_id)
    await wallet.tell("payment_intent.succeeded", paid)
    return str(paid["id"])


async def test_payment_is_given_back_once_whoever_tells_of_it(
    wallet: Wallet, stripe: StripeServer
) -> None:
    payment = await paid_by_card(wallet, stripe)
    asked = pb.RefundPaymentRequest(payment_id=payment, amount_nusd=3 * USD, request_id="f1")

    one = await wallet.servicer.RefundPayment(asked, CONTEXT)
    again = await wallet.servicer.RefundPayment(asked, CONTEXT)
    await wallet.tell("charge.refunded", charge(payment, 1_000, 300))
    await wallet.tell("refund.created", stripe.refunds[one.refund_id])

    assert (one.refund_id, 3 * USD) == (again.refund_id, again.amount_nusd)
    assert 1 == len(stripe.refunds)
    assert (700, 0) == await wallet.has_cents()
    rest = await wallet.servicer.RefundPayment(
        pb.RefundPaymentRequest(payment_id=payment, request_id="f2"), CONTEXT
    )
    assert (7 * USD, 0) == (rest.amount_nusd, rest.billing.available_nusd)
    listed = await wallet.servicer.ListPayments(pb.ListPaymentsRequest(account_id="a"), CONTEXT)
    (found,) = listed.payments
    assert (payment, 10 * USD, 10 * USD) == (
        found.payment_id,
        found.paid_nusd,
        found.reversed_nusd,
    )


async def test_refund_without_an_answer_is_asked_for_again_by_its_id(
    wallet: Wallet, stripe: StripeServer
) -> None:
    payment = await paid_by_card(wallet, stripe)
    asked = pb.RefundPaymentRequest(payment_id=payment, amount_nusd=USD, request_id="f1")
    stripe.faults.append("drop")

    error = await refusal(wallet.servicer.RefundPayment(asked, CONTEXT))
    done = await wallet.servicer.RefundPayment(asked, CONTEXT)

    assert Reason.UNAVAILABLE is error.reason
    assert [done.refund_id] == list(stripe.refunds)
    assert (900, 0) == await wallet.has_cents()


@pytest.mark.parametrize(
    ("payment", "amount_nusd", "reason", "param"),
    [
        ("", USD, Reason.MISSING_FIELD, "payment_id"),
        ("pi_none", USD, Reason.NOT_FOUND, "payment_id"),
        ("it", 10 * USD + CENT_NUSD, Reason.INVALID_VALUE, "amount_nusd"),
        ("it", 1, Reason.INVALID_VALUE, "amount_nusd"),
        ("it", -USD, Reason.INVALID_VALUE, "amount_nusd"),
    ],
)
async def test_refund_that_cannot_be_is_refused(
    wallet: Wallet,
    stripe: StripeServer,
    payment: str,
    amount_nusd: int,
    reason: Reason,
    param: str,
) -> None:
    made = await paid_by_card(wallet, stripe)
    asked = pb.RefundPaymentRequest(
        payment_id=made if payment == "it" else payment,
        amount_nusd=amount_nusd,
        request_id="f1",
    )

    error = await refusal(wallet.servicer.RefundPayment(asked, CONTEXT))

    assert (reason, param) == (error.reason, error.metadata["param"])
    assert {} == stripe.refunds


async def test_recharge_is_set_shown_and_ended(wallet: Wallet) -> None:
    await wallet.with_card()
    terms = pb.AutoRecharge(below_nusd=USD, amount_nusd=20 * USD, daily_max_nusd=100 * USD)

    done = await wallet.servicer.SetAutoRecharge(
        pb.SetAutoRechargeRequest(account_id="a", auto_recharge=terms), CONTEXT
    )
    ended = await wallet.servicer.SetAutoRecharge(
        pb.SetAutoRechargeRequest(account_id="a"), CONTEXT
    )

    assert terms == done.billing.auto_recharge
    assert not ended.billing.HasField("auto_recharge")


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        ({"below_nusd": 0}, "below_nusd"),
        ({"below_nusd": 10**15}, "below_nusd"),
        ({"amount_nusd": CENT_NUSD}, "amount_nusd"),
        ({"daily_max_nusd": USD}, "daily_max_nusd"),
        ({"daily_max_nusd": 20 * USD + 1}, "daily_max_nusd"),
    ],
)
async def test_recharge_that_cannot_be_is_refused(
    wallet: Wallet, terms: dict[str, int], param: str
) -> None:
    await wallet.with_card()
    usual = {"below_nusd": USD, "amount_nusd": 20 * USD, "daily_max_nusd": 20 * USD}
    asked = pb.SetAutoRechargeRequest(
        account_id="a", auto_recharge=pb.AutoRecharge(**{**usual, **terms})
    )

    error = await refusal(wallet.servicer.SetAutoRecharge(asked, CONTEXT))

    assert f"auto_recharge.{param}" == error.metadata["param"]


async def test_without_a_key_of_stripes_only_the_ledger_answers(wallet: Wallet) -> None:
    off = BillingServicer(
        wallet.store,
        wallet.intake,
        None,
        settings=StripeSettings(),
        clock=wallet.rig.clock,
        counts=wallet.counts,
    )
    await wallet.rig.credit("a", USD)

    for call in (
        off.CreateCheckout(order(), CONTEXT),
        off.TakeWebhook(pb.TakeWebhookRequest(body=b"{}", signature="t=1,v1=a"), CONTEXT),
        off.SetAutoRecharge(pb.SetAutoRechargeRequest(account_id="a"), CONTEXT),
        off.SetPostpaid(pb.SetPostpaidRequest(account_id="a"), CONTEXT),
    ):
        assert Reason.NOT_FOUND is (await refusal(call)).reason
    found = await off.GetBilling(pb.GetBillingRequest(account_id="a"), CONTEXT)
    assert (USD, False) == (found.billing.available_nusd, found.billing.has_card)


@pytest.mark.parametrize("secret", ["", "   "])
def test_empty_webhook_secret_refuses_to_start(secret: str) -> None:
    with pytest.raises(ValueError, match="webhook_secret has to be set"):
        StripeSettings.model_validate({"api_key": API_KEY, "webhook_secret": secret})


async def test_no_key_of_stripes_is_shown_anywhere(
    wallet: Wallet, stripe: StripeServer, capfd: pytest.CaptureFixture[str]
) -> None:
    stripe.faults.extend(["error", "refuse"])
    told = [str(wallet.settings), repr(wallet.cards)]
    told += [str(await refusal(wallet.servicer.CreateCheckout(order(), CONTEXT))) for _ in "ab"]
    body = event("payment_intent.succeeded", intent("pi_1", 1), event_id="evt_1")
    bad = webhook(wallet, body, signature="t=1,v1=0011")
    told.append(str(await refusal(wallet.servicer.TakeWebhook(bad, CONTEXT))))

    shown = "".join(told) + "".join(capfd.readouterr())

    assert API_KEY not in shown
    assert SECRET not in shown
    assert "0011" not in shown
