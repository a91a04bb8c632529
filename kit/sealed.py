"""Values that leave the process and that nobody else may read or exchange: AES-256-GCM; pure.

Each value is sealed for a context, such as its owner and its name, and opens in that one alone. A
ring holds several keys, so that they can be rotated: one seals, all of them open. Every value has a
key of its own, derived from the ring's by random salt, so there is no bound to how many are sealed.
"""

import hashlib
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
KEY_ID_BYTES_MAX: Final = 64
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_VERSION: Final = b"\x01"
_DERIVED_ID_CHARS: Final = 8


class SealError(Exception):
    """A value cannot be opened: it was changed, is another's, or its key is gone."""


class Sealed(NamedTuple):
    """A sealed value; `nonce` is salt and nonce together, `ciphertext` ends in the tag."""

    key_id: str
    nonce: bytes
    ciphertext: bytes

    def to_bytes(self) -> bytes:
        """Return it in one piece."""
        name = self.key_id.encode()
        return b"".join((_VERSION, bytes((len(name),)), name, self.nonce, self.ciphertext))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Sealed":
        """Return what `to_bytes` wrote.

        Raises:
            SealError: It is nothing of the kind.
        """
        name_end = 2 + (data[1] if len(data) > 1 else 0)
        nonce_end = name_end + _SALT_BYTES + _NONCE_BYTES
        if data[:1] != _VERSION or len(data) < nonce_end + _TAG_BYTES:
            raise SealError("This is no sealed value.")
        try:
            key_id = data[2:name_end].decode()
        except UnicodeDecodeError:
            raise SealError("This is no sealed value.") from None
        return cls(key_id, data[name_end:nonce_end], data[nonce_end:])


class KeyRing:
    """Keys by their id; `key_id` is the one that seals."""

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        key_id: str,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Take the keys, 32 bytes each.

        Raises:
            ValueError: One has another size or an id that is too long, or the one that seals is
                missing.
        """
        for name, key in keys.items():
            if len(key) != KEY_BYTES:
                raise ValueError(f"The key {name} has {len(key)} bytes; {KEY_BYTES} needed.")
            if not 0 < len(name.encode()) <= KEY_ID_BYTES_MAX:
                raise ValueError(f"A key's id has 1 to {KEY_ID_BYTES_MAX} bytes.")
        if key_id not in keys:
            raise ValueError(f"There is no key {key_id}.")
        self._keys = dict(keys)
        self._random_bytes = random_bytes
        self.key_id = key_id

    def seal(self, plain: bytes, *, context: bytes) -> Sealed:
        """Return a value that opens in this context alone."""
        nonce = self._random_bytes(_SALT_BYTES + _NONCE_BYTES)
        return Sealed(self.key_id, nonce, self._cipher(self.key_id, nonce, context).encrypt(plain))

    def open(self, sealed: Sealed, *, context: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            SealError: It was changed, belongs elsewhere, or its key is not on the ring.
        """
        if sealed.key_id not in self._keys or len(sealed.nonce) != _SALT_BYTES + _NONCE_BYTES:
            raise SealError("The value's key is not on the ring.")
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - seldom used

        cipher = self._cipher(sealed.key_id, sealed.nonce, context)
        try:
            return cipher.decrypt(sealed.ciphertext)
        except InvalidTag:
            raise SealError("The value was changed, or belongs elsewhere.") from None

    def _cipher(self, key_id: str, nonce: bytes, context: bytes) -> "_Cipher":
        from cryptography.hazmat.primitives.ciphers.aead import (  # noqa: PLC0415 - seldom used
            AESGCM,
        )

        salt, rest = nonce[:_SALT_BYTES], nonce[_SALT_BYTES:]
        key = hmac.digest(self._keys[key_id], b"turnpike sealed v1" + salt, "sha256")
        return _Cipher(AESGCM(key), rest, key_id.encode() + b"\0" + context)


class _Cipher(NamedTuple):
    """The cipher of one value."""

    aead: "AESGCM"
    nonce: bytes
    context: bytes

    def encrypt(self, plain: bytes) -> bytes:
        return self.aead.encrypt(self.nonce, plain, self.context)

    def decrypt(self, ciphertext: bytes) -> bytes:
        return self.aead.decrypt(self.nonce, ciphertext, self.context)


def context_of(*parts: str) -> bytes:
    """Return the context of these parts; none can be mistaken for other ones."""
    encoded = (part.encode("utf-8", "surrogatepass") for part in parts)
    return b"".join(len(part).to_bytes(4) + part for part in encoded)


def ring_of(text: str) -> KeyRing:
    """Return the ring of keys in base64url, with commas between them; the first one seals.

    Their ids are the beginnings of their digests.

    Raises:
        ValueError: One is no base64url of 32 bytes. The message does not quote it.
    """
    keys: dict[str, bytes] = {}
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        try:
            key = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(f"Key {number} is no base64url of {KEY_BYTES} bytes.")
        keys[hashlib.sha256(key).hexdigest()[:_DERIVED_ID_CHARS]] = key
    if not keys:
        raise ValueError("There is no key.")
    return KeyRing(keys, key_id=next(iter(keys)))


def new_key(random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Return a new key in base64url."""
    return urlsafe_b64encode(random_bytes(KEY_BYTES)).decode().rstrip("=")
