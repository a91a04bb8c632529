"""How a refusal of the machine rail looks: a problem and an OpenAI error in one body; pure.

Source: RFC 9457, and paymentauth.org, draft 00, "Error Responses".
"""

from typing import Final

import msgspec
from multidict import CIMultiDict

from gateway.openai.schema import decode_fields
from kit.errors import Reason, TurnpikeError
from turnpike.payment.v1 import machine_pb2

PROBLEMS: Final = "https://paymentauth.org/problems/"
"""What precedes the name of a problem in its type."""
_TITLE_WORDS: Final = str.maketrans("-/", "  ")


class PaymentRefusedError(TurnpikeError):
    """Payment refused, and says what would do.

    With `because` it offers to pay for what was refused to a key, whose error it stays.
    """

    def __init__(
        self, refusal: machine_pb2.PaymentRefusal, because: TurnpikeError | None = None
    ) -> None:
        if because is None:
            super().__init__(_reason(refusal.reason), refusal.detail)
        else:
            super().__init__(because.reason, because.message, **because.metadata)
        self.refusal = refusal


def problem_headers(
    refusal: machine_pb2.PaymentRefusal, headers: dict[str, str]
) -> CIMultiDict[str]:
    """Return the headers of a refusal; `headers` are those that any refusal has."""
    found = CIMultiDict(headers)
    found["Content-Type"] = "application/problem+json"
    found["Cache-Control"] = "no-store"
    for challenge in refusal.www_authenticate:
        found.add("WWW-Authenticate", challenge)
    if refusal.retry_after_s:
        found["Retry-After"] = str(refusal.retry_after_s)
    return found


def problem_body(refusal: machine_pb2.PaymentRefusal, error_body: bytes) -> bytes:
    """Return the body of a refusal: the problem's members beside those of the client API's error.

    Where both have a member, such as `type`, it is the problem's; `error` stays the API's.
    """
    members: dict[str, object] = {
        **decode_fields(error_body),
        **{name: value for name, value in refusal.extensions.items() if name != "error"},
        "type": PROBLEMS + refusal.problem,
        "title": refusal.problem.translate(_TITLE_WORDS).capitalize(),
        "status": refusal.http_status,
        "detail": refusal.detail,
    }
    if refusal.challenge_id:
        members["challengeId"] = refusal.challenge_id
    return msgspec.json.encode(members)


def _reason(name: str) -> Reason:
    try:
        return Reason(name)
    except ValueError:
        # A payment room of a later release may know more reasons than this gateway.
        return Reason.INVALID_PAYMENT
