"""Secrets as they are kept at rest: AES-256-GCM under one of several keys; pure.

What a secret belongs to is part of the seal, so that a row which was copied, changed or moved to
another account or provider cannot be opened. Source: NIST SP 800-38D; nonces are 96 random bits,
which is good for 2**32 seals under one key.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import SecretStr

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MASTER_KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_PURPOSE: Final = b"turnpike provider key 1"
_STANDARD: Final = str.maketrans("-_", "+/")


class UnsealError(Exception):
    """A secret cannot be opened: its master key is not here, or something was changed."""


class Sealed(NamedTuple):
    """A secret that only a ring with the key `key_id` opens."""

    key_id: str
    nonce: bytes
    ciphertext: bytes


def master_key(text: SecretStr) -> bytes:
    """Return the 32 bytes of a master key in base64, of either alphabet, padded or not.

    Raises:
        ValueError: It is none; the text does not repeat it.
    """
    plain = text.get_secret_value().strip().rstrip("=").translate(_STANDARD)
    try:
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a master key is written in base64") from None
    if len(found) != MASTER_KEY_BYTES:
        raise ValueError(f"a master key has {MASTER_KEY_BYTES} bytes, not {len(found)}")
    return found


class SealingRing:
    """Master keys by id; `current` is the id of the one that seals, the others only open.

    An empty ring seals nothing and opens nothing.

    Raises:
        ValueError: The current key is not in the ring, or a key is none.
    """

    def __init__(self, keys: Mapping[str, SecretStr], current: str) -> None:
        if keys and current not in keys:
            raise ValueError("the current master key is not in the ring")
        self._keys = {key_id: master_key(text) for key_id, text in keys.items()}
        self.current = current

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to seal with."""
        return not self._keys

    def seal(self, secret: SecretStr, *, account_id: str, provider: str, nonce: bytes) -> Sealed:
        """Return a secret sealed for one account and provider; a nonce is used once."""
        data = _belonging(account_id, provider, self.current)
        plain = secret.get_secret_value().encode()
        return Sealed(
            self.current, nonce, _cipher(self._keys[self.current]).encrypt(nonce, plain, data)
        )

    def open(self, sealed: Sealed, *, account_id: str, provider: str) -> SecretStr:
        """Return the secret that was sealed for this account and provider.

        Raises:
            UnsealError: It was sealed for another, or with a key that is not here, or changed.
        """
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see `_cipher`

        key = self._keys.get(sealed.key_id)
        if key is None:
            raise UnsealError("The master key of this secret is not in the ring.")
        data = _belonging(account_id, provider, sealed.key_id)
        try:
            plain = _cipher(key).decrypt(sealed.nonce, sealed.ciphertext, data)
            return SecretStr(plain.decode())
        except (InvalidTag, ValueError) as error:
            raise UnsealError("The seal does not fit.") from error


def _belonging(account_id: str, provider: str, key_id: str) -> bytes:
    """Return what a seal is bound to; each part with its length, so that none runs into another."""
    parts = [_PURPOSE, *(part.encode() for part in (account_id, provider, key_id))]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _cipher(key: bytes) -> "AESGCM":
    # Imported late: where nobody brings a key it would only take memory.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    return AESGCM(key)
