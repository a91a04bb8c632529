"""Logs as JSON lines: event name first, fields not prose, nothing secret.

`configure_logs` sends structlog and the standard library's logging the same way. `AccessLog` writes
the one line per request without either, because it stands on the hot path.
"""

import json
import logging
import re
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO

import msgspec
import structlog

from kit.errors import TurnpikeError
from kit.redaction import Redactor

LINES_MAX: Final = 10_000
FLUSH_S: Final = 0.05
_QUIET: Final = (
    "aiohttp.access",
    "alembic",
    "asyncio",
    "grpc._cython.cygrpc",
    "nats",
    "sqlalchemy",
)
_HEAD: Final = ("event", "level", "logger", "time")
_FRAMES_MAX: Final = 30
_ERRORS_MAX: Final = 8
_NON_ASCII: Final = re.compile(r"[^\x00-\x7e]")
_encode: Final = msgspec.json.encode
Event = MutableMapping[str, Any]


def configure_logs(*, level: str, stream: TextIO, redactor: Redactor | None = None) -> None:
    """Send every log line to `stream` as one line of JSON.

    Args:
        level: Lowest level shown: debug, info, warning or error.
        stream: Where lines go; written by one `write` each.
        redactor: What hides secrets; without one only names and forms are hidden.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _exception_as_field,
        redactor or Redactor(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_first_line, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class AccessLog:
    """Collects access lines and writes them in one go.

    `later` runs a callback after some seconds (an event loop's `call_later`). `write` may take a
    part and return its length, as `os.write` does. When more than `lines_max` wait the oldest go;
    `dropped_count` says how many lines were never written.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        later: Callable[[float, Callable[[], None]], object],
        flush_s: float = FLUSH_S,
        lines_max: int = LINES_MAX,
    ) -> None:
        self._write = write
        self._later = later
        self._flush_s = flush_s
        self._lines_max = lines_max
        self._lines: deque[bytes] = deque()
        self._is_timed = False
        self._is_closed = False
        self.dropped_count = 0

    def add(self, fields: dict[str, object] | msgspec.Struct) -> None:
        """Add a line. Its fields are the caller's own choice: nothing is masked here."""
        try:
            line = _encode(fields)
        except (TypeError, ValueError, OverflowError):
            line = _encode_odd(_by_name(fields))
        lines = self._lines
        lines.append(line if line.isascii() else _to_ascii(line))
        if len(lines) > self._lines_max:
            lines.popleft()
            self.dropped_count += 1
        if self._is_closed:
            self.flush()
        elif not self._is_timed:
            self._is_timed = True
            self._later(self._flush_s, self.flush)

    def flush(self) -> None:
        """Write what waits; what cannot be written is counted and gone."""
        self._is_timed = False
        if not self._lines:
            return
        left = memoryview(b"\n".join((*self._lines, b"")))
        self._lines.clear()
        with suppress(OSError):
            while left:
                written = self._write(bytes(left))
                if written == 0:
                    break
                left = left[written:] if isinstance(written, int) else left[:0]
        self.dropped_count += bytes(left).count(b"\n")

    def close(self) -> None:
        """Write what waits; lines that come later are written at once."""
        self._is_closed = True
        self.flush()


def _first_line(_logger: object, _method: str, event: Event) -> Event:
    # The lines after it are what libraries say of objects, and those may hold what is ours to hide.
    event["event"] = str(event.get("event", "")).partition("\n")[0]
    event.pop("stack_info", None)
    return event


def _exception_as_field(_logger: object, _method: str, event: Event) -> Event:
    info = event.pop("exc_info", None)
    if not info:
        return event
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["errors"] = _describe(error)
    return event


def _describe(error: BaseException) -> list[dict[str, Any]]:
    """Return an exception and what caused it, outermost first, group members included.

    Of what an exception says only our own errors and the system's are shown: those never hold a
    client's text, any other may.
    """
    found: list[dict[str, Any]] = []
    waiting: deque[BaseException | None] = deque([error])
    seen: set[int] = set()
    while waiting and len(found) < _ERRORS_MAX:
        each = waiting.popleft()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        shown: dict[str, Any] = {"type": type(each).__name__}
        if isinstance(each, TurnpikeError):
            shown |= {"reason": each.reason, "says": each.message}
        elif isinstance(each, OSError) and each.errno is not None:
            shown["says"] = each.strerror
        frames = traceback.extract_tb(each.__traceback__)[-_FRAMES_MAX:]
        shown["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        found.append(shown)
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
        waiting.append(each.__cause__ or (None if each.__suppress_context__ else each.__context__))
    return found


def _render(_logger: object, _method: str, event: Event) -> str:
    head = {name: event.pop(name) for name in _HEAD if name in event}
    fields = {**head, **event}
    try:
        line = _encode(fields)
    except (TypeError, ValueError, OverflowError):
        line = _encode_odd(fields)
    return (line if line.isascii() else _to_ascii(line)).decode()


def _by_name(fields: dict[str, object] | msgspec.Struct) -> dict[str, object]:
    if isinstance(fields, dict):
        return fields
    named = msgspec.structs.asdict(fields)
    return {name: value for name, value in named.items() if value is not msgspec.UNSET}


def _encode_odd(fields: Mapping[str, object]) -> bytes:
    """Return what the fast encoder refuses: half a surrogate pair, numbers beyond 64 bits."""
    return json.dumps(fields, default=lambda value: f"<{type(value).__name__}>").encode()


def _to_ascii(line: bytes) -> bytes:
    # Terminals act on some of the characters beyond ASCII too; only strings can hold them.
    return _NON_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], line.decode()).encode()
