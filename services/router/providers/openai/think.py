"""Thoughts that a model writes into its text, between `<think>` and `</think>`; pure.

Only at the start of a text is the first mark one; whitespace around both belongs to neither side.
Source: the chat templates of DeepSeek-R1 and Qwen3 (read 2026-11).
"""

from enum import Enum, auto
from typing import Final, NamedTuple

OPEN: Final = "<think>"
CLOSE: Final = "</think>"


class Said(NamedTuple):
    """What a piece of text adds to the thoughts and to the answer."""

    thought: str = ""
    text: str = ""


class _State(Enum):
    BEFORE = auto()
    THINKING = auto()
    AFTER = auto()
    ANSWER = auto()


class ThinkSplitter:
    """Splits one text while it grows; holds back what may be a part of a mark."""

    def __init__(self) -> None:
        self._state = _State.BEFORE
        self._held = ""
        self._is_fresh = True

    def feed(self, piece: str) -> Said:
        """Take a piece and return what is known of it."""
        self._held += piece
        if self._state is _State.BEFORE:
            self._state = self._begun()
        thought = ""
        if self._state is _State.THINKING:
            self._state, thought = self._thought()
        if self._state is _State.AFTER:
            self._state, text = self._after()
            return Said(thought, text)
        return Said(thought, self._released() if self._state is _State.ANSWER else "")

    def end(self) -> Said:
        """Return what was held back when there will be no more."""
        held = self._released()
        return Said(thought=held) if self._state is _State.THINKING else Said(text=held)

    def _begun(self) -> _State:
        """Look for the first mark; it is one only if nothing stands before it."""
        start = self._held.lstrip()
        if start.startswith(OPEN):
            self._held = start[len(OPEN) :]
            return _State.THINKING
        return _State.BEFORE if OPEN.startswith(start) else _State.ANSWER

    def _thought(self) -> tuple[_State, str]:
        thought, found, rest = self._held.partition(CLOSE)
        if self._is_fresh:
            thought = thought.lstrip("\n")
            self._is_fresh = not thought
        if found:
            self._held = rest
            return _State.AFTER, thought.rstrip("\n")
        # Newlines before the last mark are none of the thought's.
        sizes = (size for size in range(1, len(CLOSE)) if thought.endswith(CLOSE[:size]))
        said = thought[: len(thought) - max(sizes, default=0)].rstrip("\n")
        self._held = thought[len(said) :]
        return _State.THINKING, said

    def _after(self) -> tuple[_State, str]:
        text = self._released().lstrip("\n")
        return (_State.ANSWER if text else _State.AFTER), text

    def _released(self) -> str:
        held, self._held = self._held, ""
        return held
