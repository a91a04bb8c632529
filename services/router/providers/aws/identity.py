"""Keys that AWS lends for a while, as its services spell them; pure.

Source: AWS, "Container credential provider", "Retrieve security credentials from instance
metadata"; AWS STS API reference, AssumeRoleWithWebIdentity (read 2026-11).
"""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import urlencode

import msgspec
from pydantic import SecretStr

from services.router.providers.aws.sign import Credentials
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Failure, ProviderError

_VERSION: Final = "2011-06-15"
_SESSION: Final = "turnpike"
_NAMES: Final = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
_TAG: Final = re.compile(rf"<({'|'.join(_NAMES)})>([^<]{{1,8192}})</".encode())


class Lent(NamedTuple):
    """Keys, and when they end, Unix seconds."""

    credentials: Credentials
    end_unix_s: float


class _Metadata(msgspec.Struct, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    token: str
    expiration: str


def read_metadata(body: bytes) -> Lent:
    """Return the keys of an answer of a container's or an instance's metadata.

    Raises:
        ProviderError: CREDENTIALS: there are none in it.
    """
    try:
        found = msgspec.json.decode(body, type=_Metadata)
    except JUNK:
        raise none_lent() from None
    return _lent(found.access_key_id, found.secret_access_key, found.token, found.expiration)


def read_assumed_role(body: bytes) -> Lent:
    """Return the keys of an answer of STS, which is XML.

    Raises:
        ProviderError: CREDENTIALS: there are none in it.
    """
    found = {name.decode(): value.decode("latin-1").strip() for name, value in _TAG.findall(body)}
    if any(name not in found for name in _NAMES):
        raise none_lent()
    return _lent(*(found[name] for name in _NAMES))


def role_request(role_arn: str, token: str) -> bytes:
    """Return the form that asks STS for the keys of a role."""
    fields = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": _VERSION,
        "RoleArn": role_arn,
        "RoleSessionName": _SESSION,
        "WebIdentityToken": token,
    }
    return urlencode(fields).encode()


def none_lent() -> ProviderError:
    """Return the failure of an attempt for which no keys could be had."""
    return ProviderError(Failure.CREDENTIALS, "AWS lends no keys for the upstream.")


def _lent(key_id: str, secret: str, token: str, end: str) -> Lent:
    try:
        moment = datetime.fromisoformat(end)
    except ValueError:
        raise none_lent() from None
    if not key_id or not secret:
        raise none_lent()
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    credentials = Credentials(SecretStr(key_id), SecretStr(secret), SecretStr(token))
    return Lent(credentials, moment.timestamp())
