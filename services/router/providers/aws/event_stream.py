"""Messages of `application/vnd.amazon.eventstream`, cut out of reads of any size; pure.

A message is its length and its headers' length (big-endian, 32 bits), a CRC-32 of those eight
bytes, headers, payload, and a CRC-32 of all that. Source: AWS, "Event stream encoding" (Amazon
Transcribe developer guide; Smithy specification, `application/vnd.amazon.eventstream`; read
2026-11).
"""

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

HEADERS_BYTES_MAX: Final = 128 * 1024
PAYLOAD_BYTES_MAX: Final = 16 * 1024 * 1024
"""Longest that the format allows, and what is given up at the first bytes of a message."""

_PRELUDE: Final = struct.Struct(">III")
_U32: Final = struct.Struct(">I")
_FRAME_BYTES: Final = 16
_NUMBERS: Final = {2: struct.Struct(">b"), 3: struct.Struct(">h"), 4: struct.Struct(">i")} | {
    code: struct.Struct(">q") for code in (5, 8)
}
_LENGTH: Final = struct.Struct(">H")
_UUID_BYTES: Final = 16
_FLAGS: Final = {0: True, 1: False}

HeaderValue: TypeAlias = bool | int | bytes | str
"""A flag, a number (a time is Unix milliseconds), bytes (a UUID is 16 of them) or a text."""


class EventStreamError(ValueError):
    """The bytes are no event stream; the text holds nothing of them."""


class Message(NamedTuple):
    """One message; `payload` is the caller's to read."""

    headers: Mapping[str, HeaderValue]
    payload: bytes

    def text(self, name: str) -> str:
        """Return a header that is a text; empty when there is none."""
        value = self.headers.get(name, "")
        return value if isinstance(value, str) else ""


class EventStreamSplitter:
    """Cuts a stream, split anywhere, into messages; after an error it is of no more use."""

    def __init__(self, *, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._rest = bytearray()

    @property
    def has_rest(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[Message]:
        """Take a read and return the messages that are complete now.

        Raises:
            EventStreamError: A checksum is wrong, a message is too long or makes no sense.
        """
        rest = self._rest
        rest += data
        found: list[Message] = []
        at = 0
        while len(rest) - at >= _PRELUDE.size:
            size, headers_size = self._prelude(rest, at)
            if len(rest) - at < size:
                break
            found.append(_message(bytes(rest[at : at + size]), headers_size))
            at += size
        del rest[:at]
        return found

    def _prelude(self, rest: bytearray, at: int) -> tuple[int, int]:
        """Return how long the message and its headers are."""
        size, headers_size, check = _PRELUDE.unpack_from(rest, at)
        if crc32(rest[at : at + 8]) != check:
            raise EventStreamError("The checksum of a prelude is wrong.")
        payload_size = size - headers_size - _FRAME_BYTES
        if headers_size > HEADERS_BYTES_MAX or not 0 <= payload_size <= self._payload_bytes_max:
            raise EventStreamError("A message has an impossible length.")
        return size, headers_size


def _message(frame: bytes, headers_size: int) -> Message:
    (check,) = _U32.unpack_from(frame, len(frame) - 4)
    if crc32(frame[:-4]) != check:
        raise EventStreamError("The checksum of a message is wrong.")
    start = _PRELUDE.size + headers_size
    return Message(_headers(frame[_PRELUDE.size : start]), frame[start:-4])


def _headers(data: bytes) -> dict[str, HeaderValue]:
    found: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(data):
            size = data[at]
            name = _cut(data, at + 1, size).decode("utf-8")
            at += 1 + size
            if name in found:
                raise EventStreamError("A header comes twice.")
            found[name], at = _value(data, at)
    except (IndexError, UnicodeDecodeError, struct.error):
        raise EventStreamError("The headers of a message make no sense.") from None
    return found


def _value(data: bytes, at: int) -> tuple[HeaderValue, int]:
    """Return the value whose type stands at a place, and where it ends."""
    code = data[at]
    at += 1
    if code in _FLAGS:
        return _FLAGS[code], at
    if code in _NUMBERS:
        number = _NUMBERS[code]
        return number.unpack_from(data, at)[0], at + number.size
    if code == 9:
        return _cut(data, at, _UUID_BYTES), at + _UUID_BYTES
    if code not in (6, 7):
        raise EventStreamError("A header has a type that is not known.")
    (size,) = _LENGTH.unpack_from(data, at)
    value = _cut(data, at + 2, size)
    return (value if code == 6 else value.decode("utf-8")), at + 2 + size


def _cut(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError(at)
    return data[at : at + size]
