"""Challenges: what a 402 asks for, bound to a secret so that nothing has to be stored.

Pure. Source: paymentauth.org draft 00, `WWW-Authenticate: Payment`; facts agreed with two SDKs.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from services.payment.mpp.auth_params import quoted, schemes
from services.payment.mpp.encoding import (
    decode_object,
    encode_base64url,
    encode_object,
    read_time,
    write_time,
)
from services.payment.mpp.problems import PaymentError, Slug

CHALLENGE_BYTES_MAX: Final = 8 * 1024 - 1
NONCE_KEY: Final = "nonce"
"""Member of `opaque` that makes two challenges of one second differ."""
SCHEME: Final = "Payment"
_SEPARATOR: Final = "|"
_REQUIRED: Final = ("id", "realm", "method", "intent", "request")
_OPTIONAL: Final = ("expires", "digest", "description", "opaque", "header")
_DEFAULT_HEADER: Final = "authorization"


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered, before it is bound to a time and a secret.

    `request` are the price terms; `memo` are further flat strings that come back in `opaque`, such
    as the resource; `header` names the field for the credential where it is not Authorization.
    """

    realm: str
    method: str
    intent: str
    request: Mapping[str, object]
    memo: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    header: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge as it is on the wire; a text that is absent there is empty here."""

    id: str
    realm: str
    method: str
    intent: str
    request_b64: str
    expires: str = ""
    digest: str = ""
    description: str = ""
    opaque_b64: str = ""
    header: str = ""

    @property
    def request(self) -> dict[str, object]:
        """The price terms, decoded anew at each use.

        Raises:
            PaymentError: malformed-credential.
        """
        try:
            return decode_object(self.request_b64)
        except ValueError as error:
            raise _malformed("request", str(error)) from None

    @property
    def opaque(self) -> dict[str, str]:
        """What the issuer wrote for itself: the nonce and the offer's memo; decoded at each use.

        Raises:
            PaymentError: malformed-credential.
        """
        if not self.opaque_b64:
            return {}
        try:
            members = decode_object(self.opaque_b64)
        except ValueError as error:
            raise _malformed("opaque", str(error)) from None
        texts = {name: text for name, text in members.items() if isinstance(text, str)}
        if len(texts) != len(members):
            raise _malformed("opaque", "A member is no string.")
        return texts

    def is_expired(self, now_unix_s: int) -> bool:
        """Whether it may no longer be answered; one without a readable end may never be."""
        try:
            return now_unix_s >= read_time(self.expires)
        except ValueError:
            return True


def issue(secret: str, offer: Offer, *, expires_unix_s: int, nonce: str) -> Challenge:
    """Return a challenge whose id binds everything but the description.

    It never has a digest: vouchers come with an empty body.

    Raises:
        ValueError: The secret or a part of the offer is empty, holds `|`, or cannot be written.
    """
    if NONCE_KEY in offer.memo:
        raise ValueError(f"`{NONCE_KEY}` is no name for a memo.")
    if not all((nonce, offer.realm, offer.method, offer.intent)):
        raise ValueError("Nonce, realm, method and intent must not be empty.")
    unbound = Challenge(
        id="",
        realm=offer.realm,
        method=offer.method,
        intent=offer.intent,
        request_b64=encode_object(offer.request),
        expires=write_time(expires_unix_s),
        description=offer.description,
        opaque_b64=encode_object({**offer.memo, NONCE_KEY: nonce}),
        header="" if offer.header.lower() == _DEFAULT_HEADER else offer.header,
    )
    return bind(secret, unbound)


def bind(secret: str, challenge: Challenge) -> Challenge:
    """Return the challenge with the id that the secret gives it.

    Raises:
        ValueError: The secret is empty, or a part holds `|`.
    """
    if not (slots := _slots(challenge)):
        raise ValueError("No part of a challenge may hold `|`.")
    return replace(challenge, id=_identity(secret, slots))


def is_ours(challenge: Challenge, secrets: Sequence[str]) -> bool:
    """Return whether one of the secrets made the id; constant time in id and secrets.

    Raises:
        ValueError: A secret is empty.
    """
    if not (slots := _slots(challenge)):
        return False
    given = challenge.id.encode()
    is_found = False
    for secret in secrets:
        is_found |= hmac.compare_digest(given, _identity(secret, slots).encode())
    return is_found


def _slots(challenge: Challenge) -> bytes:
    """Return what the id is made of; empty when a part could be read as two."""
    parts = [
        challenge.realm,
        challenge.method,
        challenge.intent,
        challenge.request_b64,
        challenge.expires,
        challenge.digest,
        *([challenge.header] if challenge.header else []),
        challenge.opaque_b64,
    ]
    if any(_SEPARATOR in part for part in parts):
        return b""
    return _SEPARATOR.join(parts).encode()


def _identity(secret: str, slots: bytes) -> str:
    if not secret:
        raise ValueError("The secret must not be empty.")
    return encode_base64url(hmac.digest(secret.encode(), slots, hashlib.sha256))


def header_value(challenge: Challenge) -> str:
    """Return the value of WWW-Authenticate in ASCII; other characters are escaped as UTF-16.

    Raises:
        ValueError: A control character, or more than `CHALLENGE_BYTES_MAX` bytes.
    """
    parameters = {
        "id": challenge.id,
        "realm": challenge.realm,
        "method": challenge.method,
        "intent": challenge.intent,
        "request": challenge.request_b64,
        "digest": challenge.digest,
        "expires": challenge.expires,
        "description": challenge.description,
        "header": challenge.header,
        "opaque": challenge.opaque_b64,
    }
    pairs = [f"{name}={quoted(text)}" for name, text in parameters.items() if text]
    value = f"{SCHEME} " + ", ".join(pairs)
    if len(value) > CHALLENGE_BYTES_MAX:
        raise ValueError(f"Challenge has {len(value)} bytes; at most {CHALLENGE_BYTES_MAX} fit.")
    return value


def read_challenges(header: str) -> list[Challenge]:
    """Return the Payment challenges of one header value in order; other schemes are passed over.

    Raises:
        ValueError: The value is no list of challenges, or a Payment challenge lacks a parameter,
            has one twice or cannot be decoded.
    """
    return [
        _challenge(parameters)
        for scheme, parameters in schemes(header)
        if scheme.lower() == SCHEME.lower()
    ]


def _challenge(pairs: Sequence[tuple[str, str]]) -> Challenge:
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise ValueError("A parameter of a challenge is there twice.")
    for name in _REQUIRED:
        if not parameters.get(name):
            raise ValueError(f"A challenge lacks `{name}`.")
    known = {
        f"{name}_b64" if name in ("request", "opaque") else name: parameters[name]
        for name in (*_REQUIRED, *_OPTIONAL)
        if name in parameters
    }
    challenge = Challenge(**known)
    try:
        _ = (challenge.request, challenge.opaque)
    except PaymentError as error:
        raise ValueError(error.message) from None
    return challenge


def _malformed(member: str, why: str) -> PaymentError:
    return PaymentError(Slug.MALFORMED_CREDENTIAL, f"`challenge.{member}` is refused: {why}")
