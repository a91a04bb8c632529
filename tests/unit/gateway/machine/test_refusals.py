"""Problems that are OpenAI errors as well."""

import json

from gateway.machine.refusals import PaymentRefusedError, problem_body, problem_headers
from kit.errors import Reason, TurnpikeError
from turnpike.payment.v1 import machine_pb2

REFUSAL = machine_pb2.PaymentRefusal(
    http_status=402,
    problem="session/amount-exceeds-deposit",
    detail="The voucher is more than the deposit.",
    www_authenticate=['Payment id="a"', 'Payment id="b"'],
    challenge_id="a",
    extensions={"requiredTopUp": "5", "error": "no", "status": "no"},
    retry_after_s=3,
    reason="INVALID_PAYMENT",
)


def test_problem_stands_beside_the_error() -> None:
    body = json.loads(problem_body(REFUSAL, b'{"error":{"message":"m"},"request_id":"r"}'))

    assert {
        "type": "https://paymentauth.org/problems/session/amount-exceeds-deposit",
        "title": "Session amount exceeds deposit",
        "status": 402,
        "detail": "The voucher is more than the deposit.",
        "challengeId": "a",
        "requiredTopUp": "5",
        "error": {"message": "m"},
        "request_id": "r",
    } == body


def test_every_challenge_is_a_header_of_its_own() -> None:
    found = problem_headers(REFUSAL, {"Content-Type": "application/json", "X-Request-Id": "r"})

    assert ['Payment id="a"', 'Payment id="b"'] == found.getall("WWW-Authenticate")
    assert ("application/problem+json", "no-store", "3", "r") == (
        found["Content-Type"],
        found["Cache-Control"],
        found["Retry-After"],
        found["X-Request-Id"],
    )


def test_reason_that_nobody_knows_is_a_refused_payment() -> None:
    refusal = machine_pb2.PaymentRefusal(http_status=402, reason="OF_NEXT_YEAR", detail="No.")

    assert Reason.INVALID_PAYMENT is PaymentRefusedError(refusal).reason


def test_offer_to_pay_for_a_key_stays_the_keys_error() -> None:
    because = TurnpikeError(Reason.INSUFFICIENT_QUOTA, "Balance is 3.", available_nusd="3")

    error = PaymentRefusedError(REFUSAL, because)

    assert (Reason.INSUFFICIENT_QUOTA, "Balance is 3.") == (error.reason, error.message)
    assert {"available_nusd": "3"} == error.metadata
