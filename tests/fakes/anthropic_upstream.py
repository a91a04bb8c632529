"""A fake of Anthropic's Messages API on real sockets, which remembers what it was asked and sent.

In a test: `async with open_anthropic_upstream() as upstream`, then set `upstream.script`.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.anthropic_script import (
    Script,
    dumps,
    error_of,
    events_of,
    framed,
    message_of,
    odd_body,
)

VERTEX = "/v1/projects/{project}/locations/{location}/publishers/anthropic/models"
BODY_BYTES_MAX = 64 * 1024**2


@dataclass(slots=True)
class Seen:
    """One request and what became of it; `usage` is the last one that was told."""

    path: str
    headers: dict[str, str]
    body: Any = None
    usage: dict[str, Any] | None = None
    events_sent: int = 0
    is_complete: bool = False
    is_aborted: bool = False
    is_over: bool = False


@dataclass(slots=True)
class AnthropicUpstream:
    """The fake's memory; `handler` decides about each request."""

    port: int = 0
    script: Script = field(default_factory=Script)
    seen: list[Seen] = field(default_factory=list)
    handler: Callable[[Seen], Script] | None = None

    @property
    def base_url(self) -> str:
        """What a provider is given."""
        return f"http://127.0.0.1:{self.port}"

    def script_for(self, seen: Seen) -> Script:
        """Return how a request is answered."""
        return self.script if self.handler is None else self.handler(seen)


@asynccontextmanager
async def open_anthropic_upstream() -> AsyncIterator[AnthropicUpstream]:
    """Listen on 127.0.0.1; on exit every connection is cut."""
    upstream = AnthropicUpstream()

    async def messages(request: web.Request) -> web.StreamResponse:
        seen = Seen(request.raw_path, {n.lower(): v for n, v in request.headers.items()})
        seen.body = await request.json()
        upstream.seen.append(seen)
        try:
            answer = await _Answer(request, seen, upstream.script_for(seen)).send()
        except (asyncio.CancelledError, ConnectionError):
            seen.is_aborted = True
            raise
        else:
            seen.is_complete = True
            return answer
        finally:
            seen.is_over = True

    async def models(request: web.Request) -> web.Response:
        headers = {n.lower(): v for n, v in request.headers.items()}
        upstream.seen.append(Seen(request.raw_path, headers))
        return web.json_response({"data": [], "has_more": False})

    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_post("/v1/messages", messages)
    app.router.add_post(VERTEX + "/{model}", messages)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        upstream.port = runner.addresses[0][1]
        yield upstream
    finally:
        await runner.cleanup()


class _Answer:
    """Plays the script of one request."""

    def __init__(self, request: web.Request, seen: Seen, script: Script) -> None:
        self._request = request
        self._seen = seen
        self._script = script

    async def send(self) -> web.StreamResponse:
        script, seen = self._script, self._seen
        headers = {"retry-after": script.retry_after} if script.retry_after else {}
        if script.status != 200:
            body = odd_body(script) if script.body else dumps(error_of(script))
            return self._whole(body, headers)
        if script.body:
            return self._whole(odd_body(script), headers)
        if seen.body.get("stream"):
            return await self._stream(headers)
        answer = message_of(script)
        seen.usage = answer["usage"]
        if script.is_halved:
            return await self._half(dumps(answer))
        return self._whole(dumps(answer), headers)

    async def _half(self, body: bytes) -> web.StreamResponse:
        """Cut the connection in the middle of a whole answer."""
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.content_length = len(body)
        await response.prepare(self._request)
        await response.write(body[: len(body) // 2])
        self._cut()
        raise ConnectionResetError

    def _whole(self, body: bytes, headers: dict[str, str]) -> web.Response:
        kind = "text/html" if self._script.body == "html" else "application/json"
        return web.Response(
            body=body, status=self._script.status, content_type=kind, headers=headers
        )

    async def _stream(self, headers: dict[str, str]) -> web.StreamResponse:
        script = self._script
        response = web.StreamResponse(headers={**headers, "content-type": "text/event-stream"})
        await response.prepare(self._request)
        events = events_of(script)
        parts = [framed(event, script.line) for event in events]
        if not script.has_blank_end:
            parts[-1] = parts[-1].rstrip(b"\r\n")
        if script.is_joined:
            await response.write(b"".join(parts))
            self._note(*events)
            return response
        for number, (event, part) in enumerate(zip(events, parts, strict=True)):
            await self._before(response, number)
            await self._write(response, part)
            self._note(event)
        await response.write_eof()
        return response

    async def _before(self, response: web.StreamResponse, number: int) -> None:
        """Do what is to be done after so many events."""
        script = self._script
        if script.delay_ms:
            await asyncio.sleep(script.delay_ms / 1000)
        if number == script.hang_after:
            await asyncio.get_running_loop().create_future()
        if number == script.junk_after:
            await response.write(b"event: message_delta\ndata: {oops\n\n")
        if number == script.cut_after:
            self._cut()
            raise ConnectionResetError

    async def _write(self, response: web.StreamResponse, part: bytes) -> None:
        size = self._script.split or len(part)
        for at in range(0, len(part), size):
            await response.write(part[at : at + size])
            if self._script.split:
                await asyncio.sleep(0)

    def _note(self, *events: dict[str, Any]) -> None:
        for event in events:
            self._seen.events_sent += 1
            usage = event.get("usage") or event.get("message", {}).get("usage")
            if usage is not None:
                self._seen.usage = usage

    def _cut(self) -> None:
        transport = self._request.transport
        if transport is None:
            return
        if self._script.cut == "rst":
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
