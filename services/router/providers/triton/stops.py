"""The text of an answer as it may be shown, whatever form a model's pieces have; pure.

Some models leave the stop string in their text, or tell the whole text every time.
"""

from collections.abc import Sequence
from typing import Final

from services.router.providers.triton.wire import malformed

_UNFINISHED: Final = "\ufffd"
"""What a character is while some of its bytes are missing."""


class StopCutter:
    """Cuts a text at the first stop string that is complete, wherever it is split.

    What may be the start of one is held back. `is_kept` leaves the stop string itself in the text.
    """

    __slots__ = ("_held", "_is_kept", "_stops", "is_cut")

    def __init__(self, stops: Sequence[str], *, is_kept: bool = False) -> None:
        self._stops = tuple(stops)
        self._is_kept = is_kept
        self._held = ""
        self.is_cut = False

    def cut(self, piece: str) -> str:
        """Take the next piece and return what may be shown of all that came; nothing once cut."""
        if self.is_cut:
            return ""
        text = self._held + piece
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.is_cut = True
            self._held = ""
            end, start = min(ends)
            return text[: end if self._is_kept else start]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """Return what was held back, when no more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text may begin a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)


class GrowingText:
    """Takes the whole text every time and returns what is new.

    A character whose bytes have not all come is held back.
    """

    __slots__ = ("_shown", "_whole")

    def __init__(self) -> None:
        self._shown = ""
        self._whole = ""

    def piece(self, whole: str) -> str:
        """Return what is new.

        Raises:
            ProviderError: INVALID_RESPONSE: it is not what came before and more.
        """
        stable = whole.rstrip(_UNFINISHED)
        if not stable.startswith(self._shown):
            raise malformed()
        piece = stable[len(self._shown) :]
        self._shown, self._whole = stable, whole
        return piece

    def rest(self) -> str:
        """Return what was held back, when no more comes."""
        rest = self._whole[len(self._shown) :]
        self._shown = self._whole
        return rest
