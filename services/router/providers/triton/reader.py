"""Reads answers of models that do not speak the vLLM backend's tensors; pure.

They differ in what their outputs are called, and in what they leave to the reader: cutting stop
strings, taking pieces out of whole texts, and finding out why an answer ended.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from services.router.providers.triton.contract import GOES_ON, Part
from services.router.providers.triton.stops import GrowingText, StopCutter
from services.router.providers.triton.wire import Outputs, count_of, elements, text_of

_CUT_OFF: Final = frozenset({"cancelled", "timeout", "abort"})


class OutputNames(NamedTuple):
    """What the outputs of a model are called; empty where it has none.

    `is_whole` says that each response repeats the text, `are_totals` that counts are running
    totals.
    """

    text: str
    finish_reason: str = ""
    prompt_tokens: str = ""
    completion_tokens: str = ""
    is_whole: bool = False
    are_totals: bool = False


class PlainReader:
    """Reads the responses to one request with one choice.

    Without an output for it, an answer ends for its length when it has `max_tokens` tokens.
    """

    choice_count = 1

    def __init__(self, names: OutputNames, *, max_tokens: int, cutter: StopCutter) -> None:
        self._names = names
        self._max_tokens = max_tokens
        self._cutter = cutter
        self._growing = GrowingText() if names.is_whole else None
        self._tokens = 0
        self._has_read = False
        self._has_ended = False

    def read(self, outputs: Outputs) -> Sequence[Part]:
        """Return what a response has; see `Reader.read`."""
        texts = elements(outputs, self._names.text, 1)
        if texts is None or self._has_ended:
            return ()
        self._has_read = True
        text = text_of(texts[0])
        if self._growing is not None:
            text = self._growing.piece(text)
        part = Part(
            text=self._cutter.cut(text),
            finish_reason=self._reason(outputs),
            num_input_tokens=self._count(outputs, self._names.prompt_tokens),
            num_output_tokens=self._new_tokens(outputs),
        )
        if self._cutter.is_cut:
            part.finish_reason = "stop"
        if part.finish_reason:
            self._has_ended = True
            part.text += self._rest()
        return (part,)

    def end(self) -> Sequence[Part]:
        """Return what the end of the call says: why the answer ended, if nobody else does."""
        if self._has_ended or self._names.finish_reason or not self._has_read:
            return ()
        self._has_ended = True
        text = self._rest()
        is_full = bool(self._names.completion_tokens) and self._tokens >= self._max_tokens
        reason = "stop" if self._cutter.is_cut or not is_full else "length"
        count = 0 if self._names.completion_tokens else None
        return (Part(text=text, finish_reason=reason, num_output_tokens=count),)

    def _rest(self) -> str:
        """Return what is shown of all that was held back."""
        text = "" if self._growing is None else self._cutter.cut(self._growing.rest())
        return text + self._cutter.rest()

    def _reason(self, outputs: Outputs) -> str:
        found = elements(outputs, self._names.finish_reason, 1) if self._names.finish_reason else ()
        reason = text_of(found[0]) if found else ""
        if reason in GOES_ON:
            return ""
        return "abort" if reason in _CUT_OFF else reason

    def _new_tokens(self, outputs: Outputs) -> int | None:
        count = self._count(outputs, self._names.completion_tokens)
        if count is None:
            return None
        new = max(0, count - self._tokens) if self._names.are_totals else count
        self._tokens += new
        return new

    def _count(self, outputs: Outputs, name: str) -> int | None:
        found = elements(outputs, name, 1) if name else None
        return count_of(found[0]) if found else None
