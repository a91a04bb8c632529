"""What webhooks say: what matters is read, what does not is passed over, what is wrong is named."""

import json
from typing import Any

import pytest
import stripe

from kit.errors import Reason, TurnpikeError
from services.payment.stripe.events import TYPES, News, read_event
from services.payment.stripe.rules import Reversal, Undoing
from tests.fakes.stripe_server import event
from tests.unit.payment.stripe.wallet import charge, dispute, intent, refund, session

DISPUTE = Reversal(Undoing.DISPUTE, 500, "needs_response")


def read(kind: str, about: dict[str, Any]) -> News:
    return read_event(event(kind, about, event_id="evt_1"))


def test_paid_checkout_names_intent_account_and_amount() -> None:
    news = read("checkout.session.completed", session("pi_1", 1_000))

    assert ("evt_1", "pi_1", "a", 1_000, "cus_a") == (
        news.event_id,
        news.intent_id,
        news.account_id,
        news.paid_cents,
        news.customer_id,
    )


def test_checkout_and_intent_of_one_payment_say_the_same() -> None:
    one = read("checkout.session.async_payment_succeeded", session("pi_1", 1_000))
    other = read("payment_intent.succeeded", intent("pi_1", 1_000))

    assert (one.intent_id, one.account_id, one.paid_cents) == (
        other.intent_id,
        other.account_id,
        other.paid_cents,
    )


def test_intent_that_saved_its_card_names_it() -> None:
    news = read("payment_intent.succeeded", intent("pi_1", 1_000))
    once = read("payment_intent.succeeded", intent("pi_1", 1_000, setup_future_usage=None))

    assert ("pm_a", "") == (news.card_id, once.card_id)


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("customer.created", {"id": "cus_1"}),
        ("some.type.of.tomorrow", {}),
        ("checkout.session.completed", {**session("pi_1", 5), "payment_status": "unpaid"}),
        ("checkout.session.completed", {**session("pi_1", 5), "mode": "subscription"}),
        ("checkout.session.completed", {**session("pi_1", 5), "payment_intent": None}),
        ("payment_intent.succeeded", intent("pi_1", 5, metadata={})),
        ("payment_intent.succeeded", intent("pi_1", 5, metadata=None)),
        ("payment_intent.succeeded", intent("pi_1", 5, currency="eur")),
        ("payment_intent.succeeded", intent("pi_1", 0)),
        ("payment_intent.payment_failed", intent("pi_1", 5)),
        ("charge.refunded", {**charge("pi_1", 5, 5), "payment_intent": None}),
        ("charge.dispute.created", dispute("dp_1", "pi_1", 5, "a_status_of_tomorrow")),
        ("refund.created", {**refund("re_1", "pi_1", 5), "payment_intent": None}),
    ],
)
def test_row_21_event_that_is_none_of_ours_is_passed_over(kind: str, about: dict[str, Any]) -> None:
    assert News("evt_1", kind) == read(kind, about)


def test_refund_told_by_the_charge_knows_the_payment_too() -> None:
    news = read("charge.refunded", charge("pi_1", 1_000, 300))

    assert ("pi_1", "a", 1_000, 300) == (
        news.intent_id,
        news.account_id,
        news.paid_cents,
        news.refunded_cents,
    )


def test_dispute_names_what_it_takes() -> None:
    news = read("charge.dispute.created", dispute("dp_1", "pi_1", 500, "needs_response"))

    assert ("pi_1", "dp_1", DISPUTE) == (news.intent_id, news.reversal_id, news.reversal)


def test_failed_charge_of_ours_says_why() -> None:
    failed = intent(
        "pi_1",
        5,
        metadata={"turnpike_account": "a", "turnpike_charge": "7"},
        last_payment_error={"code": "card_declined", "decline_code": "lost_card"},
    )

    news = read("payment_intent.payment_failed", failed)

    assert ("a", 7, "lost_card") == (news.account_id, news.charge_number, news.decline_code)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.INVALID_JSON),
        (b"\xff", Reason.INVALID_JSON),
        (b"[]", Reason.INVALID_JSON),
        (b"7", Reason.INVALID_JSON),
        (b"{}", Reason.INVALID_VALUE),
        (b'{"id":7,"type":"x"}', Reason.INVALID_VALUE),
        (b'{"id":"evt_1","type":"refund.created"}', Reason.INVALID_VALUE),
        (b'{"id":"evt_1","type":"refund.created","data":{"object":[]}}', Reason.INVALID_VALUE),
    ],
)
def test_body_that_is_no_event_is_refused(body: bytes, reason: Reason) -> None:
    with pytest.raises(TurnpikeError) as refused:
        read_event(body)

    assert reason is refused.value.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount_received", -1),
        ("amount_received", 1.5),
        ("amount_received", "5"),
        ("amount_received", True),
        ("amount_received", 10**18),
        ("id", 7),
        ("id", "x" * 300),
        ("customer", {"id": "cus_1"}),
    ],
)
def test_field_that_cannot_be_is_named(name: str, value: object) -> None:
    with pytest.raises(TurnpikeError) as refused:
        read("payment_intent.succeeded", {**intent("pi_1", 5), name: value})

    assert name == refused.value.metadata["param"]


def test_metadata_of_another_form_is_not_ours() -> None:
    for account in ("x" * 200, "a\nb", 7):
        about = intent("pi_1", 5, metadata={"turnpike_account": account})
        assert not read("payment_intent.succeeded", about).intent_id


def test_sdk_reads_the_events_that_tests_are_made_of() -> None:
    for kind in TYPES:
        body = event(kind, intent("pi_1", 5), event_id="evt_1")
        header = stripe.WebhookSignature.generate_signature_header(body.decode(), "whsec_1")
        found = stripe.Webhook.construct_event(body, header, "whsec_1")

        assert kind == found.type
        assert "pi_1" == json.loads(body)["data"]["object"]["id"]
