"""Why a payment is refused: one table from the problem's slug to status, title and reason.

Pure, and nothing of HTTP is built here. Source: paymentauth.org, draft 00, problem types.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kit.errors import OUTWARD, Reason, TurnpikeError

TYPE_PREFIX: Final = "https://paymentauth.org/problems/"


class Slug(StrEnum):
    """Last part of a problem type; `payment-forbidden` and `payment-unavailable` are our own."""

    PAYMENT_REQUIRED = "payment-required"
    MALFORMED_CREDENTIAL = "malformed-credential"
    INVALID_CHALLENGE = "invalid-challenge"
    PAYMENT_EXPIRED = "payment-expired"
    INVALID_PAYLOAD = "invalid-payload"
    VERIFICATION_FAILED = "verification-failed"
    METHOD_UNSUPPORTED = "method-unsupported"
    PAYMENT_FORBIDDEN = "payment-forbidden"
    PAYMENT_UNAVAILABLE = "payment-unavailable"
    INVALID_SIGNATURE = "session/invalid-signature"
    SIGNER_MISMATCH = "session/signer-mismatch"
    AMOUNT_EXCEEDS_DEPOSIT = "session/amount-exceeds-deposit"
    DELTA_TOO_SMALL = "session/delta-too-small"
    INSUFFICIENT_BALANCE = "session/insufficient-balance"
    CHANNEL_NOT_FOUND = "session/channel-not-found"
    CHANNEL_FINALIZED = "session/channel-finalized"
    CHALLENGE_NOT_FOUND = "session/challenge-not-found"


@dataclass(frozen=True, slots=True)
class Problem:
    """How a refusal looks outside; a 402 also carries a fresh challenge."""

    title: str
    reason: Reason

    @property
    def http_status(self) -> int:
        """400, 402, 403, 410 or 503."""
        return OUTWARD[self.reason].http_status


PROBLEMS: Final[dict[Slug, Problem]] = {
    Slug.PAYMENT_REQUIRED: Problem("Payment Required", Reason.PAYMENT_REQUIRED),
    Slug.MALFORMED_CREDENTIAL: Problem("Malformed Credential", Reason.INVALID_PAYMENT),
    Slug.INVALID_CHALLENGE: Problem("Invalid Challenge", Reason.INVALID_PAYMENT),
    Slug.PAYMENT_EXPIRED: Problem("Payment Expired", Reason.INVALID_PAYMENT),
    Slug.INVALID_PAYLOAD: Problem("Invalid Payload", Reason.INVALID_PAYMENT),
    Slug.VERIFICATION_FAILED: Problem("Verification Failed", Reason.INVALID_PAYMENT),
    Slug.METHOD_UNSUPPORTED: Problem("Method Unsupported", Reason.PAYMENT_METHOD_UNSUPPORTED),
    Slug.PAYMENT_FORBIDDEN: Problem("Payment Forbidden", Reason.PAYMENT_FORBIDDEN),
    Slug.PAYMENT_UNAVAILABLE: Problem("Payment Unavailable", Reason.UNAVAILABLE),
    Slug.INVALID_SIGNATURE: Problem("Invalid Signature", Reason.INVALID_PAYMENT),
    Slug.SIGNER_MISMATCH: Problem("Signer Mismatch", Reason.INVALID_PAYMENT),
    Slug.AMOUNT_EXCEEDS_DEPOSIT: Problem("Amount Exceeds Deposit", Reason.INVALID_PAYMENT),
    Slug.DELTA_TOO_SMALL: Problem("Delta Too Small", Reason.INVALID_PAYMENT),
    Slug.INSUFFICIENT_BALANCE: Problem("Insufficient Balance", Reason.PAYMENT_REQUIRED),
    Slug.CHANNEL_NOT_FOUND: Problem("Channel Not Found", Reason.GONE),
    Slug.CHANNEL_FINALIZED: Problem("Channel Closed", Reason.GONE),
    Slug.CHALLENGE_NOT_FOUND: Problem("Challenge Not Found", Reason.INVALID_PAYMENT),
}


class PaymentError(TurnpikeError):
    """A refused payment.

    `message` is the problem's `detail`: one sentence without any byte of the credential.
    `metadata` are further members of the problem, such as `requiredTopUp`.
    """

    def __init__(self, slug: Slug, message: str, **extensions: str) -> None:
        super().__init__(PROBLEMS[slug].reason, message, **extensions)
        self.slug = slug

    @property
    def problem(self) -> Problem:
        """Status, title and reason."""
        return PROBLEMS[self.slug]


def problem_type(slug: str) -> str:
    """Return the `type` of a problem body, a URI."""
    return TYPE_PREFIX + slug
