"""What a 402 offers, and what of it is taken back."""

from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from pydantic import SecretStr

from services.payment.mpp.challenge import Challenge, bind
from services.payment.mpp.encoding import encode_object
from services.payment.mpp.offers import Asking, Offers
from services.payment.mpp.problems import PaymentError, Slug
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.store_requests import Standing
from tests.unit.payment.mpp.test_channels import ADDRESS, CHANNEL
from turnpike.payment.v1 import machine_pb2 as pb

NOW_UNIX_S = 1_800_000_000
RESOURCE = "POST /v1/chat/completions tiny-chat"


def _offers(**changes: Any) -> Offers:
    settings = {"secrets": (SecretStr("new"), SecretStr("old")), **changes}
    numbers = count()
    return Offers(
        MppSettings(**settings),
        payee=ADDRESS,
        unix_ms=lambda: NOW_UNIX_S * 1000,
        nonce=lambda: f"nonce-{next(numbers)}",
    )


def _terms(slice_nusd: int = 5_000_000, hold_nusd: int = 20_000_000) -> pb.Terms:
    return pb.Terms(realm="r", resource=RESOURCE, slice_nusd=slice_nusd, hold_nusd=hold_nusd)


def _session(offers: Offers, asking: Asking | None = None, terms: pb.Terms | None = None) -> Any:
    return offers.challenges(terms or _terms(), asking or Asking())[0].request


def _slug(offers: Offers, challenge: Challenge, **where: Any) -> Slug:
    where = {"realm": "r", "resource": RESOURCE, **where}
    with pytest.raises(PaymentError) as caught:
        offers.check(challenge, **where)
    return caught.value.slug


def test_session_asks_for_the_slice_and_charge_for_the_whole() -> None:
    session, charge = _offers().challenges(_terms(), Asking())

    assert ("session", "5000") == (session.intent, session.request["amount"])
    assert ("charge", "20000") == (charge.intent, charge.request["amount"])
    assert "digest" not in session.request
    assert not session.digest


@pytest.mark.parametrize(
    ("available_nusd", "amount"),
    [(0, "5000"), (3_766_000, "1234"), (3_766_999, "1234"), (5_000_000, "1"), (9_000_000, "1")],
)
def test_hint_lowers_the_amount_by_the_headroom(available_nusd: int, amount: str) -> None:
    asking = Asking(channel=CHANNEL, standing=Standing(available_nusd, 100_000, 500, 1_000))

    request = _session(_offers(), asking)

    assert amount == request["amount"]
    snapshot = request["methodDetails"]["sessionSnapshot"]
    assert str(500 + int(amount)) == snapshot["requiredCumulative"]
    assert "100" == snapshot["spent"]


def test_amount_is_never_below_the_least_step_of_a_voucher() -> None:
    asking = Asking(channel=CHANNEL, standing=Standing(5_000_000, 0, 500, 1_000))

    request = _session(_offers(voucher_delta_min_base_units=50), asking)

    assert ("50", "50") == (request["amount"], request["methodDetails"]["minVoucherDelta"])


def test_challenges_of_one_second_differ() -> None:
    offers = _offers()

    ids = {each.id for _ in range(100) for each in offers.challenges(_terms(), Asking())}

    assert 200 == len(ids)


def test_own_challenge_is_taken_and_gives_its_amount() -> None:
    offers = _offers()
    challenge = offers.challenges(_terms(), Asking())[0]

    assert 5_000 == offers.check(challenge, realm="r", resource=RESOURCE)
    assert 5_000 == offers.check(bind("old", challenge), realm="r", resource=RESOURCE)


def test_failure_36_what_was_changed_or_is_for_something_else_is_refused() -> None:
    offers = _offers()
    challenge = offers.challenges(_terms(), Asking())[0]
    cheaper = encode_object({**challenge.request, "amount": "1"})
    other = encode_object({**challenge.request, "recipient": "0x" + "77" * 20})

    assert Slug.INVALID_CHALLENGE == _slug(offers, replace(challenge, request_b64=cheaper))
    assert Slug.INVALID_CHALLENGE == _slug(offers, bind("unknown", challenge))
    assert Slug.VERIFICATION_FAILED == _slug(offers, challenge, realm="s")
    assert Slug.VERIFICATION_FAILED == _slug(offers, challenge, resource="POST /v1/embeddings x")
    stale = bind("new", replace(challenge, request_b64=other))
    assert Slug.VERIFICATION_FAILED == _slug(offers, stale)


def test_failure_36_expired_challenge_buys_nothing_and_manages_on() -> None:
    offers = _offers()
    challenge = bind(
        "new",
        replace(offers.challenges(_terms(), Asking())[0], expires="2027-01-15T07:59:59Z"),
    )

    assert Slug.PAYMENT_EXPIRED == _slug(offers, challenge)
    assert 5_000 == offers.check(challenge, realm="r", resource=None)


def test_refusal_of_402_has_challenges_and_others_have_none() -> None:
    offers = _offers()
    refusals = {
        slug: offers.refusal(PaymentError(slug, "No."), _terms(), Asking()) for slug in Slug
    }

    for slug, refusal in refusals.items():
        assert (refusal.http_status == 402) == bool(refusal.www_authenticate), slug
        assert bool(refusal.challenge_id) == bool(refusal.www_authenticate), slug
        assert refusal.reason, slug


def test_wait_is_told_apart_from_the_members_of_the_problem() -> None:
    error = PaymentError(Slug.PAYMENT_UNAVAILABLE, "Away.", retry_after_s="5")

    refusal = _offers().refusal(error, _terms(), Asking())

    assert (503, 5) == (refusal.http_status, refusal.retry_after_s)
    assert {} == dict(refusal.extensions)
