"""A checksummed token: prefix, 256 random bits in base 62, and a checksum that tells typing errors.

Form: prefix + 43 characters of body + 6 characters of CRC-32 over prefix and body, digits first,
then capitals, then small letters. The checksum proves nothing about who made a token; it lets a
border refuse garbage offline, and a scanner recognise a leak.
"""

import hashlib
import re
import zlib
from collections.abc import Iterable
from typing import Final

RANDOM_BYTES: Final = 32
BODY_CHARS: Final = 43
CHECKSUM_CHARS: Final = 6
FOREIGN_CHARS_MIN: Final = 16
FOREIGN_CHARS_MAX: Final = 512

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TAIL: Final = re.compile(rf"[0-9A-Za-z]{{{BODY_CHARS + CHECKSUM_CHARS}}}")
_FOREIGN: Final = re.compile(rf"[!-~]{{{FOREIGN_CHARS_MIN},{FOREIGN_CHARS_MAX}}}")


def mint_token(prefix: str, random_bytes: bytes) -> str:
    """Return the token of 32 random bytes.

    Raises:
        ValueError: There are not exactly 32 bytes.
    """
    if len(random_bytes) != RANDOM_BYTES:
        raise ValueError(f"Randomness has {len(random_bytes)} bytes; {RANDOM_BYTES} needed.")
    head = prefix + _base62(int.from_bytes(random_bytes, "big"), BODY_CHARS)
    return head + _checksum(head)


def is_token(text: str, *, prefix: str, foreign_prefixes: Iterable[str] = ()) -> bool:
    """Return whether `text` can be a token at all.

    A text that starts with `prefix` must have the right length, alphabet and checksum. One that
    starts with a foreign prefix comes from another system: 16 to 512 printable ASCII characters.
    """
    if text.startswith(prefix):
        tail = text[len(prefix) :]
        return _TAIL.fullmatch(tail) is not None and text.endswith(
            _checksum(text[:-CHECKSUM_CHARS])
        )
    return text.startswith(tuple(foreign_prefixes)) and _FOREIGN.fullmatch(text) is not None


def token_digest(text: str) -> bytes:
    """Return the SHA-256 of the whole token, 32 bytes: the only form of it that travels.

    Any text has one, also what a header holds instead of a token.
    """
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def _checksum(head: str) -> str:
    return _base62(zlib.crc32(head.encode()), CHECKSUM_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
