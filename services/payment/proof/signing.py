"""Ed25519 keys of this room: what they sign and how it is checked. Pure.

What is signed begins with a line that says what it is, so that nothing signed for one purpose
passes for another. Source: RFC 8032.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ROOT: Final = b"turnpike root 1\n"
QUOTE: Final = b"turnpike quote 1\n"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_KEY_ID_CHARS: Final = 16


class Signer:
    """A private key; `public_key` is lower-case hex."""

    def __init__(self, seed: bytes) -> None:
        # Loaded where there is a key: it costs megabytes that other rooms do not need.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )

        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._key.public_key().public_bytes_raw()
        self.public_key = public.hex()
        self.key_id = key_id_of(public)

    def sign(self, purpose: bytes, data: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self._key.sign(purpose + data)


class Keyring:
    """Public keys that are trusted."""

    def __init__(self, public_keys: Iterable[bytes]) -> None:
        self._keys: Mapping[str, Ed25519PublicKey] = {
            key_id_of(public): _public_key(public) for public in public_keys
        }

    def flaw(self, key_id: str, purpose: bytes, data: bytes, signature: bytes) -> str:
        """Return why a signature proves nothing, as a sentence; empty when it does."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - see `Signer`

        key = self._keys.get(key_id)
        if key is None:
            return f"The key {key_id} is not one of those that are trusted."
        try:
            key.verify(signature, purpose + data)
        except InvalidSignature:
            return "The signature is not the key's."
        return ""


def key_id_of(public_key: bytes) -> str:
    """Return what names a public key: the start of its digest."""
    return hashlib.sha256(public_key).hexdigest()[:_KEY_ID_CHARS]


def seed_of(text: str) -> bytes:
    """Return the private key that a setting holds: 32 bytes as base64url without padding.

    Raises:
        ValueError: It does not.
    """
    try:
        seed = from_base64url(text)
    except ValueError as error:
        raise ValueError("The signing key is not base64url.") from error
    if len(seed) != KEY_BYTES:
        raise ValueError(f"The signing key has {len(seed)} bytes; {KEY_BYTES} are needed.")
    return seed


def base64url(data: bytes) -> str:
    """Return bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """Return the bytes of base64url without padding.

    Raises:
        ValueError: It is not, or not written the one way that `base64url` writes it.
    """
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64url(data) != text:
        raise ValueError("It is not written the shortest way.")
    return data


def public_key_of(text: str) -> bytes:
    """Return a public key that is written as hex.

    Raises:
        ValueError: It is none.
    """
    try:
        key = bytes.fromhex(text.strip())
        _public_key(key)
    except ValueError as error:
        raise ValueError("A public key is 64 hexadecimal digits.") from error
    return key


def _public_key(key: bytes) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - see `Signer`
        Ed25519PublicKey,
    )

    return Ed25519PublicKey.from_public_bytes(key)
