"""The output of a response while it grows: items, their parts, and the events about them; pure.

Reasoning and text follow one another; each call of a function stays open to the end, because
fragments of parallel calls may come mixed. Source: OpenAI API reference, "Streaming events" of
Responses (read 2026-11), and the types of openai-python 3.52.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

Item = dict[str, object]
Logprobs = list[dict[str, object]]
Emit = Callable[..., None]
"""Takes an event's type and, by name, its members."""

IN_PROGRESS: Final = "in_progress"
COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"
_LOGPROB_CHARS: Final = 64
"""What a kept log probability counts as, in characters."""


class _Kind(NamedTuple):
    """A kind of part: `item` is the type of the item it is in, `field` holds its text."""

    part: str
    item: str
    id_prefix: str
    event: str
    field: str = "text"


_TEXT: Final = _Kind("output_text", "message", "msg", "response.output_text")
_REFUSAL: Final = _Kind("refusal", "message", "msg", "response.refusal", "refusal")
_REASONING: Final = _Kind("reasoning_text", "reasoning", "rs", "response.reasoning_text")


class _Speech(msgspec.Struct, eq=False):
    """A message or a reasoning item whose last part is still open."""

    item: Item
    index: int
    kind: _Kind
    parts: list[Item]
    pieces: list[str]
    logprobs: Logprobs

    @property
    def place(self) -> dict[str, object]:
        """Where the open part is."""
        return {
            "item_id": self.item["id"],
            "output_index": self.index,
            "content_index": len(self.parts),
        }

    def part(self, text: str) -> Item:
        """Return the open part with a text."""
        part: Item = {"type": self.kind.part, self.kind.field: text}
        if self.kind is _TEXT:
            part |= {"annotations": [], "logprobs": list(self.logprobs)}
        return part


class _Call(msgspec.Struct, eq=False):
    """A call of a function; it is shown once its name is known."""

    call_id: str
    name: str
    pieces: list[str]
    item: Item | None = None
    index: int = 0


class Output:
    """The items of one response; `size` is about the characters that are kept."""

    def __init__(self, emit: Emit, request_id: str) -> None:
        self._emit = emit
        self._request_id = request_id
        self._items: list[Item] = []
        self._speech: _Speech | None = None
        self._calls: dict[int, _Call] = {}
        self.size = 0

    def think(self, text: str) -> None:
        """Add reasoning."""
        self._say(_REASONING, text)

    def say(self, text: str, logprobs: Logprobs) -> None:
        """Add text."""
        self._say(_TEXT, text, logprobs)

    def refuse(self, text: str) -> None:
        """Add a refusal."""
        self._say(_REFUSAL, text)

    def call(self, number: int, call_id: str, name: str, arguments: str) -> None:
        """Add a fragment of the call with that number; what it lacks is empty."""
        self._end_speech(COMPLETED)
        call = self._calls.get(number)
        if call is None:
            call = self._calls[number] = _Call("", "", [])
        call.call_id = call.call_id or call_id
        self.size += len(arguments) + len(name)
        if call.item is None:
            call.name += name
            call.pieces.append(arguments)
            if call.name and (call.call_id or arguments):
                self._show(number, call)
        elif arguments:
            call.pieces.append(arguments)
            self._emit_arguments(call.item, call.index, arguments)

    def next_number(self) -> int:
        """Return the number of a call that is not there yet."""
        return max(self._calls, default=-1) + 1

    def last_number(self) -> int:
        """Return the number of the call that began last; 0 when there is none."""
        return next(reversed(self._calls), 0)

    def close(self, status: str) -> list[Item]:
        """End what is open and return the items; an answer of nothing is an empty message."""
        if not self._items and not self._calls and self._speech is None:
            self._turn_to(_TEXT)
        self._end_speech(status)
        for number, call in self._calls.items():
            self._end_call(number, call, status)
        return self._items

    def broken(self) -> list[Item]:
        """Return the items of an answer that goes no further."""
        speech = self._speech
        if speech is not None:
            part = speech.part("".join(speech.pieces))
            speech.item |= {"status": INCOMPLETE, "content": [*speech.parts, part]}
        for call in self._calls.values():
            if call.item is not None:
                call.item |= {"status": INCOMPLETE, "arguments": "".join(call.pieces)}
        return self._items

    def _say(self, kind: _Kind, text: str, logprobs: Logprobs | None = None) -> None:
        speech = self._speech
        if speech is None or speech.kind is not kind:
            speech = self._turn_to(kind)
        speech.pieces.append(text)
        self.size += len(text)
        more: dict[str, object] = {}
        if logprobs is not None:
            speech.logprobs += logprobs
            self.size += _LOGPROB_CHARS * len(logprobs)
            more["logprobs"] = [_brief(entry) for entry in logprobs]
        self._emit(f"{kind.event}.delta", **speech.place, delta=text, **more)

    def _turn_to(self, kind: _Kind) -> _Speech:
        """Open a part of that kind, in the open item if it may hold one."""
        speech = self._speech
        if speech is not None and speech.kind.item == kind.item:
            self._end_part(speech)
            speech.kind = kind
        else:
            self._end_speech(COMPLETED)
            speech = self._speech = self._open(kind)
        self._emit("response.content_part.added", **speech.place, part=speech.part(""))
        return speech

    def _open(self, kind: _Kind) -> _Speech:
        more: Item = {"role": "assistant"} if kind.item == "message" else {"summary": []}
        item = self._add(kind.id_prefix, {"type": kind.item, **more, "content": []})
        return _Speech(item, len(self._items) - 1, kind, [], [], [])

    def _add(self, id_prefix: str, members: Item) -> Item:
        index = len(self._items)
        item = {"id": f"{id_prefix}_{self._request_id}_{index}", **members, "status": IN_PROGRESS}
        self._items.append(item)
        self._emit("response.output_item.added", output_index=index, item=item)
        return item

    def _end_part(self, speech: _Speech) -> None:
        kind, text = speech.kind, "".join(speech.pieces)
        part, told = speech.part(text), {kind.field: text}
        if kind is _TEXT:
            told_logprobs = [_brief(entry) for entry in speech.logprobs]
            self._emit(f"{kind.event}.done", **speech.place, **told, logprobs=told_logprobs)
        else:
            self._emit(f"{kind.event}.done", **speech.place, **told)
        self._emit("response.content_part.done", **speech.place, part=part)
        speech.parts.append(part)
        speech.pieces, speech.logprobs = [], []

    def _end_speech(self, status: str) -> None:
        speech, self._speech = self._speech, None
        if speech is not None:
            self._end_part(speech)
            speech.item |= {"content": speech.parts, "status": status}
            self._emit("response.output_item.done", output_index=speech.index, item=speech.item)

    def _show(self, number: int, call: _Call) -> Item:
        call.call_id = call.call_id or f"call_{self._request_id}_{number}"
        named = {"call_id": call.call_id, "name": call.name, "arguments": ""}
        call.index = len(self._items)
        call.item = self._add("fc", {"type": "function_call", **named})
        arguments = "".join(call.pieces)
        if arguments:
            self._emit_arguments(call.item, call.index, arguments)
        return call.item

    def _emit_arguments(self, item: Item, index: int, delta: str) -> None:
        kind = "response.function_call_arguments.delta"
        self._emit(kind, item_id=item["id"], output_index=index, delta=delta)

    def _end_call(self, number: int, call: _Call, status: str) -> None:
        item = call.item or self._show(number, call)
        where, arguments = {"item_id": item["id"], "output_index": call.index}, "".join(call.pieces)
        self._emit("response.function_call_arguments.done", **where, arguments=arguments)
        item |= {"arguments": arguments, "status": status}
        self._emit("response.output_item.done", output_index=call.index, item=item)


def _brief(entry: dict[str, object]) -> dict[str, object]:
    """Return a log probability as events tell it: without bytes."""
    tops = entry["top_logprobs"]
    return {
        "token": entry["token"],
        "logprob": entry["logprob"],
        "top_logprobs": [
            {"token": top["token"], "logprob": top["logprob"]}
            for top in (tops if isinstance(tops, list) else ())
        ],
    }
