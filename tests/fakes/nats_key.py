"""Keys and tokens as NATS's own tools make them, to log in to a real server in tests."""

import base64
import binascii
import json
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PREFIXES: Final = {"O": 14 << 3, "A": 0, "U": 20 << 3}
_SEED: Final = 18 << 3


class NatsKey:
    """A fresh key of an operator (`O`), an account (`A`) or a user (`U`)."""

    def __init__(self, kind: str) -> None:
        self._key = Ed25519PrivateKey.generate()
        prefix = _PREFIXES[kind]
        head = bytes([_SEED | prefix >> 5, (prefix & 31) << 3])
        self.seed = _text(head + self._key.private_bytes_raw())
        self.public = _text(bytes([prefix]) + self._key.public_key().public_bytes_raw())

    def token(self, subject: "NatsKey", claims: dict[str, object]) -> str:
        """Return a JWT about `subject`, signed by this key."""
        body = {
            "jti": subject.public,
            "iat": 1_700_000_000,
            "iss": self.public,
            "sub": subject.public,
            "nats": {"version": 2, **claims},
        }
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = f"{_url64(json.dumps(head).encode())}.{_url64(json.dumps(body).encode())}"
        return f"{signed}.{_url64(self._key.sign(signed.encode()))}"

    def credentials(self, token: str) -> str:
        """Return the text of a `.creds` file."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )


def _text(body: bytes) -> str:
    check = binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body + check).decode().rstrip("=")


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
