"""AWS Signature Version 4 for requests whose body is in memory; pure.

Source: AWS General Reference, "Create a signed AWS API request" (read 2026-11).
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote

from pydantic import SecretStr

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_ENDING: Final = "aws4_request"
_RAW_PATHS: Final = frozenset({"s3"})
"""Services that sign a path as it is sent; the others encode it once more."""


class Credentials(NamedTuple):
    """Who signs; the token belongs to keys that expire, and is empty for others."""

    access_key_id: SecretStr
    secret_access_key: SecretStr
    session_token: SecretStr = SecretStr("")


class Scope(NamedTuple):
    """What a signature is good for."""

    region: str
    service: str


class Unsigned(NamedTuple):
    """A request before it is signed.

    `path` is as it is sent, with its query. All of `headers` are signed, `host` is among them, and
    their names are in lower case.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


def signed_headers(
    request: Unsigned, credentials: Credentials, scope: Scope, *, unix_s: int
) -> dict[str, str]:
    """Return the headers that a request needs beside its own, at a time in Unix seconds."""
    moment = datetime.fromtimestamp(unix_s, UTC)
    stamp = moment.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": stamp}
    if token := credentials.session_token.get_secret_value():
        added["x-amz-security-token"] = token
    canonical, names = _canonical(request, {**request.headers, **added}, scope.service)
    day = stamp[:8]
    within = f"{day}/{scope.region}/{scope.service}/{_ENDING}"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{within}\n{_sha256(canonical.encode())}"
    key = b"AWS4" + credentials.secret_access_key.get_secret_value().encode()
    for part in (day, scope.region, scope.service, _ENDING):
        key = _hmac(key, part)
    added["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id.get_secret_value()}/{within}, "
        f"SignedHeaders={names}, Signature={_hmac(key, to_sign).hex()}"
    )
    return added


def _canonical(request: Unsigned, headers: Mapping[str, str], service: str) -> tuple[str, str]:
    """Return the canonical request and the names that are signed."""
    path, _, query = request.path.partition("?")
    if service not in _RAW_PATHS:
        path = quote(_normal(path), safe="/~")
    lines = [f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)]
    names = ";".join(sorted(headers))
    pairs = sorted(tuple(pair.partition("=")[::2]) for pair in query.split("&") if pair)
    parts = (
        request.method,
        path or "/",
        "&".join(f"{name}={value}" for name, value in pairs),
        "\n".join(lines) + "\n",
        names,
        _sha256(request.body),
    )
    return "\n".join(parts), names


def _normal(path: str) -> str:
    """Return a path without empty and dot segments; a slash at its end stays."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    ending = "/" if kept and path.endswith("/") else ""
    return "/" + "/".join(kept) + ending


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
