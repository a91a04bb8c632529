"""Whether a webhook is Stripe's, with Stripe's own SDK as the other party."""

import json

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Reason, TurnpikeError
from services.payment.stripe.signature import check_signature, signature_header

SECRET = "whsec_canary_one"
NOW_S = 1_760_000_000
BODY = json.dumps({"id": "evt_1", "object": "event", "n": 1}, indent=2).encode()


def check(body: bytes, header: str, *secrets: str, now_s: int = NOW_S) -> None:
    check_signature(body, header, secrets or (SECRET,), now_ms=now_s * 1000, tolerance_ms=300_000)


@given(payload=st.text(max_size=200), secret=st.text("abcdef0123456789_", min_size=1))
def test_row_21_what_stripe_signs_is_taken_and_what_we_sign_stripe_takes(
    payload: str, secret: str
) -> None:
    theirs = stripe.WebhookSignature.generate_signature_header(payload, secret, NOW_S)
    ours = signature_header(payload.encode(), secret, unix_s=NOW_S)

    check(payload.encode(), theirs, secret)
    assert stripe.WebhookSignature.verify_header(payload, ours, secret)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=,v1=",
        "v1=abc",
        f"t={NOW_S}",
        f"t={NOW_S},v0=abc",
        "t=²,v1=abc",
        f"t={'9' * 400},v1=abc",
        "t" * 100_000,
    ],
)
def test_row_21_header_without_a_signature_is_refused(header: str) -> None:
    with pytest.raises(TurnpikeError) as refused:
        check(BODY, header)

    assert (Reason.INVALID_VALUE, "Stripe-Signature") == (
        refused.value.reason,
        refused.value.metadata["param"],
    )


def test_row_21_bad_signature_is_refused() -> None:
    header = signature_header(BODY, SECRET, unix_s=NOW_S)

    for wrong in (header[:-1] + ("0" if header[-1] != "0" else "1"), header.upper()):
        with pytest.raises(TurnpikeError):
            check(BODY, wrong)
    with pytest.raises(TurnpikeError):
        check(BODY, header, "whsec_other")


def test_row_21_re_serialised_body_is_refused() -> None:
    header = signature_header(BODY, SECRET, unix_s=NOW_S)
    again = json.dumps(json.loads(BODY)).encode()

    check(BODY, header)
    with pytest.raises(TurnpikeError):
        check(again, header)


@pytest.mark.parametrize(
    ("off_s", "is_taken"), [(300, True), (301, False), (-300, True), (-301, False)]
)
def test_row_21_old_timestamp_is_refused(off_s: int, is_taken: bool) -> None:
    header = signature_header(BODY, SECRET, unix_s=NOW_S)

    if is_taken:
        check(BODY, header, now_s=NOW_S + off_s)
        return
    with pytest.raises(TurnpikeError, match="not made now"):
        check(BODY, header, now_s=NOW_S + off_s)


def test_time_that_was_changed_breaks_the_signature() -> None:
    header = signature_header(BODY, SECRET, unix_s=NOW_S - 1000)

    with pytest.raises(TurnpikeError):
        check(BODY, header.replace(str(NOW_S - 1000), str(NOW_S)))


def test_secret_before_is_still_taken_and_an_empty_one_never() -> None:
    header = signature_header(BODY, "whsec_old", unix_s=NOW_S)
    unsigned = signature_header(BODY, "", unix_s=NOW_S)

    check(BODY, header, SECRET, "whsec_old")
    with pytest.raises(TurnpikeError):
        check(BODY, unsigned, SECRET, "")


def test_one_right_signature_of_several_is_enough() -> None:
    header = signature_header(BODY, SECRET, unix_s=NOW_S)
    right = header.partition("v1=")[2]

    check(BODY, f"t={NOW_S}, v1=00, v0={right}, v1={right}")
