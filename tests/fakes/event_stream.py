"""Writes `application/vnd.amazon.eventstream`, for fakes of AWS."""

import struct
from collections.abc import Mapping
from typing import Any
from zlib import crc32


class Raw(bytes):
    """A header value as its type's number and bytes, for types that Python has not."""


def frame(headers: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return one message; a header is a flag, a text, bytes or `Raw`."""
    block = b"".join(
        bytes([len(name.encode())]) + name.encode() + _value(value)
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", len(block) + len(payload) + 16, len(block))
    body = prelude + struct.pack(">I", crc32(prelude)) + block + payload
    return body + struct.pack(">I", crc32(body))


def event(name: str, payload: bytes, content_type: str = "application/json") -> bytes:
    """Return a message that holds an event."""
    headers = {":event-type": name, ":content-type": content_type, ":message-type": "event"}
    return frame(headers, payload)


def exception(name: str, payload: bytes) -> bytes:
    """Return a message that ends a stream badly."""
    return frame(
        {
            ":exception-type": name,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        payload,
    )


def _value(value: Any) -> bytes:
    if isinstance(value, Raw):
        return value
    if isinstance(value, bool):
        return b"\x00" if value else b"\x01"
    if isinstance(value, bytes):
        return b"\x06" + struct.pack(">H", len(value)) + value
    text: bytes = value.encode()
    return b"\x07" + struct.pack(">H", len(text)) + text
