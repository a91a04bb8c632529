"""How values look on the wire: base64url without padding, canonical JSON, RFC 3339 times.

Pure. Sources: RFC 4648 section 5; RFC 3339; RFC 8785 for the values that are used here: objects,
lists, strings, booleans, null and integers up to 2^53 - 1. There is no float anywhere.
"""

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn

INTEGER_MAX: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""
DEPTH_MAX: Final = 32
"""Objects and lists within each other."""
_INTEGER_CHARS_MAX: Final = len(str(-INTEGER_MAX))
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*+")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII
)


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Return the bytes of base64url that is exactly what `encode_base64url` writes.

    Raises:
        ValueError: Padding, another alphabet, white space, an impossible length or stray last bits.
    """
    if len(text) % 4 == 1 or not _BASE64URL.fullmatch(text):
        raise ValueError("Text is no base64url without padding.")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    whole = len(data) - len(data) % 3
    if encode_base64url(data[whole:]) != text[whole // 3 * 4 :]:
        raise ValueError("Text is base64url with stray last bits.")
    return data


def canonical_json(value: object) -> bytes:
    """Return RFC 8785 JSON: no white space, members in the order of their UTF-16 code units.

    Raises:
        ValueError: A float, an integer beyond `INTEGER_MAX`, a lone surrogate, another type.
    """
    return write_json(_ordered(value))


def write_json(value: object) -> bytes:
    """Return JSON without white space, members in the order they are in.

    Raises:
        ValueError: A lone surrogate.
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _ordered(value: object) -> object:
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise ValueError("Names of members must be strings.")
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return {name: _ordered(value[name]) for name in names}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, str | bool | None):
        return value
    if isinstance(value, int) and abs(value) <= INTEGER_MAX:
        return value
    raise ValueError(f"A value of type {type(value).__name__} cannot be written exactly.")


def read_json_object(data: bytes) -> dict[str, object]:
    """Return a JSON object as it was written.

    Raises:
        ValueError: No UTF-8, no JSON, no object, a member twice, a float, an integer beyond
            `INTEGER_MAX`, a lone surrogate, or deeper than `DEPTH_MAX`.
    """
    if _is_deep(data):
        raise ValueError("It is nested too deeply.")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_refused,
            parse_constant=_refused,
        )
        # An escape can spell half a surrogate pair, which nothing after this could encode.
        if b"\\u" in data:
            write_json(value)
    except (UnicodeError, json.JSONDecodeError):
        raise ValueError("It is no JSON in UTF-8.") from None
    if isinstance(value, dict):
        return value
    raise ValueError("It is no JSON object.")


def _is_deep(data: bytes) -> bool:
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return False
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > DEPTH_MAX:
            return True
    return False


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("A member is there twice.")
    return members


def _integer(text: str) -> int:
    if len(text) <= _INTEGER_CHARS_MAX and abs(number := int(text)) <= INTEGER_MAX:
        return number
    return _refused(text)


def _refused(_text: str) -> NoReturn:
    raise ValueError("A number is no integer of at most 53 bits.")


def encode_object(value: Mapping[str, object]) -> str:
    """Return an object as base64url of canonical JSON. Raises ValueError as both steps do."""
    return encode_base64url(canonical_json(value))


def decode_object(text: str) -> dict[str, object]:
    """Return the object in base64url of JSON. Raises ValueError as both steps do."""
    return read_json_object(decode_base64url(text))


def write_time(unix_s: int) -> str:
    """Return an RFC 3339 time in UTC, such as `2027-01-15T12:05:00Z`."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: str) -> int:
    """Return Unix seconds of an RFC 3339 time, rounded down.

    Raises:
        ValueError: It is none.
    """
    if not _TIME.fullmatch(text):
        raise ValueError("It is no RFC 3339 time.")
    since = datetime.fromisoformat(text) - datetime.fromtimestamp(0, UTC)
    return since // timedelta(seconds=1)
