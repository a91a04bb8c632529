"""Which payment credential the headers of a request carry; pure, and it never looks into one.

Source: the HTTP `Payment` scheme, paymentauth.org, draft 00: "Authorization" and "Accept-Payment".
"""

from typing import Final, NamedTuple

from multidict import MultiMapping

from gateway.credentials import credential
from kit.errors import Reason, TurnpikeError

AUTHORIZATION: Final = "Authorization"
BESIDE: Final = "Payment-Authorization"
"""Where a payment credential comes while Authorization has a key."""
_SCHEME: Final = "payment"


class Sent(NamedTuple):
    """What a request says of payment; `credential` is empty when it brings none.

    `header` is where the credential came, or has to come: empty for Authorization.
    """

    credential: str
    header: str = ""
    accept_payment: str = ""
    session_hint: str = ""
    idempotency_key: str = ""

    def __repr__(self) -> str:
        return f"Sent(<credential of {len(self.credential)} characters>)"


def sole_key(headers: MultiMapping[str]) -> str:
    """Return the API key as `credential` does, where payments are taken as well.

    Raises:
        NoKeyError: There is no key.
        TurnpikeError: `BAD_REQUEST` when there is a payment credential beside it, too.
    """
    lines = headers.getall(AUTHORIZATION, ())
    if len(lines) > 1 and any(map(_is_payment, lines)):
        raise _several()
    key = credential(headers)
    if "," in key and any(map(_is_payment, key.split(","))):
        raise _several()
    return key


def sent(headers: MultiMapping[str]) -> Sent | None:
    """Return what a request without a key offers; None when Authorization has something else.

    Raises:
        TurnpikeError: `BAD_REQUEST` for several credentials.
    """
    values = [
        value.strip() for line in headers.getall(AUTHORIZATION, ()) for value in line.split(",")
    ]
    payments = [value for value in values if _is_payment(value)]
    if len(payments) < len(values) and not payments:
        return None
    if len(payments) > 1 or len(payments) < len(values) or (payments and "x-api-key" in headers):
        raise _several()
    return _sent(headers, payments, "")


def sent_beside(headers: MultiMapping[str]) -> Sent:
    """Return what a request offers in `Payment-Authorization`.

    Raises:
        TurnpikeError: `BAD_REQUEST` when it is no credential or there are several.
    """
    lines = headers.getall(BESIDE, ())
    values = [value.strip() for line in lines for value in line.split(",")]
    if not all(map(_is_payment, values)):
        raise TurnpikeError(
            Reason.BAD_REQUEST, f"The {BESIDE} header must be of the form Payment <credential>."
        )
    if len(values) > 1:
        raise _several()
    return _sent(headers, values, BESIDE)


def _sent(headers: MultiMapping[str], payments: list[str], header: str) -> Sent:
    return Sent(
        payments[0][len(_SCHEME) :].strip() if payments else "",
        header,
        headers.get("Accept-Payment", ""),
        headers.get("Payment-Session", ""),
        headers.get("Idempotency-Key", ""),
    )


def _is_payment(value: str) -> bool:
    scheme, _, _ = value.strip().partition(" ")
    return scheme.lower() == _SCHEME


def _several() -> TurnpikeError:
    return TurnpikeError(Reason.BAD_REQUEST, "Several credentials were sent; send one.")
