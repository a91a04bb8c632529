"""A streamed answer of the Messages API as batches; pure.

Source: Anthropic API reference, `Streaming Messages` (read 2026-11): events of a new kind may come
and are passed over; counts are totals; an error may take the place of any event.
"""

from typing import Final

import msgspec

from kit.sse import events
from services.router.providers.anthropic.content import Block, Content, Delta
from services.router.providers.anthropic.errors import error_in_answer
from services.router.providers.anthropic.usage import Tally, Usage, finish_reason
from services.router.providers.chunk_writer import ChunkWriter
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import invalid
from services.router.providers.port import Batch, Call, Failure, ProviderError
from services.router.providers.upstream_events import UpstreamSplitter


class _Message(msgspec.Struct):
    usage: Usage | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: Usage | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode


class AnthropicTranslator:
    """Turns the reads of one streamed answer into batches; see `Translator`."""

    def __init__(self, call: Call, answer_tool: str = "") -> None:
        self._writer = ChunkWriter(call)
        self._content = Content(self._writer, answer_tool)
        self._splitter = UpstreamSplitter()
        self._tally = Tally()
        self._is_counted = False
        self._stop_reason: str | None = None
        self.is_done = False

    @property
    def is_finished(self) -> bool:
        """Whether the answer has said why it stopped."""
        return self._stop_reason is not None

    @property
    def has_content(self) -> bool:
        """Whether a batch with content was returned."""
        return self._writer.has_content

    def feed(self, data: bytes) -> Batch | None:
        """Take a read and return what it completes, or None.

        Raises:
            ProviderError: The stream holds an error or makes no sense.
        """
        region = self._splitter.feed(data)
        for event in events(region):
            self._take(event.data)
            if self.is_done:
                return self._last()
        return self._writer.batch()

    def end(self) -> Batch:
        """Take the end of the stream and return the last batch.

        Raises:
            ProviderError: `INCOMPLETE`: the answer has not ended.
        """
        for event in events(self._splitter.finish()):
            if not self.is_finished:
                self._take_cut(event.data)
        self.is_done = True
        return self._last()

    def _last(self) -> Batch:
        if self._stop_reason is None:
            raise ProviderError(
                Failure.INCOMPLETE, "The upstream ended its answer too early.", status=200
            )
        counts = self._tally.counts() if self._is_counted else None
        return self._writer.end(finish_reason(self._stop_reason, self._writer), counts)

    def _take(self, data: bytes) -> None:
        try:
            event = _decode(data)
        except JUNK:
            raise invalid("The upstream's stream holds something that is no event.") from None
        if event.type == "content_block_delta" and event.delta is not None:
            self._content.grow(event.index, event.delta)
        elif event.type == "content_block_start" and event.content_block is not None:
            self._content.begin(event.index, event.content_block)
        elif event.type == "content_block_stop":
            self._content.close(event.index)
        elif event.type == "message_start":
            self._start(event.message)
        elif event.type == "message_delta":
            self._change(event)
        elif event.type == "message_stop":
            self.is_done = True
        elif event.type == "error":
            raise error_in_answer(data)

    def _take_cut(self, data: bytes) -> None:
        """Take an event that lacks its blank line, unless it lacks more."""
        try:
            _decode(data)
        except JUNK:
            return
        self._take(data)

    def _start(self, message: _Message | None) -> None:
        if message is None or message.usage is None:
            return
        self._tally.take(message.usage)
        if (counts := self._tally.counts()) is not None:
            self._writer.prompt_counted(counts)

    def _change(self, event: _Event) -> None:
        if event.delta is not None and event.delta.stop_reason is not None:
            self._stop_reason = event.delta.stop_reason
        if event.usage is None:
            return
        self._is_counted |= event.usage.output_tokens is not None
        self._tally.take(event.usage)
        if (counts := self._tally.counts()) is not None and self._is_counted:
            self._writer.counted(counts)
