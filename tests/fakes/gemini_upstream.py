"""A scripted Gemini upstream on real sockets, which remembers what it was asked and what it sent.

It speaks generateContent, streamGenerateContent?alt=sse, batchEmbedContents and predict, at any
path that ends so. What it speaks is held against google-genai in the tests.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.gemini_script import (
    Json,
    Script,
    dumps,
    event_bytes,
    events_of,
    status,
    usage_after,
    whole_of,
)

HEAD = "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\n"
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 429: "Too Many Requests"}


@dataclass(slots=True)
class Seen:
    """One request and what became of it; `usage` is the last that was reported."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    usage: Json | None = None
    events_sent: int = 0
    is_complete: bool = False
    is_aborted: bool = False


Handler = Callable[[Seen], Script | bytes]
"""Returns a script, or a whole body of JSON."""


def _hello(_seen: Seen) -> Script:
    return Script()


@dataclass(slots=True)
class GeminiUpstream:
    """The fake's memory; `handler` decides about each request."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    open_count: int = 0
    handler: Handler = _hello

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """What a provider for AI Studio is given."""
        return f"{self.origin}/v1beta"

    def answers(self, script: Script | bytes) -> None:
        """Answer every request so from now on."""
        self.handler = lambda _seen: script


class _AbortedError(Exception):
    """The connection is at its end."""


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, seen: Seen, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._seen = seen
        self._script = script
        self._reader = reader
        self._writer = writer

    async def run(self) -> None:
        script = self._script
        if script.status != 200:
            body = script.error if script.error is not None else status(script.status, "ODD")
            await self._whole(body if isinstance(body, bytes) else dumps(body))
        elif ":stream" in self._seen.path:
            await self._stream()
        else:
            await self._answer()

    async def _answer(self) -> None:
        script = self._script
        if script.hang_after >= 0:
            await self._hang()
        value = whole_of(script)
        self._seen.usage = value.get("usageMetadata")
        if script.error_after >= 0:
            value = status(503, "UNAVAILABLE")
        body = b"{oops" if script.junk_after >= 0 else dumps(value)
        await self._whole(body, is_cut=script.cut_after >= 0)

    async def _whole(self, body: bytes, *, is_cut: bool = False) -> None:
        head = self._head("application/json; charset=UTF-8") + f"Content-Length: {len(body)}\r\n"
        await self._write(head.encode() + b"\r\n")
        if is_cut:
            await self._write(body[: len(body) // 2])
            raise _AbortedError
        await self._write(body)

    async def _stream(self) -> None:
        script = self._script
        await self._write(
            self._head("text/event-stream").encode() + b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for count, event in enumerate(events_of(script)):
            if count == script.end_after:
                break
            await self._trouble(count)
            if "usageMetadata" in event:
                self._seen.usage = event["usageMetadata"]
            await self._chunk(event_bytes(event, script.line))
            self._seen.events_sent = count + 1
        await self._write(b"0\r\n\r\n")

    async def _trouble(self, count: int) -> None:
        script = self._script
        if script.delay_ms:
            await asyncio.sleep(script.delay_ms / 1000)
        if count == script.hang_after:
            await self._hang()
        if count == script.cut_after:
            raise _AbortedError
        if count == script.error_after:
            await self._chunk(event_bytes(status(503, "UNAVAILABLE"), script.line))
        if count == script.raw_error_after:
            await self._chunk(dumps(status(503, "UNAVAILABLE")))
            await self._write(b"0\r\n\r\n")
            raise _AbortedError
        if count == script.junk_after:
            await self._chunk(b"data: {oops\r\n\r\n")

    async def _hang(self) -> None:
        await self._reader.read(1)
        raise _AbortedError

    def _head(self, kind: str) -> str:
        script = self._script
        reason = _REASONS.get(script.status, "Odd")
        head = HEAD.format(status=script.status, reason=reason, kind=kind)
        if script.retry_after:
            head += f"Retry-After: {script.retry_after}\r\n"
        return head

    async def _chunk(self, data: bytes) -> None:
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def _write(self, data: bytes) -> None:
        size = self._script.split or len(data)
        for at in range(0, len(data), size):
            if self._writer.transport.is_closing() or self._reader.at_eof():
                raise _AbortedError
            self._writer.write(data[at : at + size])
            await self._writer.drain()
            await asyncio.sleep(0)


async def _next(reader: asyncio.StreamReader) -> Seen:
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {n.strip().lower(): v.strip() for n, _, v in (x.partition(":") for x in lines)}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    method, path, _ = start.split(" ")
    body: Any = None
    with suppress(ValueError):
        body = json.loads(raw) if raw else None
    return Seen(method, path, headers, body)


async def _serve(
    upstream: GeminiUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while True:
        seen = await _next(reader)
        upstream.seen.append(seen)
        script = b'{"models": []}' if seen.method == "GET" else upstream.handler(seen)
        if isinstance(script, bytes):
            head = HEAD.format(status=200, reason="OK", kind="application/json")
            writer.write(f"{head}Content-Length: {len(script)}\r\n\r\n".encode() + script)
            seen.is_complete = True
            continue
        try:
            await _Exchange(seen, script, reader, writer).run()
            seen.is_complete = True
        except (_AbortedError, ConnectionError):
            seen.is_aborted = True
            writer.transport.abort()
            return


@asynccontextmanager
async def open_gemini_upstream() -> AsyncIterator[GeminiUpstream]:
    """Listen on 127.0.0.1; on exit every connection is cut."""
    upstream = GeminiUpstream()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.open_count += 1
        writers.add(writer)
        try:
            with suppress(OSError, EOFError):
                await _serve(upstream, reader, writer)
        finally:
            writers.discard(writer)
            upstream.open_count -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for writer in tuple(writers):
            writer.transport.abort()
        await server.wait_closed()


def reported(script: Script) -> Json:
    """Return the usage that a whole answer by a script has."""
    return usage_after(script, len(script.said))
