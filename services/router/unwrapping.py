"""Takes a choice out of the object that an upstream without choices was made to answer; pure.

In a stream the choice is shown in one piece, once it is known.
"""

from typing import Any, Final

import msgspec

from services.router.constraints import Constraint
from services.router.providers.port import Batch, Failure, InvalidOutputError, ProviderError

WRAPPED_CHARS_MAX: Final = 8_192
"""Longest text that a choice is looked for in."""

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_index: Final = msgspec.json.Decoder(int)
_text: Final = msgspec.json.Decoder(str | None)
_NULL: Final = msgspec.Raw(b"null")
_SILENT: Final = (_NULL, msgspec.Raw(b'""'), msgspec.Raw(b"[]"), msgspec.Raw(b"{}"))


class _Wrapped(msgspec.Struct):
    choice: str


_wrapped: Final = msgspec.json.Decoder(_Wrapped)
Fields = dict[str, Any]


class ChoiceUnwrapper:
    """Rewrites the batches of one answer in place."""

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        self._gathered: dict[int, str] = {}
        self._known: set[int] = set()

    def edit(self, batch: Batch) -> None:
        """Put the choice in the place of what holds it.

        Raises:
            ProviderError: INVALID_OUTPUT when the choice does not come to an end,
                INVALID_RESPONSE when the answer is not what a chat completion looks like.
        """
        try:
            if batch.completion:
                batch.completion = self._whole(batch.completion)
            if batch.sse:
                events = [self._event(part) for part in batch.sse.split(b"\n\n") if part]
                batch.sse = b"".join(event for event, _ in events)
                batch.content_event_count = sum(has_content for _, has_content in events)
        except msgspec.MsgspecError as error:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The upstream's answer is no chat completion.", status=200
            ) from error

    def _choice(self, text: str) -> str:
        """Return the choice in a whole text; empty when there is none."""
        try:
            found = _wrapped.decode(text.encode("utf-8", "surrogatepass")).choice
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return ""
        return found if found in self._constraint.choices else ""

    def _whole(self, completion: bytes) -> bytes:
        answer: Fields = dict(_fields.decode(completion))
        choices: list[Fields] = [dict(choice) for choice in _list.decode(answer["choices"])]
        for choice in choices:
            message = _fields.decode(choice.get("message", b"{}"))
            if content := _text.decode(message.get("content", b"null")):
                message["content"] = msgspec.Raw(msgspec.json.encode(self._choice(content)))
                choice["message"] = message
        answer["choices"] = choices
        return msgspec.json.encode(answer)

    def _event(self, part: bytes) -> tuple[bytes, bool]:
        """Return the event that is left of one, and whether it has content."""
        chunk: Fields = dict(_fields.decode(part.removeprefix(b"data:").strip()))
        kept: list[Fields] = []
        has_content = False
        for choice in _list.decode(chunk["choices"]):
            delta = _fields.decode(choice.get("delta", b"{}"))
            content = _text.decode(delta.get("content", b"null"))
            if content:
                del delta["content"]
                found = self._more(_index.decode(choice.get("index", b"0")), content)
                if found:
                    delta["content"] = msgspec.Raw(msgspec.json.encode(found))
                if all(value in _SILENT for value in delta.values()):
                    continue
            has_content |= any(
                value not in _SILENT for name, value in delta.items() if name != "role"
            )
            kept.append({**choice, "delta": delta})
        if not kept:
            return b"", False
        chunk["choices"] = kept
        return b"data: %b\n\n" % msgspec.json.encode(chunk), has_content

    def _more(self, index: int, content: str) -> str:
        """Take more of a choice's text and return the choice when it has become known."""
        if index in self._known:
            return ""
        text = self._gathered.get(index, "") + content
        if len(text) > WRAPPED_CHARS_MAX:
            raise InvalidOutputError(self._constraint.param)
        self._gathered[index] = text
        if not text.rstrip().endswith("}") or not (found := self._choice(text)):
            return ""
        self._known.add(index)
        return found
