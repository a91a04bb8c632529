"""The table of problems, against what a public server was recorded to answer."""

import pytest

from kit.errors import Reason, TurnpikeError
from services.payment.mpp.problems import PROBLEMS, TYPE_PREFIX, PaymentError, Slug, problem_type
from tests.unit.payment.mpp.vectors import VECTORS

RECORDED = {
    (row["type"], row["status"], row["title"])
    for row in VECTORS["server_behaviour_mppx_0_11_0"]
    if "type" in row
}


def test_every_slug_has_a_place_in_the_table() -> None:
    assert set(Slug) == set(PROBLEMS)
    assert {400, 402, 403, 410, 503} == {problem.http_status for problem in PROBLEMS.values()}


@pytest.mark.parametrize(("kind", "status", "title"), sorted(RECORDED))
def test_a_recorded_problem_has_our_status_and_title(kind: str, status: int, title: str) -> None:
    slug = Slug(kind.removeprefix(TYPE_PREFIX))

    assert (status, title) == (PROBLEMS[slug].http_status, PROBLEMS[slug].title)
    assert kind == problem_type(slug)


@pytest.mark.parametrize("slug", Slug)
def test_an_error_carries_its_problem_and_reason(slug: Slug) -> None:
    error = PaymentError(slug, "Refused.", requiredTopUp="7")

    assert isinstance(error, TurnpikeError)
    assert PROBLEMS[slug] is error.problem
    assert PROBLEMS[slug].reason is error.reason
    assert {"requiredTopUp": "7"} == error.metadata
    assert "Refused." == error.message


@pytest.mark.parametrize(
    ("slug", "status", "reason"),
    [
        (Slug.PAYMENT_REQUIRED, 402, Reason.PAYMENT_REQUIRED),
        (Slug.METHOD_UNSUPPORTED, 400, Reason.PAYMENT_METHOD_UNSUPPORTED),
        (Slug.PAYMENT_FORBIDDEN, 403, Reason.PAYMENT_FORBIDDEN),
        (Slug.CHANNEL_NOT_FOUND, 410, Reason.GONE),
        (Slug.CHALLENGE_NOT_FOUND, 402, Reason.INVALID_PAYMENT),
        (Slug.SIGNER_MISMATCH, 402, Reason.INVALID_PAYMENT),
    ],
)
def test_problems_that_were_not_recorded(slug: Slug, status: int, reason: Reason) -> None:
    assert (status, reason) == (PROBLEMS[slug].http_status, PROBLEMS[slug].reason)
