"""OpenAI's legacy completions: what differs from chat in a request, a stream and a whole answer.

Pure. The frame is chat's, so the forwarder and the reader of chat serve both. Source: OpenAI API
reference, completions (read 2026-11).
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from services.router.providers.openai.choices import ABSENT, NULL, Fields
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import StreamForwarder
from services.router.providers.openai.plain import AnswerForm, read_completion
from services.router.providers.openai.request import choice_count
from services.router.providers.port import Batch, Body, Call

_EMPTY: Final = msgspec.Raw(b'""')
_TEXT_MARK: Final = b'"text":"'
_EMPTY_MARK: Final = b'"text":""'
_prompts: Final = msgspec.json.Decoder(list[str | list[int]])


class _Choice(msgspec.Struct):
    finish_reason: str
    text: msgspec.Raw
    index: int = -1
    logprobs: msgspec.Raw = ABSENT

    @property
    def said(self) -> tuple[msgspec.Raw, ...]:
        """The JSON values that its tokens are guessed from."""
        return (self.text,)


def _completed(raw: msgspec.Raw, read: Sequence[_Choice]) -> msgspec.Raw:
    if all(choice.index >= 0 and choice.logprobs is not ABSENT for choice in read):
        return raw
    choices = _list.decode(raw)
    for place, choice in enumerate(choices):
        choice.setdefault("index", msgspec.Raw(b"%d" % place))
        choice.setdefault("logprobs", NULL)
    return msgspec.Raw(msgspec.json.encode(choices))


_list: Final = msgspec.json.Decoder(list[Fields])
_FORM: Final = AnswerForm("text_completion", msgspec.json.Decoder(list[_Choice]).decode, _completed)


class TextForwarder(StreamForwarder):
    """Turns the reads of one streamed text completion into batches."""

    END: ClassVar = {"text": _EMPTY}
    ALWAYS: ClassVar = {"index": msgspec.Raw(b"0"), "text": _EMPTY, "logprobs": NULL}
    __slots__ = ()

    def _exchange_heads(self, region: bytes) -> bytes | None:
        forwarded = super()._exchange_heads(region)
        if forwarded is not None:
            # A quote inside of a text is escaped, so a mark is always a member's name.
            self._content_count += region.count(_TEXT_MARK) - region.count(_EMPTY_MARK)
        return forwarded

    def weigh(self, choice: dict[str, msgspec.Raw]) -> tuple[bool, bool]:
        """Return whether a choice has text, twice."""
        is_said = choice.get("text", NULL) not in (NULL, _EMPTY)
        return is_said, is_said


def text_choice_count(body: Body) -> int:
    """Return how many choices a request asks for: `n` for each of its prompts."""
    raw = bytes(body.get("prompt", b'""'))
    try:
        count = len(_prompts.decode(raw)) if raw.startswith(b"[") else 1
    except JUNK:
        # One prompt, given as tokens.
        count = 1
    return max(1, count) * choice_count(body)


def read_text_completion(call: Call, body: Body, answer: bytes) -> Batch:
    """Return the only batch of a plain answer; see `read_completion`.

    Raises:
        ProviderError: It is an error object, no completion, or one that has not ended.
    """
    return read_completion(call, answer, choice_count=text_choice_count(body), form=_FORM)
