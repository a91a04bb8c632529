"""Prompt-cache markers of a request, and how they are taken out for who does not know them; pure.

A marker stands on a message, a block of content, a tool or its function. Whatever else is called
the same, such as a property in a tool's schema, is none.
"""

from typing import Final

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body

NAME: Final = "cache_control"
_MARK: Final = b'"cache_control"'
_NULL: Final = msgspec.Raw(b"null")

Fields = dict[str, msgspec.Raw]
_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fields: Final = msgspec.json.Decoder(Fields).decode
_encode: Final = msgspec.json.encode


def may_have_marks(body: bytes) -> bool:
    """Return whether a request could hold a marker: one look that nearly all end with."""
    return body.find(_MARK) >= 0


def without_marks(body: Body) -> tuple[Body, bool]:
    """Return a request without its markers, and whether there was one; else it stays as it is."""
    found = dict(body)
    for name, inner in (("messages", "content"), ("tools", "function")):
        if name in body and (raw := _unmarked_list(body[name], inner)) is not None:
            found[name] = raw
    is_marked = found.pop(NAME, _NULL) != _NULL or any(
        found[name] is not body[name] for name in found
    )
    return (found, True) if is_marked else (body, False)


def _unmarked_list(raw: msgspec.Raw, inner: str) -> msgspec.Raw | None:
    """Return a list without the markers of its entries and of their `inner`; None for no change."""
    text = bytes(raw)
    if not may_have_marks(text):
        return None
    try:
        entries = _list(text)
        unmarked = [_unmarked(entry, inner) for entry in entries]
    except JUNK:
        return None
    if all(new is old for new, old in zip(unmarked, entries, strict=True)):
        return None
    return msgspec.Raw(_encode(unmarked))


def _unmarked(raw: msgspec.Raw, inner: str) -> msgspec.Raw:
    """Return an object without its marker and without those in its member `inner`."""
    text = bytes(raw)
    if not may_have_marks(text) or not text.startswith(b"{"):
        return raw
    fields = _fields(text)
    is_marked = fields.pop(NAME, None) is not None
    held = fields.get(inner, _NULL) if inner else _NULL
    if bytes(held).startswith(b"["):
        new = _unmarked_list(held, "")
    elif (new := _unmarked(held, "")) is held:
        new = None
    if new is not None:
        fields[inner] = new
    return msgspec.Raw(_encode(fields)) if is_marked or new is not None else raw
