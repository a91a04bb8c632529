"""How answers lie on a client's HTTP/1 connection: one head, then a body or chunks.

aiohttp parses requests and owns the connection; an answer of ours is a few bytes whose form is
known, so they are put together here and written once. Source: RFC 9112, sections 6 and 7.1.
"""

from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

_LAST_CHUNK: Final = b"0\r\n\r\n"
_NO_TRAILER: Final[Mapping[str, str]] = {}


@lru_cache(maxsize=2)
def _date(unix_s: int) -> str:
    return formatdate(unix_s, usegmt=True)


def head_bytes(request: web.BaseRequest, headers: Mapping[str, str], *, unix_s: int) -> bytes:
    """Return status line and headers of an answer with status 200.

    Raises:
        ValueError: A header holds a line break.
    """
    lines = ["HTTP/1.0 200 OK" if request.version < (1, 1) else "HTTP/1.1 200 OK"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Date: {_date(unix_s)}\r\n\r\n")
    head = "\r\n".join(lines)
    # Each line has its end and the last one two; any more were smuggled in by a value.
    if head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1:
        raise ValueError("A header holds a line break.")
    # What a client sent that is no UTF-8 goes back as it came.
    return head.encode(errors="surrogateescape")


def refusal_bytes(response: web.Response) -> bytes:
    """Return a whole refusal for a connection that nothing is read from; it ends with it."""
    body = response.body
    if not isinstance(body, bytes):
        raise TypeError("A refusal has a body of bytes.")
    lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close\r\n\r\n"]
    return "\r\n".join(lines).encode() + body


class _Answer(web.StreamResponse):
    """What aiohttp asks of an answer, and nothing of what it would do for another one."""

    def __init__(self, request: web.BaseRequest) -> None:
        # Not aiohttp's own: it makes maps of headers and cookies that nobody would look at.
        self._protocol = request.protocol
        self._writer = request.writer
        # So that nobody begins another answer.
        self._writer.output_size += 1
        self._is_kept = request.keep_alive

    @property
    def status(self) -> int:
        """Always 200; refusals are aiohttp's own responses."""
        return 200

    @property
    def prepared(self) -> bool:
        """Always true: its headers are complete."""
        return True

    @property
    def keep_alive(self) -> bool:
        """Return whether the connection may serve another request."""
        return self._is_kept

    async def prepare(self, request: web.BaseRequest) -> "AbstractStreamWriter | None":
        """Do nothing: the answer writes itself."""
        del request
        return None

    def _put(self, data: bytes) -> bool:
        """Write, and return whether the client does not read.

        Raises:
            ConnectionResetError: The client has gone.
        """
        protocol = self._protocol
        transport = protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("The client has gone.")
        transport.write(data)
        return protocol.writing_paused


class WholeAnswer(_Answer):
    """A body that is there at once; `headers` has its type but not its length."""

    def __init__(
        self, request: web.BaseRequest, headers: dict[str, str], body: bytes, *, unix_s: int
    ) -> None:
        super().__init__(request)
        headers["Content-Length"] = str(len(body))
        if not self._is_kept:
            headers["Connection"] = "close"
        elif request.version < (1, 1):
            headers["Connection"] = "keep-alive"
        self._data = head_bytes(request, headers, unix_s=unix_s) + body

    async def write_eof(self, data: bytes = b"") -> None:
        """Write everything; aiohttp calls it once."""
        if self._put(self._data + data):
            await self._writer.drain()


class EventStream(_Answer):
    """A body that comes piece by piece, in chunks, or to the end of an HTTP/1.0 connection."""

    def __init__(self, request: web.BaseRequest, headers: dict[str, str], *, unix_s: int) -> None:
        super().__init__(request)
        self._is_chunked = request.version >= (1, 1)
        self._is_finished = False
        if self._is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            self._is_kept = False
        if not self._is_kept:
            headers["Connection"] = "close"
        self._put(head_bytes(request, headers, unix_s=unix_s))

    async def drained(self) -> None:
        """Wait while the client does not read."""
        await self._writer.drain()

    def put(self, data: bytes) -> bool:
        """Write a piece, which is not empty; return whether the client does not read.

        Raises:
            ConnectionResetError: The client has gone.
        """
        return self._put(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def finish(self, data: bytes) -> bool:
        """Write the last piece, which is not empty; return whether the client does not read.

        Raises:
            ConnectionResetError: The client has gone.
        """
        self._is_finished = True
        if self._is_chunked:
            data = b"%x\r\n%b\r\n%b" % (len(data), data, _LAST_CHUNK)
        return self._put(data)

    def end(self, trailer: Mapping[str, str] = _NO_TRAILER) -> None:
        """End a body whose last piece is written; headers behind it were announced by its head.

        Raises:
            ConnectionResetError: The client has gone.
        """
        self._is_finished = True
        if self._is_chunked:
            lines = "".join(f"{name}: {value}\r\n" for name, value in trailer.items())
            self._put(b"0\r\n%b\r\n" % lines.encode() if lines else _LAST_CHUNK)

    async def write_eof(self, data: bytes = b"") -> None:
        """End what was not finished, by ending the connection; aiohttp calls it once."""
        del data
        if not self._is_finished:
            self._is_kept = False
