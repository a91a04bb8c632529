"""The text of an answer, gathered only where it will be held against a constraint; pure.

What a model thought, its tool calls and its refusals are no part of what is judged.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from services.router.constraints import TEXT_CHARS_MAX, Constraint, is_satisfied
from services.router.providers.port import Batch

_NULL: Final = msgspec.Raw(b"null")
_NONE: Final = (_NULL, msgspec.Raw(b"[]"))


class _Said(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = _NULL
    function_call: msgspec.Raw = _NULL


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_decode: Final = msgspec.json.Decoder(_Answer).decode


class Gathered:
    """The text of each choice so far; `is_whole` is false once something was left out."""

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._ended: set[int] = set()
        self._exempt: set[int] = set()
        self._chars = 0
        self.is_whole = True

    def add(self, batch: Batch) -> None:
        """Take what a batch says."""
        if not self.is_whole:
            return
        try:
            if batch.completion:
                self._take(batch.completion)
            for event in batch.sse.split(b"\n\n"):
                if data := event.removeprefix(b"data:").strip():
                    self._take(data)
            for data in batch.finish.finish_chunks:
                self._take(data)
        except msgspec.MsgspecError:
            self._give_up()

    def texts(self) -> Iterator[str]:
        """Yield the text of each choice that the model itself ended."""
        for index in sorted(self._ended - self._exempt):
            yield "".join(self._texts.get(index, ()))

    def _take(self, data: bytes) -> None:
        for choice in _decode(data).choices:
            if choice.finish_reason == "stop":
                self._ended.add(choice.index)
            said = choice.message or choice.delta
            if said is None:
                continue
            if said.refusal or said.tool_calls not in _NONE or said.function_call not in _NONE:
                self._exempt.add(choice.index)
            if said.content:
                self._chars += len(said.content)
                self._texts.setdefault(choice.index, []).append(said.content)
        if self._chars > TEXT_CHARS_MAX:
            self._give_up()

    def _give_up(self) -> None:
        self.is_whole = False
        self._texts.clear()


def judge(constraint: Constraint, gathered: Gathered) -> bool | None:
    """Return whether every choice keeps to a constraint; None when that cannot be told."""
    if not gathered.is_whole:
        return None
    verdicts = [is_satisfied(constraint, text) for text in gathered.texts()]
    if False in verdicts:
        return False
    return None if None in verdicts else True
