"""Whether a webhook is Stripe's: an HMAC over the time and the body as it came.

Pure. Source: docs.stripe.com/webhooks, "Verify webhook signatures manually" (read 2026-11).
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from kit.errors import Reason, TurnpikeError

_SCHEME: Final = "v1"
_HEADER_CHARS_MAX: Final = 4_096
_SIGNATURES_MAX: Final = 16


def check_signature(
    body: bytes, header: str, secrets: Sequence[str], *, now_ms: int, tolerance_ms: int
) -> None:
    """Refuse a body that none of the secrets signed, or whose time is not now.

    Raises:
        TurnpikeError: INVALID_VALUE with `param=Stripe-Signature`.
    """
    moment, signatures = _read(header)
    signed = b"%d.%b" % (moment, body)
    right = [_sign(signed, secret) for secret in secrets if secret]
    if not any(hmac.compare_digest(one, each) for one in right for each in signatures):
        raise _refused("The signature does not fit the body.")
    if abs(now_ms - moment * 1000) > tolerance_ms:
        raise _refused("The signature was not made now.")


def signature_header(body: bytes, secret: str, *, unix_s: int) -> str:
    """Return the header of a body that was signed at a moment."""
    return f"t={unix_s},{_SCHEME}={_sign(b'%d.%b' % (unix_s, body), secret).decode()}"


def _sign(signed: bytes, secret: str) -> bytes:
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()


def _read(header: str) -> tuple[int, list[bytes]]:
    """Return the time, Unix seconds, and the signatures of our scheme."""
    moment, signatures = "", list[bytes]()
    for part in header[:_HEADER_CHARS_MAX].split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            moment = moment or value
        elif name == _SCHEME and len(signatures) < _SIGNATURES_MAX:
            signatures.append(value.encode())
    if not (moment.isascii() and moment.isdecimal() and len(moment) <= 12) or not signatures:
        raise _refused("The header has no time or no signature.")
    return int(moment), signatures


def _refused(message: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, message, param="Stripe-Signature")
