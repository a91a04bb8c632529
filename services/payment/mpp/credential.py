"""Credentials: a challenge that comes back with a proof.

Pure. Source: paymentauth.org draft 00, `Authorization: Payment`. Nothing here says whether the
challenge is ours or the proof holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from services.payment.mpp.challenge import Challenge
from services.payment.mpp.encoding import decode_object, encode_object
from services.payment.mpp.problems import PaymentError, Slug

CREDENTIAL_BYTES_MAX: Final = 65_536
_REQUIRED: Final = {
    "id": "id",
    "realm": "realm",
    "method": "method",
    "intent": "intent",
    "request": "request_b64",
}
_OPTIONAL: Final = {
    "expires": "expires",
    "digest": "digest",
    "description": "description",
    "opaque": "opaque_b64",
    "header": "header",
}


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as it was sent; `source` is empty when absent."""

    challenge: Challenge
    payload: Mapping[str, object] = field(repr=False)
    source: str = ""


def read_credential(text: str) -> Credential:
    """Read the value of Authorization without its scheme; the size is checked first.

    Raises:
        PaymentError: malformed-credential, naming the member; never quotes the credential.
    """
    if len(text) > CREDENTIAL_BYTES_MAX:
        raise _malformed(f"Credential has {len(text)} bytes; at most {CREDENTIAL_BYTES_MAX} fit.")
    try:
        members = decode_object(text.strip(" \t"))
    except ValueError as error:
        raise _malformed(f"Credential must be a JSON object in base64url. {error}") from None
    challenge, payload = members.get("challenge"), members.get("payload")
    if not isinstance(challenge, dict):
        raise _malformed("`challenge` must be an object.")
    if not isinstance(payload, dict):
        raise _malformed("`payload` must be an object.")
    source = members.get("source", "")
    if not isinstance(source, str) or ("source" in members and not source):
        raise _malformed("`source` must be a string that is not empty.")
    return Credential(challenge=_challenge(challenge), payload=payload, source=source)


def _challenge(members: Mapping[str, object]) -> Challenge:
    texts: dict[str, str] = {}
    for name, part in (_REQUIRED | _OPTIONAL).items():
        text = members.get(name, "")
        if not isinstance(text, str):
            raise _malformed(f"`challenge.{name}` must be a string.")
        if name in _REQUIRED and not text:
            raise _malformed(f"`challenge.{name}` is missing.")
        texts[part] = text
    return Challenge(**texts)


def credential_value(credential: Credential) -> str:
    """Return what `read_credential` reads. For clients and tests.

    Raises:
        ValueError: The payload cannot be written exactly.
    """
    challenge = {
        name: text
        for name, part in (_REQUIRED | _OPTIONAL).items()
        if (text := getattr(credential.challenge, part))
    }
    members: dict[str, object] = {"challenge": challenge, "payload": credential.payload}
    if credential.source:
        members["source"] = credential.source
    return encode_object(members)


def _malformed(message: str) -> PaymentError:
    return PaymentError(Slug.MALFORMED_CREDENTIAL, message)
