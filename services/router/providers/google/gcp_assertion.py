"""What a service account shows to be given an access token; pure.

Source: RFC 7523, and Google's OAuth 2.0 for server to server applications (read 2026-11).
"""

import base64
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
LIFETIME_S: Final = 3600
"""How long an assertion holds; more is refused."""

_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TOKEN_CHARS_MAX: Final = 16_384


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Who we are; `token_uri` is where assertions are taken."""

    email: str
    key_id: str
    token_uri: str
    key: RSAPrivateKey = field(repr=False)


class _File(msgspec.Struct):
    type: str
    client_email: str
    private_key: str
    private_key_id: str = ""
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - where, not what


class _Grant(msgspec.Struct):
    access_token: str
    expires_in: int | float = LIFETIME_S
    token_type: str = "Bearer"  # noqa: S105 - a scheme


class Grant(msgspec.Struct, frozen=True):
    """An access token and how long it holds, seconds."""

    token: str
    lifetime_s: float

    def __repr__(self) -> str:
        return f"Grant(lifetime_s={self.lifetime_s})"


_file: Final = msgspec.json.Decoder(_File).decode
_grant: Final = msgspec.json.Decoder(_Grant).decode


def read_service_account(data: bytes) -> ServiceAccount:
    """Return the account of a key file.

    Raises:
        ValueError: It is no key file of a service account; the text holds nothing of it.
    """
    try:
        found = _file(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("It is no key file of a service account.") from None
    if found.type != "service_account":
        raise ValueError("It is no key file of a service account.")
    try:
        key = load_pem_private_key(found.private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("The private key of the key file cannot be read.") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("The private key of the key file is no RSA key.")  # noqa: TRY004 - a value's fault
    return ServiceAccount(found.client_email, found.private_key_id, found.token_uri, key)


def assertion(account: ServiceAccount, *, now_unix_s: int) -> str:
    """Return a signed statement of who we are, good from now on for `LIFETIME_S`."""
    header = {"typ": "JWT", "alg": "RS256", "kid": account.key_id}
    claims = {
        "iss": account.email,
        "scope": SCOPE,
        "aud": account.token_uri,
        "iat": now_unix_s,
        "exp": now_unix_s + LIFETIME_S,
    }
    signed = b".".join(_encoded(msgspec.json.encode(part)) for part in (header, claims))
    signature = account.key.sign(signed, PKCS1v15(), SHA256())
    return (signed + b"." + _encoded(signature)).decode()


def grant_body(account: ServiceAccount, *, now_unix_s: int) -> bytes:
    """Return the form that asks for a token."""
    fields = {"grant_type": _GRANT, "assertion": assertion(account, now_unix_s=now_unix_s)}
    return urlencode(fields).encode()


def read_grant(answer: bytes) -> Grant:
    """Return what was granted.

    Raises:
        ValueError: Nothing usable was; the text holds nothing of the answer.
    """
    try:
        found = _grant(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ValueError("There is no token in the answer.") from None
    token = found.access_token
    is_usable = 0 < len(token) <= _TOKEN_CHARS_MAX and token.isascii() and token.isprintable()
    if not is_usable or found.token_type.lower() != "bearer" or found.expires_in <= 0:
        raise ValueError("There is no token in the answer.")
    return Grant(token, float(found.expires_in))


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
