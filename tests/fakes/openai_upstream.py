"""A scripted OpenAI upstream on real sockets, which remembers what it was asked and what it sent.

In a test: `async with open_openai_upstream() as upstream`. As a process of its own:

    python -m tests.fakes.openai_upstream --port N --journal FILE

The journal gets one JSON line per event (request, usage, end), flushed to the disk. A request is
answered as the markers in its prompt say, see `tests.fakes.openai_script`, or as `handler` says.
"""

import argparse
import asyncio
import gzip
import json
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

from tests.fakes.openai_script import (
    Event,
    Script,
    dumps,
    odd_body,
    script_of,
)
from tests.fakes.openai_texts import body_of, writer_of

_REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 429: "Too Many Requests"}


@dataclass(slots=True)
class Seen:
    """One request and what became of it; `bytes_sent` is what left for the socket's buffer."""

    number: int
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Any = None
    usage: dict[str, Any] | None = None
    chunks_sent: int = 0
    bytes_sent: int = 0
    is_complete: bool = False
    is_aborted: bool = False
    is_over: bool = False


Handler = Callable[[Seen], Script]


@dataclass(slots=True)
class OpenAiUpstream:
    """The fake's memory; `handler` decides about each request."""

    port: int = 0
    scheme: str = "http"
    seen: list[Seen] = field(default_factory=list)
    connection_count: int = 0
    open_count: int = 0
    handler: Handler = field(default=lambda seen: script_of(seen.raw))
    journal: Callable[[dict[str, Any]], None] = field(default=lambda _event: None)

    @property
    def base_url(self) -> str:
        """What a provider is given."""
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"


class _Connection(asyncio.Protocol):
    def __init__(
        self, upstream: OpenAiUpstream, tasks: asyncio.TaskGroup, connections: set["_Connection"]
    ) -> None:
        self._upstream = upstream
        self._tasks = tasks
        self._connections = connections
        self._buffer = b""
        self._written = 0
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=65_536)
        self._connections.add(self)
        self._upstream.connection_count += 1
        self._upstream.open_count += 1
        self.number = self._upstream.connection_count

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open_count -= 1
        self._connections.discard(self)
        self.stop()

    def stop(self) -> None:
        """End the answer that is under way."""
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next()

    def _next(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        start, *lines = head.decode("latin-1").split("\r\n")
        headers = {n.strip().lower(): v.strip() for n, _, v in (x.partition(":") for x in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        body, self._buffer = rest[:length], rest[length:]
        method, path, _ = start.split(" ")
        upstream = self._upstream
        seen = Seen(len(upstream.seen) + 1, self.number, method, path, headers, body)
        with suppress(ValueError):
            seen.body = json.loads(body)
        upstream.seen.append(seen)
        upstream.journal({"event": "request", "n": seen.number, "path": path, "body": seen.body})
        self._task = self._tasks.create_task(self._serve(seen))

    async def _serve(self, seen: Seen) -> None:
        try:
            await _Answer(self, seen, self._upstream).run()
            seen.is_complete = True
        except (asyncio.CancelledError, ConnectionError):
            seen.is_aborted = True
        finally:
            seen.is_over = True
            self._upstream.journal(
                {
                    "event": "end",
                    "n": seen.number,
                    "chunks_sent": seen.chunks_sent,
                    "bytes_sent": seen.bytes_sent,
                    "is_complete": seen.is_complete,
                    "is_aborted": seen.is_aborted,
                    "usage": seen.usage,
                }
            )
            self._task = None
        if not self.transport.is_closing():
            self._next()

    async def write(self, data: bytes, seen: Seen) -> None:
        """Write when the socket takes it."""
        await self._writable.wait()
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        seen.bytes_sent += len(data)

    async def flush(self) -> None:
        """Return when all that was written has left."""
        self.transport.set_write_buffer_limits(high=0)
        await self._writable.wait()
        self.transport.set_write_buffer_limits(high=65_536)

    async def cut(self, how: str) -> None:
        """End the connection in an unfriendly way."""
        await self.flush()
        if how == "half":
            self.transport.write_eof()
            await asyncio.get_running_loop().create_future()
        if how == "rst":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()


class _Answer:
    """Plays the script of one request."""

    def __init__(self, connection: _Connection, seen: Seen, upstream: OpenAiUpstream) -> None:
        self._connection = connection
        self._seen = seen
        self._upstream = upstream
        self._script = upstream.handler(seen)

    async def run(self) -> None:
        script, seen = self._script, self._seen
        if script.hang == "headers_before":
            await self._hang()
        for _ in range(script.interim):
            await self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if seen.method == "GET":
            await self._whole(dumps({"object": "list", "data": []}))
        elif script.status != 200:
            error = {"message": script.message, "code": script.code or None, "type": "api_error"}
            await self._whole(dumps({"error": error}))
        elif script.body in ("error", "junk", "html", "empty", "list", "deep", "latin"):
            await self._whole(odd_body(script))
        elif isinstance(seen.body, dict) and seen.body.get("stream"):
            await self._stream()
        else:
            body, usage = body_of(seen.path, script, seen.body)
            self._report(usage)
            await self._whole(body)
            seen.chunks_sent = script.chunks
        if script.close or script.length == "close":
            self._connection.transport.close()

    def _report(self, usage: dict[str, Any] | None) -> None:
        if usage is not None:
            self._seen.usage = usage
            self._upstream.journal({"event": "usage", "n": self._seen.number, "usage": usage})

    async def _hang(self) -> None:
        await asyncio.get_running_loop().create_future()

    async def _write(self, data: bytes) -> None:
        size = self._script.split or len(data) or 1
        for at in range(0, len(data), size):
            await self._connection.write(data[at : at + size], self._seen)
            if self._script.split:
                await asyncio.sleep(0)

    def _head(self, kind: str, length: int | None) -> bytes:
        script = self._script
        lines = [f"HTTP/1.1 {script.status} {_REASONS.get(script.status, 'Odd')}"]
        lines.append(f"Content-Type: {kind}")
        if script.length != "close":
            chunked = "Transfer-Encoding: chunked"
            lines.append(chunked if length is None else f"Content-Length: {length}")
        if script.retry_after:
            later = formatdate(int(script.retry_after.removeprefix("date")), usegmt=True)
            is_date = script.retry_after.startswith("date")
            lines.append(f"Retry-After: {later if is_date else script.retry_after}")
        if script.gzip:
            lines.append("Content-Encoding: gzip")
        if script.status == 302:
            lines.append("Location: http://169.254.169.254/")
        if script.close:
            lines.append("Connection: close")
        if script.head_bytes:
            lines.append("X-Long: " + "x" * script.head_bytes)
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _whole(self, body: bytes) -> None:
        script = self._script
        body = gzip.compress(body) if script.gzip else body
        kind = "text/html" if script.body == "html" else "application/json; charset=utf-8"
        await self._write(self._head(kind, len(body)))
        if script.hang == "headers_after":
            await self._hang()
        if script.cut_after >= 0:
            await self._write(body[: len(body) // 2])
            await self._connection.cut(script.cut)
            return
        await self._write(body)

    async def _stream(self) -> None:
        script, seen = self._script, self._seen
        await self._write(self._head("text/event-stream", None))
        if script.hang == "headers_after":
            await self._hang()
        found = writer_of(seen.path, script, seen.body).events()
        if script.joined:
            for event in found:
                self._report(event.usage)
            await self._write(b"".join(self._framed(event) for event in found) + self._last())
            seen.chunks_sent = script.chunks
            return
        for event in found:
            await self._play(event)
        await self._write(self._last())

    async def _play(self, event: Event) -> None:
        script, seen = self._script, self._seen
        if script.hang == "stream" and event.chunk > script.chunks // 2:
            await self._hang()
        if script.hang == "done" and event.data.startswith(b"data: [DONE]"):
            await self._hang()
        if event.chunk > script.cut_after >= 0:
            await self._connection.cut(script.cut)
            raise ConnectionResetError
        if script.delay_ms and event.chunk > 1:
            await asyncio.sleep(script.delay_ms / 1000)
        self._report(event.usage)
        await self._write(self._framed(event))
        seen.chunks_sent = max(seen.chunks_sent, event.chunk)

    def _framed(self, event: Event) -> bytes:
        data = gzip.compress(event.data) if self._script.gzip else event.data
        if self._script.length == "close":
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)

    def _last(self) -> bytes:
        return b"" if self._script.length == "close" else b"0\r\n\r\n"


@asynccontextmanager
async def open_openai_upstream(
    *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[OpenAiUpstream]:
    """Listen on 127.0.0.1; on exit every connection is cut."""
    upstream = OpenAiUpstream(scheme="https" if tls else "http")
    connections: set[_Connection] = set()
    async with asyncio.TaskGroup() as tasks:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: _Connection(upstream, tasks, connections),
            "127.0.0.1",
            port,
            ssl=tls,
            backlog=1024,
        )
        upstream.port = server.sockets[0].getsockname()[1]
        try:
            yield upstream
        finally:
            server.close()
            for connection in tuple(connections):
                connection.transport.abort()
                connection.stop()


def file_journal(path: Path) -> Callable[[dict[str, Any]], None]:
    """Return a journal that appends to a file and syncs each line."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(event: dict[str, Any]) -> None:
        os.write(descriptor, dumps(event) + b"\n")
        os.fsync(descriptor)

    return write


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    options = parser.parse_args()
    async with open_openai_upstream(port=options.port) as upstream:
        if options.journal is not None:
            upstream.journal = file_journal(options.journal)
        print(json.dumps({"port": upstream.port}), flush=True)  # noqa: T201 - tells the starter
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main())
