"""A NATS user's credentials file: its JWT, if it has one, and the key that signs the nonce.

Source: the nkeys text form (base32 of two prefix bytes, 32 seed bytes and a CRC-16), docs.nats.io,
"NKeys" and "JWTs"; checked against nats-server 2.15.1 in November 2026.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_JWT: Final = re.compile(r"BEGIN NATS USER JWT-+\s+(\S+)")
_SEED: Final = re.compile(r"\b(SU[A-Z2-7]{56})\b")
_PREFIX_SEED: Final = 18 << 3
_PREFIX_USER: Final = 20 << 3
_SEED_BYTES: Final = 36


@dataclass(frozen=True, slots=True)
class NatsLogin:
    """Who logs in: `public_key` in NATS's text form; `jwt` is empty for a bare key."""

    public_key: str
    jwt: str = field(repr=False)
    _key: "Ed25519PrivateKey" = field(repr=False)

    def sign(self, nonce: str) -> bytes:
        """Return the base64 signature of the server's nonce."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def read_nats_login(path: Path) -> NatsLogin:
    """Read a `.creds` file, or a file with nothing but a user's seed.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no user's seed, or a mistyped one.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - 12 MiB
        Ed25519PrivateKey,
    )

    text = path.read_text()
    seed = _SEED.search(text)
    if seed is None:
        raise ValueError(f"{path} holds no seed of a NATS user.")
    jwt = _JWT.search(text)
    key = Ed25519PrivateKey.from_private_bytes(_seed_bytes(seed[1], path))
    return NatsLogin(_public_text(key), jwt[1] if jwt else "", key)


def _seed_bytes(text: str, path: Path) -> bytes:
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    body, check = raw[:-2], raw[-2:]
    is_user = (body[0] & 0xF8) == _PREFIX_SEED and (
        (body[0] & 7) << 5 | body[1] >> 3
    ) == _PREFIX_USER
    if len(raw) != _SEED_BYTES or not is_user or check != _crc16(body):
        raise ValueError(f"{path} holds a mistyped seed.")
    return body[2:]


def _public_text(key: "Ed25519PrivateKey") -> str:
    body = bytes([_PREFIX_USER]) + key.public_key().public_bytes_raw()
    return base64.b32encode(body + _crc16(body)).decode().rstrip("=")


def _crc16(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")
