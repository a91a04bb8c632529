"""Messages whose clients dropped what their model wants back, and how they get it again; pure.

What a client did send is never changed. Some models number the calls of a conversation, so that
different ones have the same ids: a turn is told from others by what the user said before it, too.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.turn_state import (
    DETAILS,
    EXTRA,
    REASONING,
    TurnState,
    WantsBack,
)

CALLS: Final = b'"tool_calls"'
_USER: Final = "user"
_NULL: Final = msgspec.Raw(b"null")
_NOTHING: Final = (_NULL, msgspec.Raw(b"[]"), msgspec.Raw(b"{}"), msgspec.Raw(b'""'))

Fields = dict[str, msgspec.Raw]
_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_fields: Final = msgspec.json.Decoder(Fields).decode
_objects: Final = msgspec.json.Decoder(list[Fields]).decode
_text: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.encode


class _Detail(msgspec.Struct):
    format: str | None = None


_detail: Final = msgspec.json.Decoder(_Detail).decode


class _Block(msgspec.Struct):
    text: str | None = None


class _Speaker(msgspec.Struct):
    role: str = ""
    content: msgspec.Raw = _NULL


_speaker: Final = msgspec.json.Decoder(_Speaker).decode
_content: Final = msgspec.json.Decoder(str | list[_Block] | None).decode


class TurnId(NamedTuple):
    """A turn of the assistant: the id of its first call, and a digest of the user's last words."""

    call_id: str
    words: str


class Gap(NamedTuple):
    """A message whose client dropped something."""

    place: int
    turn: TurnId


class Transcript:
    """The messages of one request, of which only those with gaps are taken apart."""

    def __init__(self, messages: bytes, wanted: WantsBack) -> None:
        """Read the messages.

        Raises:
            msgspec.DecodeError: They are none.
        """
        self._wanted = wanted
        self._messages: list[msgspec.Raw] = _list(messages)
        self._opened: dict[int, tuple[Fields, list[Fields]]] = {}
        self.gaps: Sequence[Gap] = tuple(self._gaps())

    def filled(self, states: Mapping[TurnId, TurnState]) -> msgspec.Raw | None:
        """Return the messages with what is known of their turns; None for no change."""
        is_changed = False
        for gap in self.gaps:
            state = states.get(gap.turn)
            fields, calls = self._opened[gap.place]
            if state and _fill(fields, calls, state, self._wanted):
                self._messages[gap.place] = msgspec.Raw(_encode(fields))
                is_changed = True
        return msgspec.Raw(_encode(self._messages)) if is_changed else None

    def _gaps(self) -> Iterator[Gap]:
        words = _NULL
        for place, raw in enumerate(self._messages):
            said = _speaker(raw)
            if said.role == _USER:
                words = said.content
            if CALLS not in bytes(raw):
                continue
            fields = _fields(raw)
            calls = _objects(fields.get("tool_calls", _NULL)) if _has(fields, "tool_calls") else []
            if calls and _lacks(fields, calls, self._wanted.members):
                self._opened[place] = fields, calls
                yield Gap(place, TurnId(_text(calls[0].get("id", b'""')), _digest(words)))


def _has(fields: Fields, name: str) -> bool:
    return fields.get(name, _NULL) not in _NOTHING


def _lacks(fields: Fields, calls: list[Fields], members: frozenset[str]) -> bool:
    if EXTRA in members and not any(_has(call, EXTRA) for call in calls):
        return True
    return any(name in members and not _has(fields, name) for name in (DETAILS, REASONING))


def _fill(fields: Fields, calls: list[Fields], state: TurnState, wanted: WantsBack) -> bool:
    found: dict[str, Any] = {}
    if DETAILS in wanted.members and not _has(fields, DETAILS):
        own = [raw for raw in state.details if wanted.takes(_detail(raw).format or "")]
        if own:
            found[DETAILS] = msgspec.Raw(_encode(own))
    if REASONING in wanted.members and not _has(fields, REASONING) and state.reasoning:
        found[REASONING] = msgspec.Raw(_encode(state.reasoning))
    if EXTRA in wanted.members and not any(_has(call, EXTRA) for call in calls):
        for call in calls:
            extra = state.extras.get(_text(call.get("id", b'""')))
            if extra is not None:
                call[EXTRA] = extra
                found["tool_calls"] = msgspec.Raw(b"")
        if "tool_calls" in found:
            found["tool_calls"] = msgspec.Raw(_encode(calls))
    fields.update(found)
    return bool(found)


def turn_id(messages: bytes, call_id: str) -> TurnId | None:
    """Return the turn that follows upon messages; None if they are none."""
    words = _NULL
    try:
        for raw in reversed(_list(messages)):
            said = _speaker(raw)
            if said.role == _USER:
                words = said.content
                break
        return TurnId(call_id, _digest(words))
    except JUNK:
        return None


def _digest(words: msgspec.Raw) -> str:
    """Return a digest of the texts of a content, in whatever form it is."""
    content = _content(words) or ""
    if not isinstance(content, str):
        content = "".join(block.text or "" for block in content)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def read_gaps(messages: bytes, wanted: WantsBack) -> Transcript | None:
    """Return the messages if something is missing in them; None if not, or if they are none."""
    if messages.find(CALLS) < 0:
        return None
    try:
        transcript = Transcript(messages, wanted)
    except JUNK:
        return None
    return transcript if transcript.gaps else None
