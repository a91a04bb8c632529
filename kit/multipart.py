"""Bodies of media type multipart/form-data, taken apart and put together; pure.

Strict in what it takes: every part has a name and lies between delimiters of the boundary that the
header announced. Source: RFC 7578, and RFC 2046 section 5.1.1 for the delimiters.
"""

import re
import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple

PARTS_MAX: Final = 64
PART_HEAD_BYTES_MAX: Final = 8_192
"""Bounds of what is taken: fields of one form, and headers of one field."""

_BOUNDARY: Final = re.compile(
    r"""multipart/form-data\s*(?:;.*?)?;\s*boundary=(?:"([^"\\]{1,70})"|([^\s;"]{1,70}))\s*(?:;.*)?""",
    re.IGNORECASE,
)
_PARAMETER: Final = re.compile(r';\s*([a-zA-Z*]+)=(?:"((?:[^"\\\r\n]|\\.)*)"|([^\s;"]*))')
_QUOTED: Final = re.compile(r"\\(.)")
_WRITABLE: Final = re.compile(r"[A-Za-z0-9_.\[\] -]{1,200}")
_AS_THEY_ARE: Final = frozenset({"", "7bit", "8bit", "binary"})


class MultipartError(ValueError):
    """A body that is no form; the text is a sentence without anything of the body."""


class Part(NamedTuple):
    """One field of a form; `filename` None means that it is no file."""

    name: str
    data: bytes
    filename: str | None = None
    content_type: str = ""


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary that a Content-Type header announces; None when it is of no form."""
    match = _BOUNDARY.fullmatch(content_type.strip())
    if match is None:
        return None
    return (match[1] or match[2]).encode("ascii", errors="replace")


def decode(body: bytes, boundary: bytes) -> list[Part]:
    """Return the parts of a body in their order.

    Raises:
        MultipartError: It is no form within the bounds.
    """
    mark = b"--" + boundary
    delimiter = b"\r\n" + mark
    # What stands in front of the first delimiter is no part.
    if body.startswith(mark):
        at = len(mark)
    else:
        found = body.find(delimiter)
        if found < 0:
            raise MultipartError("The body has no part with the announced boundary.")
        at = found + len(delimiter)
    parts: list[Part] = []
    while not body.startswith(b"--", at):
        start = body.find(b"\r\n", at, at + PART_HEAD_BYTES_MAX)
        if start < 0 or body[at:start].strip(b" \t"):
            raise MultipartError("The body's parts are not parted as they should be.")
        end = body.find(delimiter, start)
        if end < 0:
            raise MultipartError("The body ends within a part.")
        if len(parts) >= PARTS_MAX:
            raise MultipartError(f"The body has more than {PARTS_MAX} parts.")
        parts.append(_part(body, start, end))
        at = end + len(delimiter)
    return parts


def encode(parts: Iterable[Part]) -> tuple[str, bytes]:
    """Return the Content-Type and the body of a form, with a boundary that nobody could foresee.

    `content_type` is written for files alone, as it is.

    Raises:
        ValueError: A name or file name holds what cannot be written without quoting.
    """
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    for part in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_plain(part.name)}"'
        if part.filename is not None:
            head += f'; filename="{_plain(part.filename)}"'
            head += f"\r\nContent-Type: {part.content_type or 'application/octet-stream'}"
        pieces += (head.encode("ascii"), b"\r\n\r\n", part.data, b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode("ascii"))
    return f"multipart/form-data; boundary={boundary}", b"".join(pieces)


def _part(body: bytes, start: int, end: int) -> Part:
    # A part without headers begins with the empty line that ends them.
    limit = min(start + PART_HEAD_BYTES_MAX, end)
    gap = body.find(b"\r\n\r\n", start, limit)
    if gap < 0:
        raise MultipartError("A part has no headers, or too long ones.")
    headers = _headers(body[start + 2 : gap])
    if headers.get("content-transfer-encoding", "").lower() not in _AS_THEY_ARE:
        raise MultipartError("A part is encoded; send it as it is.")
    kind, _, rest = headers.get("content-disposition", "").partition(";")
    found = {name.lower(): _value(match) for name, match in _parameters(";" + rest)}
    if kind.strip().lower() != "form-data" or not found.get("name"):
        raise MultipartError("A part has no name.")
    return Part(
        found["name"], body[gap + 4 : end], found.get("filename"), headers.get("content-type", "")
    )


def _headers(data: bytes) -> dict[str, str]:
    try:
        lines = data.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise MultipartError("A part's headers are not UTF-8.") from None
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _parameters(text: str) -> Iterable[tuple[str, re.Match[str]]]:
    return ((match[1], match) for match in _PARAMETER.finditer(text))


def _value(match: re.Match[str]) -> str:
    return match[3] if match[2] is None else _QUOTED.sub(r"\1", match[2])


def _plain(text: str) -> str:
    if not _WRITABLE.fullmatch(text):
        raise ValueError("A form's names hold letters, digits and a few signs.")
    return text
