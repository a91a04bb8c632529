"""How values look inside headers: base64url without padding, and JSON in canonical form.

Pure. Sources: RFC 4648 section 5; RFC 8785 for the values that are used here: objects, lists,
strings, booleans, null and integers up to 2^53 - 1. There is no float anywhere.
"""

from collections.abc import Mapping
from typing import Final

INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding."""
    raise NotImplementedError


def decode_base64url(text: str) -> bytes:
    """Return the bytes of base64url that is exactly what `encode_base64url` writes.

    Raises:
        ValueError: Padding, another alphabet, white space, an impossible length or stray last bits.
    """
    raise NotImplementedError


def canonical_json(value: object) -> bytes:
    """Return RFC 8785 JSON: no white space, members in the order of their UTF-16 code units.

    Raises:
        ValueError: A float, an integer beyond `INTEGER_MAX`, a lone surrogate, another type.
    """
    raise NotImplementedError


def read_json_object(data: bytes) -> dict[str, object]:
    """Return a JSON object as it was written.

    Raises:
        ValueError: No UTF-8, no JSON, no object, a member twice, a float, an integer beyond
            `INTEGER_MAX`, a lone surrogate, or nested too deeply.
    """
    raise NotImplementedError


def encode_object(value: Mapping[str, object]) -> str:
    """Return an object as base64url of canonical JSON. Raises ValueError as both steps do."""
    raise NotImplementedError


def decode_object(text: str) -> dict[str, object]:
    """Return the object in base64url of JSON. Raises ValueError as both steps do."""
    raise NotImplementedError
