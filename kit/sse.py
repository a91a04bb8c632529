"""Server-sent events as bytes: cut reads into complete events, read their fields.

Pure: no I/O, no JSON. Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream" (read
2026-11).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_BOM: Final = b"\xef\xbb\xbf"
_BLANK: Final = b"\n\n"


class EventTooLargeError(ValueError):
    """An event is longer than the splitter's bound."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: `name` is empty when there is no `event` field; data lines are joined by LF."""

    name: str
    data: bytes


class SseSplitter:
    """Cuts a stream, split anywhere, after its last blank line.

    Only an incomplete event is held back. What is returned has LF line ends, whatever was sent;
    apart from that and a byte order mark in front the bytes are untouched. A read that ends an
    event and holds no CR passes without a look at its lines.
    """

    __slots__ = ("_event_bytes_max", "_is_started", "_skips_lf", "_tail")

    def __init__(self, *, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._tail = bytearray()
        self._skips_lf = False
        self._is_started = False

    def feed(self, data: bytes) -> bytes:
        """Return the events that are complete now, each ended by a blank line; empty when none.

        Raises:
            EventTooLargeError: An incomplete event has outgrown the bound.
        """
        # Not `in`: for bytes it fails as an integer first, at twice the cost.
        if self._skips_lf or data.find(b"\r") >= 0:
            data = self._with_lf(data)
        if not self._is_started:
            data = self._without_bom(data)
        if not self._tail:
            if data.endswith(_BLANK):
                return data
            cut = data.rfind(_BLANK) + 2
            if cut == 1:
                self._keep(data)
                return b""
            self._keep(data[cut:])
            return data[:cut]
        return self._feed_behind_tail(data)

    def finish(self) -> bytes:
        """Return the event that the end of the stream cut off, as if a blank line had followed.

        The standard drops it; servers that forget the last blank line make it worth a look.
        Empty when there is none.
        """
        rest = bytes(self._tail).strip(b"\n")
        self._tail.clear()
        return rest + _BLANK if rest else b""

    def _feed_behind_tail(self, data: bytes) -> bytes:
        tail = self._tail
        # The blank line may have come in two reads: its first LF ends the tail.
        if tail.endswith(b"\n") and data.startswith(b"\n"):
            cut = max(data.rfind(_BLANK) + 2, 1)
        else:
            cut = data.rfind(_BLANK) + 2
            if cut == 1:
                self._keep(data)
                return b""
        tail += data[:cut]
        complete = bytes(tail)
        tail.clear()
        self._keep(data[cut:])
        return complete

    def _keep(self, data: bytes) -> None:
        self._tail += data
        if len(self._tail) > self._event_bytes_max:
            raise EventTooLargeError("An event of the stream is too long.")

    def _with_lf(self, data: bytes) -> bytes:
        if not data:
            return data
        if self._skips_lf and data.startswith(b"\n"):
            data = data[1:]
        self._skips_lf = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, data: bytes) -> bytes:
        data = bytes(self._tail) + data
        self._tail.clear()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._tail += data
            return b""
        self._is_started = True
        return data.removeprefix(_BOM)


def events(block: bytes) -> Iterator[SseEvent]:
    """Yield the events of a block that `SseSplitter` returned; one without data is passed over."""
    for part in block.split(_BLANK):
        lines = part.split(b"\n")
        name = b""
        data: list[bytes] = []
        for line in lines:
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        if data:
            yield SseEvent(name.decode("utf-8", "replace"), b"\n".join(data))
