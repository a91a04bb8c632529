"""Secrets as they are kept at rest, under one of several master keys; pure.

What a secret belongs to is part of the seal, so that a row which was copied, changed or moved to
another account or provider cannot be opened.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from kit.sealed import KEY_BYTES, KeyRing, Sealed, SealError, context_of

_PURPOSE: Final = "provider key"
_STANDARD: Final = str.maketrans("-_", "+/")


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
    if len(found) != KEY_BYTES:
        raise ValueError(f"a master key has {KEY_BYTES} bytes, not {len(found)}")
    return found


class SealingRing:
    """Master keys by id; `current` is the id of the one that seals, the others only open.

    An empty ring seals nothing and opens nothing.

    Raises:
        ValueError: The current key is not in the ring, or a key is none.
    """

    def __init__(self, keys: Mapping[str, SecretStr], current: str) -> None:
        plain = {key_id: master_key(text) for key_id, text in keys.items()}
        self._ring = KeyRing(plain, key_id=current) if plain else None
        self.current = current

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to seal with."""
        return self._ring is None

    def seal(self, secret: SecretStr, *, account_id: str, provider: str) -> Sealed:
        """Return a secret sealed for one account and provider.

        Raises:
            SealError: The ring is empty.
        """
        plain = secret.get_secret_value().encode()
        return self._needed().seal(plain, context=context_of(_PURPOSE, account_id, provider))

    def open(self, sealed: Sealed, *, account_id: str, provider: str) -> SecretStr:
        """Return the secret that was sealed for this account and provider.

        Raises:
            SealError: It was sealed for another, or with a key that is not here, or changed.
        """
        context = context_of(_PURPOSE, account_id, provider)
        return SecretStr(self._needed().open(sealed, context=context).decode())

    def _needed(self) -> KeyRing:
        if self._ring is None:
            raise SealError("There is no master key.")
        return self._ring
