"""What a container on SageMaker streams, out of the messages that it comes in; pure.

A container's bytes are cut anywhere into payload parts. They are server-sent events or lines of
JSON: lines are made events, so that one reader serves both. Source: botocore service model
`sagemaker-runtime`, shape `ResponseStream`; DJL Serving, "LMI output formats" (read 2026-11).
"""

from typing import Final

import msgspec

from services.router.providers.aws.errors import error_in_stream
from services.router.providers.aws.event_stream import EventStreamError, EventStreamSplitter
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import EVENT_BYTES_MAX, invalid
from services.router.providers.port import Batch
from services.router.providers.translated import Translator

_PART: Final = "PayloadPart"


class EventMaker:
    """Passes events on, and makes lines of JSON into events; the first letter tells which."""

    def __init__(self) -> None:
        self._has_lines: bool | None = None
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return events, as far as they are known.

        Raises:
            ProviderError: `INVALID_RESPONSE`: a line is too long.
        """
        if self._has_lines is None:
            data = data.lstrip()
            if not data:
                return b""
            self._has_lines = data.startswith(b"{")
        if not self._has_lines:
            return data
        head, end, tail = data.rpartition(b"\n")
        whole = bytes(self._rest + head) if end else b""
        if end:
            self._rest.clear()
        self._rest += tail
        if len(self._rest) > EVENT_BYTES_MAX:
            raise invalid("An event of the upstream's stream is too long.")
        return b"".join(map(_event, whole.split(b"\n")))

    def end(self) -> bytes:
        """Return the line that only lacks its end."""
        rest = bytes(self._rest)
        try:
            msgspec.json.decode(rest)
        except JUNK:
            return b""
        return _event(rest)


class PayloadTranslator:
    """Reads the event stream around the stream that `inner` reads; see `translated.Translator`."""

    def __init__(self, inner: Translator) -> None:
        self._inner = inner
        self._splitter = EventStreamSplitter()
        self._events = EventMaker()

    @property
    def is_done(self) -> bool:
        """Whether the last batch is out."""
        return self._inner.is_done

    @property
    def is_finished(self) -> bool:
        """Whether the answer has ended, so that nothing but its usage can be missing."""
        return self._inner.is_finished

    @property
    def has_content(self) -> bool:
        """Whether a batch with content was returned."""
        return self._inner.has_content

    def feed(self, data: bytes) -> Batch | None:
        """Take a read and return what it completes, or None.

        Raises:
            ProviderError: The stream holds an error or makes no sense.
        """
        try:
            messages = self._splitter.feed(data)
        except EventStreamError:
            raise invalid("The upstream's stream is no event stream.") from None
        parts = []
        for message in messages:
            if message.text(":message-type") != "event":
                raise error_in_stream(message)
            if message.text(":event-type") == _PART:
                parts.append(message.payload)
        events = self._events.feed(b"".join(parts))
        return self._inner.feed(events) if events else None

    def end(self) -> Batch:
        """Take the end of the stream and return the last batch.

        Raises:
            ProviderError: `INCOMPLETE`: the answer has not ended.
        """
        batch = self._inner.feed(rest) if (rest := self._events.end()) else None
        if self._inner.is_done and batch is not None:
            return batch
        last = self._inner.end()
        return last if batch is None else _joined(batch, last)


def _event(line: bytes) -> bytes:
    line = line.strip()
    return b"data: %b\n\n" % line if line else b""


def _joined(first: Batch, last: Batch) -> Batch:
    """Return two batches as one."""
    last.sse = first.sse + last.sse
    last.content_event_count += first.content_event_count
    return last
