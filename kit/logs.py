"""Logs as JSON lines: event name first, fields not prose, nothing secret.

`configure_logs` sends structlog and the standard library's logging the same way. `AccessLog` writes
the one line per request without either, because it stands on the hot path.
"""

import logging
import sys
import traceback
from collections.abc import Callable, MutableMapping
from typing import Any, Final, TextIO

import msgspec
import structlog

from kit.redaction import Redactor

LINES_MAX: Final = 10_000
FLUSH_S: Final = 0.05
_QUIET: Final = ("aiohttp.access", "asyncio", "grpc._cython.cygrpc", "alembic", "nats")
_FRAMES_MAX: Final = 30
_encode: Final = msgspec.json.encode


def configure_logs(*, level: str, stream: TextIO, redactor: Redactor) -> None:
    """Send every log line to `stream` as one line of JSON.

    Args:
        level: Lowest level shown: debug, info, warning or error.
        stream: Where lines go; written by one `write` each.
        redactor: What hides secrets.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_as_field,
        redactor,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class AccessLog:
    """Collects access lines and writes them in one go.

    `later` runs a callback after some seconds (an event loop's `call_later`). When more than
    `LINES_MAX` wait, the oldest go; `dropped_count` says how many.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        later: Callable[[float, Callable[[], None]], object],
        flush_s: float = FLUSH_S,
    ) -> None:
        self._write = write
        self._later = later
        self._flush_s = flush_s
        self._lines: list[bytes] = []
        self.dropped_count = 0

    def add(self, fields: dict[str, object]) -> None:
        """Add a line; its fields are the caller's own, none comes from a client unchecked."""
        lines = self._lines
        if not lines:
            self._later(self._flush_s, self.flush)
        elif len(lines) >= LINES_MAX:
            del lines[0]
            self.dropped_count += 1
        lines.append(_encode(fields))

    def flush(self) -> None:
        """Write what waits."""
        if self._lines:
            lines, self._lines = self._lines, []
            lines.append(b"")
            self._write(b"\n".join(lines))


def _exception_as_field(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    info = event.pop("exc_info", None)
    if not info:
        return event
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if error is not None:
        event["error_type"] = type(error).__name__
        # Where it happened and of what kind; what it said may hold a client's text.
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]
        event["trace"] = [f"{f.filename}:{f.lineno} {f.name}" for f in frames]
    return event


def _render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    name = event.pop("event", "")
    line = {"event": name, **event}
    return _encode(line, enc_hook=str).decode()
