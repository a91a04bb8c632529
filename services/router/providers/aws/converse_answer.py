"""What Converse answers, whole or as a stream, as OpenAI's; pure.

Source: botocore service model `bedrock-runtime`, shapes `ConverseResponse` and
`ConverseStreamOutput`; Amazon Bedrock user guide, "Prompt caching" (both read 2026-11).
"""

from base64 import b64decode, b64encode
from typing import Final, TypeVar

import msgspec

from services.router.providers.aws.converse_content import REASONING_FORMAT
from services.router.providers.aws.converse_models import OPENAI
from services.router.providers.aws.errors import error_in_stream
from services.router.providers.aws.event_stream import (
    EventStreamError,
    EventStreamSplitter,
    Message,
)
from services.router.providers.chunk_writer import ANSWER_CHARS_MAX, ChunkWriter, Counts
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import invalid
from services.router.providers.port import Batch, Call, Failure, ProviderError

BLOCKS_MAX: Final = 4096
"""Most blocks of one answer."""

_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


class _Usage(msgspec.Struct, rename="camel"):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0

    def counts(self, family: str) -> Counts:
        """Return them in OpenAI's meaning.

        The input is what is left beside the cache, unless the total shows that it is in there.
        OpenAI's models count it twice in the total of a stream.
        """
        read, written = self.cache_read_input_tokens, self.cache_write_input_tokens
        cached, prompt = read + written, self.input_tokens
        is_plain_sum = self.total_tokens == prompt + self.output_tokens
        if cached > prompt or not (is_plain_sum or family == OPENAI):
            prompt += cached
        return Counts(prompt, self.output_tokens, cached=read, cache_written=written)


class _ToolUse(msgspec.Struct, rename="camel"):
    tool_use_id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _ReasoningText(msgspec.Struct):
    text: str = ""
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None


class _Cited(msgspec.Struct):
    text: str = ""


class _Citations(msgspec.Struct):
    content: list[_Cited] = []


class _Block(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Citations | None = None


class _Said(msgspec.Struct):
    content: list[_Block]


class _Output(msgspec.Struct):
    message: _Said


class _Whole(msgspec.Struct, rename="camel"):
    output: _Output
    stop_reason: str
    usage: _Usage | None = None


class _Start(msgspec.Struct, rename="camel"):
    tool_use: _ToolUse | None = None


class _BlockStart(msgspec.Struct, rename="camel"):
    content_block_index: int
    start: _Start


class _InputPiece(msgspec.Struct):
    input: str


class _ReasoningPiece(msgspec.Struct, rename="camel"):
    text: str = ""
    signature: str = ""
    redacted_content: str = ""


class _Delta(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _InputPiece | None = None
    reasoning_content: _ReasoningPiece | None = None
    citation: msgspec.Raw | None = None


class _BlockDelta(msgspec.Struct, rename="camel"):
    content_block_index: int
    delta: _Delta


class _BlockStop(msgspec.Struct, rename="camel"):
    content_block_index: int


class _Stop(msgspec.Struct, rename="camel"):
    stop_reason: str


class _Metadata(msgspec.Struct):
    usage: _Usage | None = None


_Event = TypeVar("_Event")


class _Voice:
    """Says the blocks of one answer; an answer that comes as a tool's input is said as text."""

    def __init__(self, call: Call, *, family: str, answer_tool: str) -> None:
        self.writer = ChunkWriter(call)
        format_name = REASONING_FORMAT.get(family, "")
        self._format = {"format": format_name} if format_name else {}
        self._answer_tool = answer_tool
        self._has_answer = False
        self._aside: list[str] = []
        self._aside_size = 0

    def text(self, text: str) -> None:
        """Say text; what stands beside an answer that comes by a tool waits for that."""
        if not self._answer_tool:
            self.writer.text(text)
            return
        self._aside_size += len(text)
        if self._aside_size > ANSWER_CHARS_MAX:
            raise invalid("The model's answer is longer than any answer may be.")
        self._aside.append(text)

    def tool_call(self, use: _ToolUse) -> int | None:
        """Begin a call and return its index; None for the answer itself."""
        if self._answer_tool and use.name == self._answer_tool:
            if self._has_answer:
                raise invalid("The upstream's answer comes twice.")
            self._has_answer = True
            return None
        return self.writer.tool_call(use.tool_use_id, use.name)

    def tool_input(self, index: int | None, piece: str) -> None:
        """Say a piece of what a tool is called with."""
        if index is None:
            self.writer.text(piece)
        else:
            self.writer.tool_arguments(index, piece)

    def thought(self, text: str, signature: str, data: str) -> None:
        """Say what has to come back of a thought that was said."""
        if signature:
            told = {"type": "reasoning.text", "text": text, "signature": signature}
            self.writer.reasoning_detail({**told, **self._format})
        if data:
            told = {"type": "reasoning.encrypted", "data": data}
            self.writer.reasoning_detail({**told, **self._format})

    def end(self, stop_reason: str, counts: Counts | None) -> Batch:
        """Return the last batch."""
        reason = _REASONS.get(stop_reason, "")
        if not self._has_answer:
            self.writer.text("".join(self._aside))
        if reason in ("stop", "tool_calls"):
            reason = "tool_calls" if self.writer.tool_call_count else "stop"
        return self.writer.end(reason, counts)


def read_converse(call: Call, answer: bytes, *, family: str, answer_tool: str) -> Batch:
    """Return the only batch of a whole answer.

    Raises:
        ProviderError: `INVALID_RESPONSE`: it makes no sense.
    """
    try:
        whole = msgspec.json.decode(answer, type=_Whole)
    except JUNK:
        raise _no_answer() from None
    voice = _Voice(call, family=family, answer_tool=answer_tool)
    for block in whole.output.message.content:
        _say(voice, block)
    counts = whole.usage.counts(family) if whole.usage is not None else None
    return voice.end(whole.stop_reason, counts)


def _say(voice: _Voice, block: _Block) -> None:
    if block.text is not None:
        voice.text(block.text)
    elif block.tool_use is not None:
        voice.tool_input(voice.tool_call(block.tool_use), _text(block.tool_use.input))
    elif block.reasoning_content is not None:
        thought = block.reasoning_content.reasoning_text or _ReasoningText()
        voice.writer.reasoning(thought.text)
        data = block.reasoning_content.redacted_content or ""
        voice.thought(thought.text, thought.signature or "", data)
    elif block.citations_content is not None:
        voice.text("".join(part.text for part in block.citations_content.content))
    else:
        raise invalid("The upstream's answer has a part that is not known.")


def _text(raw: msgspec.Raw) -> str:
    try:
        return bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise _no_answer() from None


class _OpenBlock:
    """A block of a stream that has begun; `tool` is the index of its call."""

    __slots__ = ("data", "has_input", "is_tool", "signature", "thought", "tool")

    def __init__(self) -> None:
        self.is_tool = False
        self.tool: int | None = None
        self.has_input = False
        self.thought: list[str] = []
        self.signature = ""
        self.data: list[str] = []


class ConverseTranslator:
    """Turns the reads of one event stream into batches; see `translated.Translator`."""

    def __init__(self, call: Call, *, family: str, answer_tool: str) -> None:
        self._voice = _Voice(call, family=family, answer_tool=answer_tool)
        self._family = family
        self._splitter = EventStreamSplitter()
        self._blocks: dict[int, _OpenBlock] = {}
        self._stop_reason = ""
        self._counts: Counts | None = None
        self.is_done = False

    @property
    def is_finished(self) -> bool:
        """Whether the answer has ended, so that nothing but its usage can be missing."""
        return bool(self._stop_reason)

    @property
    def has_content(self) -> bool:
        """Whether a batch with content was returned."""
        return self._voice.writer.has_content

    def feed(self, data: bytes) -> Batch | None:
        """Take a read and return what it completes, or None.

        Raises:
            ProviderError: The stream holds an error or makes no sense.
        """
        try:
            messages = self._splitter.feed(data)
        except EventStreamError:
            raise invalid("The upstream's stream is no event stream.") from None
        for message in messages:
            self._take(message)
            if self._counts is not None and self._stop_reason:
                return self.end()
        return self._voice.writer.batch()

    def end(self) -> Batch:
        """Take the end of the stream and return the last batch.

        Raises:
            ProviderError: `INCOMPLETE`: the answer has not ended.
        """
        if not self._stop_reason:
            raise ProviderError(
                Failure.INCOMPLETE, "The upstream ended its answer too early.", status=200
            )
        self.is_done = True
        return self._voice.end(self._stop_reason, self._counts)

    def _take(self, message: Message) -> None:
        if message.text(":message-type") != "event":
            raise error_in_stream(message)
        name = message.text(":event-type")
        if name == "contentBlockDelta":
            self._delta(_event(message, _BlockDelta))
        elif name == "contentBlockStart":
            self._start(_event(message, _BlockStart))
        elif name == "contentBlockStop":
            self._stop_block(_event(message, _BlockStop).content_block_index)
        elif name == "messageStop":
            self._stop_reason = _event(message, _Stop).stop_reason
            if self._stop_reason not in _REASONS:
                raise invalid("The upstream ended its answer for a reason that is not known.")
        elif name == "metadata":
            usage = _event(message, _Metadata).usage
            self._counts = usage.counts(self._family) if usage is not None else None

    def _block(self, index: int) -> _OpenBlock:
        if len(self._blocks) >= BLOCKS_MAX:
            raise invalid("The upstream's answer has too many parts.")
        return self._blocks.setdefault(index, _OpenBlock())

    def _start(self, event: _BlockStart) -> None:
        if event.start.tool_use is None:
            raise invalid("The upstream's answer has a part that is not known.")
        block = self._block(event.content_block_index)
        block.is_tool = True
        block.tool = self._voice.tool_call(event.start.tool_use)

    def _delta(self, event: _BlockDelta) -> None:
        block, delta = self._block(event.content_block_index), event.delta
        if delta.text is not None:
            self._voice.text(delta.text)
        elif delta.tool_use is not None:
            if not block.is_tool:
                raise invalid("The upstream's tool call makes no sense.")
            block.has_input |= bool(delta.tool_use.input)
            self._voice.tool_input(block.tool, delta.tool_use.input)
        elif delta.reasoning_content is not None:
            piece = delta.reasoning_content
            self._voice.writer.reasoning(piece.text)
            block.thought.append(piece.text)
            block.signature += piece.signature
            if piece.redacted_content:
                block.data.append(piece.redacted_content)
        elif delta.citation is None:
            raise invalid("The upstream's answer has a part that is not known.")

    def _stop_block(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        if block.is_tool and not block.has_input:
            self._voice.tool_input(block.tool, "{}")
        self._voice.thought("".join(block.thought), block.signature, _joined(block.data))


def _event(message: Message, kind: type[_Event]) -> _Event:
    try:
        return msgspec.json.decode(message.payload, type=kind)
    except JUNK:
        raise invalid("The upstream's stream holds an event that makes no sense.") from None


def _joined(pieces: list[str]) -> str:
    """Return the base64 of bytes that came as base64 in pieces."""
    if len(pieces) < 2:
        return "".join(pieces)
    try:
        return b64encode(b"".join(b64decode(piece, validate=True) for piece in pieces)).decode()
    except ValueError:
        raise invalid("The upstream's stream holds an event that makes no sense.") from None


def _no_answer() -> ProviderError:
    return invalid("The upstream's answer is not what Converse answers.")
