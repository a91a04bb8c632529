"""Gemini's answers as OpenAI's; pure.

Each event of a stream is a whole answer with what is new; its usage is a running total. A stream
ends with its body. Source: Gemini API reference, GenerateContentResponse (read 2026-11).
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from kit.sse import events
from services.router.providers.chunk_writer import ChunkWriter, Counts
from services.router.providers.google.gemini_contents import SIGNATURE_FORMAT, tool_call_id
from services.router.providers.google.gemini_errors import google_error
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import invalid
from services.router.providers.port import Batch, Call, Failure, ProviderError
from services.router.providers.upstream_events import UpstreamSplitter

_NULL: Final = msgspec.Raw(b"null")
_NO_REASON: Final = frozenset({"", "FINISH_REASON_UNSPECIFIED"})
_FINISH: Final = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
}


class _FunctionCall(msgspec.Struct, rename="camel"):
    name: str = ""
    id: str = ""
    args: msgspec.Raw = _NULL
    will_continue: bool = False


class _Part(msgspec.Struct, rename="camel"):
    text: str = ""
    thought: bool = False
    thought_signature: str = ""
    function_call: _FunctionCall | None = None
    inline_data: msgspec.Raw = _NULL
    file_data: msgspec.Raw = _NULL
    executable_code: msgspec.Raw = _NULL
    code_execution_result: msgspec.Raw = _NULL
    tool_call: msgspec.Raw = _NULL

    @property
    def is_foreign(self) -> bool:
        """Whether it holds what a chat completion has no place for."""
        foreign = (
            self.inline_data,
            self.file_data,
            self.executable_code,
            self.code_execution_result,
            self.tool_call,
        )
        return any(value != _NULL for value in foreign)


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str = ""


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None

    def counts(self) -> Counts | None:
        """Return the running totals, None while the prompt or all that followed is not counted.

        Raises:
            ProviderError: `INVALID_RESPONSE`: the total is less than the prompt.
        """
        if self.prompt_token_count is None:
            return None
        prompt = self.prompt_token_count + (self.tool_use_prompt_token_count or 0)
        thoughts, candidates = self.thoughts_token_count or 0, self.candidates_token_count
        if candidates is None and self.total_token_count is not None:
            candidates = self.total_token_count - prompt - thoughts
        elif candidates is None and self.thoughts_token_count is None:
            return None
        found = Counts(
            prompt=prompt,
            completion=(candidates or 0) + thoughts,
            cached=self.cached_content_token_count or 0,
            reasoning=thoughts,
        )
        found.usage()
        return found


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str = ""


class _Answer(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] = []
    usage_metadata: _Usage | None = None
    prompt_feedback: _Feedback | None = None
    error: msgspec.Raw = _NULL


_decode: Final = msgspec.json.Decoder(_Answer).decode


class _Teller:
    """Tells one answer to a writer."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.writer = ChunkWriter(call)
        self._counts: Counts | None = None
        self._reason = ""

    @property
    def has_ended(self) -> bool:
        """Whether the model said why it stopped."""
        return bool(self._reason)

    def take(self, data: bytes) -> None:
        """Take an answer, or one event of it.

        Raises:
            ProviderError: It is an error, or makes no sense.
        """
        try:
            answer = _decode(data)
        except JUNK:
            raise _no_answer() from None
        if answer.error != _NULL:
            raise google_error(200, data)
        if not answer.candidates:
            self._take_feedback(answer.prompt_feedback)
        for candidate in answer.candidates[:1]:
            for part in candidate.content.parts if candidate.content is not None else ():
                self._take_part(part)
            self._take_reason(candidate.finish_reason)
        self._take_usage(answer.usage_metadata)

    def end(self) -> Batch:
        """Return the last batch.

        Raises:
            ProviderError: `INCOMPLETE`: the model did not say that it stopped.
        """
        if not self._reason:
            raise ProviderError(
                Failure.INCOMPLETE, "The upstream ended its answer too early.", status=200
            )
        return self.writer.end(self._reason, self._counts)

    def _take_feedback(self, feedback: _Feedback | None) -> None:
        if feedback is not None and feedback.block_reason:
            raise ProviderError(
                Failure.CONTENT_POLICY,
                "The upstream refused the content by its policy.",
                status=200,
            )

    def _take_part(self, part: _Part) -> None:
        if part.is_foreign:
            raise invalid("The upstream's answer holds something that no chat completion has.")
        if part.function_call is not None:
            self._take_call(part.function_call, part.thought_signature)
            return
        if part.thought:
            self.writer.reasoning(part.text)
        else:
            self.writer.text(part.text)
        if part.thought_signature:
            self.writer.reasoning_detail(
                {
                    "type": "reasoning.text",
                    "text": "",
                    "signature": part.thought_signature,
                    "format": SIGNATURE_FORMAT,
                }
            )

    def _take_call(self, called: _FunctionCall, signature: str) -> None:
        if called.will_continue:
            raise invalid("The upstream cut a tool call into pieces, which was not asked.")
        extra = {"google": {"thought_signature": signature}} if signature else None
        call_id = called.id or tool_call_id(self._call, self.writer.tool_call_count)
        index = self.writer.tool_call(call_id, called.name, extra=extra)
        arguments = b"{}" if called.args == _NULL else bytes(called.args)
        if not arguments.startswith(b"{"):
            raise _no_answer()
        self.writer.tool_arguments(index, _compact(arguments))

    def _take_reason(self, reason: str) -> None:
        if reason in _NO_REASON:
            return
        if reason not in _FINISH:
            raise invalid("The upstream ended its answer for a reason that no caller can use.")
        said = _FINISH[reason]
        self._reason = "tool_calls" if said == "stop" and self.writer.tool_call_count else said

    def _take_usage(self, usage: _Usage | None) -> None:
        counts = usage.counts() if usage is not None else None
        if counts is None:
            return
        self._counts = counts
        if counts.completion:
            self.writer.counted(counts)
        else:
            self.writer.prompt_counted(counts)


class GeminiStream:
    """Turns the reads of one streamed answer into batches; see `translated.Translator`."""

    def __init__(self, call: Call) -> None:
        self._teller = _Teller(call)
        self._splitter = UpstreamSplitter()
        self.is_done = False

    @property
    def is_finished(self) -> bool:
        """Whether the model said that it stopped."""
        return self._teller.has_ended

    @property
    def has_content(self) -> bool:
        """Whether a batch with content was returned."""
        return self._teller.writer.has_content

    def feed(self, data: bytes) -> Batch | None:
        """Take a read and return what it completes, or None.

        Raises:
            ProviderError: The stream holds an error or makes no sense.
        """
        region = self._splitter.feed(data)
        self._take(region)
        return self._teller.writer.batch()

    def end(self) -> Batch:
        """Take the end of the stream and return the last batch.

        Raises:
            ProviderError: The answer has not ended, or its end is an error.
        """
        rest = self._splitter.finish()
        if not self._teller.has_ended or _is_whole(rest):
            self._take(rest)
        batch = self._teller.end()
        self.is_done = True
        return batch

    def _take(self, region: bytes) -> None:
        for payload in _payloads(region):
            self._teller.take(payload)


def read_gemini(call: Call, answer: bytes) -> Batch:
    """Return the only batch of a whole answer.

    Raises:
        ProviderError: It is an error, has no end, or makes no sense.
    """
    teller = _Teller(call)
    teller.take(answer)
    return teller.end()


def _payloads(region: bytes) -> Iterator[bytes]:
    """Yield what a stream's events hold; an error may stand in it without being an event."""
    if region.lstrip()[:1] in (b"{", b"["):
        raise google_error(200, region)
    for event in events(region):
        yield event.data


def _is_whole(rest: bytes) -> bool:
    """Whether what the end of the stream left is an event that only lacks its blank line."""
    try:
        for event in events(rest):
            _decode(event.data)
    except JUNK:
        return False
    return True


def _compact(arguments: bytes) -> str:
    """Return an object without its layout; figures and texts stay as they are spelled."""
    try:
        return msgspec.json.format(arguments, indent=-1).decode()
    except JUNK:
        raise _no_answer() from None


def _no_answer() -> ProviderError:
    return invalid("The upstream's answer is none of Gemini's.")
