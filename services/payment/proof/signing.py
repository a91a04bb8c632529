"""Ed25519 keys of this room: what they sign and how it is checked. Pure.

What is signed begins with a line that says what it is, so that nothing signed for one purpose
passes for another. Source: RFC 8032.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ROOT: Final = b"turnpike root 1\n"
QUOTE: Final = b"turnpike quote 1\n"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_KEY_ID_CHARS: Final = 16


class Signer:
    """A private key; `public_key` is lower-case hex."""

    def __init__(self, seed: bytes) -> None:
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
            key_id_of(public): Ed25519PublicKey.from_public_bytes(public) for public in public_keys
        }

    def flaw(self, key_id: str, purpose: bytes, data: bytes, signature: bytes) -> str:
        """Return why a signature proves nothing, as a sentence; empty when it does."""
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
        seed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise ValueError("The signing key is not base64url.") from error
    if len(seed) != KEY_BYTES:
        raise ValueError(f"The signing key has {len(seed)} bytes; {KEY_BYTES} are needed.")
    return seed


def public_key_of(text: str) -> bytes:
    """Return a public key that is written as hex.

    Raises:
        ValueError: It is none.
    """
    try:
        key = bytes.fromhex(text.strip())
        Ed25519PublicKey.from_public_bytes(key)
    except ValueError as error:
        raise ValueError("A public key is 64 hexadecimal digits.") from error
    return key
