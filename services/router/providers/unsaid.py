"""What of a request a wire format has no words for: refused, told, or nothing at all; pure.

A codec names the fields that it says itself. Of the others those that change the answer are
refused, so that another route is tried, and the rest is told to the caller.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from services.router.capabilities import FEATURES, param_of
from services.router.constraints import CONSTRAINTS
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body
from services.router.providers.refusals import unsupported

SEMANTIC: Final = frozenset(map(param_of, FEATURES)) - {"messages"}
"""Request fields that change the answer."""

_ELSEWHERE: Final = CONSTRAINTS | {
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "timeout_ms",
}
"""What every codec says, or what is said and told in another place."""

_UNSET: Final = frozenset({b"null", b"[]", b"{}", b'""', b"false"})
_NOTHING: Final[tuple[object, ...]] = (None, False, 0, "", [], {})
_HARMLESS: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "repetition_penalty": (None, 1),
    "parallel_tool_calls": (None, True),
    "skip_special_tokens": (None, True),
    "modalities": (None, [], ["text"]),
    "function_call": (None, "auto", "none"),
    "tool_choice": (None, "auto", "none"),
    "top_k": (*_NOTHING, -1),
}
"""Semantic values that ask for nothing, where they are others than `_NOTHING`."""

_USUAL_DETAIL: Final = (None, "auto")
_TOOLS: Final = ("tool", "function")


class _Url(msgspec.Struct):
    detail: str | None = None


class _Block(msgspec.Struct):
    image_url: _Url | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block] | None = None
    name: str | None = None


_messages: Final = msgspec.json.Decoder(list[_Message]).decode


def asks_nothing(name: str, raw: bytes) -> bool:
    """Return whether the value of a field that changes answers is one that does not."""
    try:
        return msgspec.json.decode(raw) in _HARMLESS.get(name, _NOTHING)
    except JUNK:
        return False


def unsaid(body: Body, said: frozenset[str]) -> tuple[str, ...]:
    """Return the fields of a request that are left aside, sorted.

    Args:
        body: The OpenAI request.
        said: The fields that the codec says.

    Raises:
        ProviderError: UNSUPPORTED, with `param`: one of the others changes the answer.
    """
    if body.keys() <= _ELSEWHERE:
        return ()
    left = []
    for name in sorted(body.keys() - said - _ELSEWHERE):
        raw = bytes(body[name])
        if name in SEMANTIC:
            if not asks_nothing(name, raw):
                raise unsupported(name)
        elif raw not in _UNSET:
            left.append(name)
    return tuple(left)


def unsaid_of_messages(body: Body) -> list[str]:
    """Return what messages may say that turns have no place for: names, and how closely to look."""
    raw = bytes(body.get("messages", b""))
    if b'"name"' not in raw and b'"detail"' not in raw:
        return []
    try:
        messages = _messages(raw)
    except JUNK:
        return []
    blocks = [b for m in messages if isinstance(m.content, list) for b in m.content]
    urls = [block.image_url for block in blocks if block.image_url is not None]
    found = []
    if any(url.detail not in _USUAL_DETAIL for url in urls):
        found.append("messages.image_url.detail")
    if any(message.name and message.role not in _TOOLS for message in messages):
        found.append("messages.name")
    return found
