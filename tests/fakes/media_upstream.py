"""An OpenAI upstream for images, speech and transcriptions over real HTTP; forms are aiohttp's.

A test puts a `MediaScript` into `script` to have the next answers differ from the usual.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

IMAGE: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
TEXT: Final = "Grüße aus dem Meer."
SRT: Final = "1\n00:00:00,000 --> 00:00:01,500\nGrüße\n\n2\n00:00:01,500 --> 00:00:06,200\naus.\n\n"
VTT: Final = "WEBVTT\n\n00:00.000 --> 00:06.200\nGrüße aus dem Meer.\n\n"
LANGUAGE: Final = "german"


@dataclass(frozen=True, slots=True)
class MediaScript:
    """One answer; -1 and "" mean: as usual.

    `usage` is duration, tokens, both, none or absurd; `cut_after` and `hang_after` count pieces of
    sound; `has_length` says how long the sound is.
    """

    status: int = 200
    code: str = ""
    usage: str = "duration"
    images: int = -1
    pieces: int = 8
    piece_bytes: int = 4_000
    cut_after: int = -1
    hang_after: int = -1
    has_length: bool = False
    content_type: str = ""
    body: bytes = b""


@dataclass(slots=True)
class MediaSeen:
    """One request and what became of it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)
    fields: list[tuple[str, str]] = field(default_factory=list)
    file: bytes = b""
    filename: str = ""
    file_type: str = ""
    bytes_sent: int = 0
    is_over: bool = False
    is_aborted: bool = False


@dataclass(slots=True)
class MediaUpstream:
    """The fake's memory."""

    port: int = 0
    script: MediaScript = field(default_factory=MediaScript)
    seen: list[MediaSeen] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        """What a provider is given."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def images(self, request: web.Request) -> web.StreamResponse:
        """Answer with as many images as were asked for."""
        seen, script = self._note(request), self.script
        seen.body = await request.json()
        if (refusal := _odd(script)) is not None:
            return refusal
        count = int(seen.body.get("n") or 1) if script.images < 0 else script.images
        kind = seen.body.get("response_format") or "b64_json"
        image = base64.b64encode(IMAGE).decode() if kind == "b64_json" else "https://img.test/1"
        answer: dict[str, Any] = {"created": 1_790_000_000, "data": [{kind: image}] * count}
        if script.usage in ("tokens", "both"):
            answer["usage"] = {"input_tokens": 50, "output_tokens": 1056, "total_tokens": 1106}
        seen.is_over = True
        return web.json_response(answer)

    async def speech(self, request: web.Request) -> web.StreamResponse:
        """Answer with pieces of sound."""
        seen, script = self._note(request), self.script
        seen.body = await request.json()
        if (refusal := _odd(script)) is not None:
            return refusal
        response = web.StreamResponse()
        response.content_type = script.content_type or "audio/mpeg"
        if script.has_length:
            response.content_length = script.pieces * script.piece_bytes
        try:
            await response.prepare(request)
            for number in range(script.pieces):
                if number == script.cut_after:
                    # Nothing of what was written is to be lost by the cut.
                    while request.transport and request.transport.get_write_buffer_size():
                        await asyncio.sleep(0.001)
                    request.transport.close()  # type: ignore[union-attr]
                    return response
                if number == script.hang_after:
                    await asyncio.get_running_loop().create_future()
                await response.write(bytes([number % 256]) * script.piece_bytes)
                seen.bytes_sent += script.piece_bytes
            await response.write_eof()
        except (asyncio.CancelledError, ConnectionError):
            seen.is_aborted = True
            raise
        finally:
            seen.is_over = True
        return response

    async def transcriptions(self, request: web.Request) -> web.StreamResponse:
        """Answer with text in the format that was asked for."""
        seen = self._note(request)
        form = await request.post()
        for name, value in form.items():
            if isinstance(value, web.FileField):
                seen.file, seen.filename = value.file.read(), value.filename
                seen.file_type = value.content_type
            else:
                seen.fields.append((name, str(value)))
        if (refusal := _odd(self.script)) is not None:
            return refusal
        seen.is_over = True
        wanted = dict(seen.fields).get("response_format", "json")
        if wanted in ("srt", "vtt", "text"):
            text = {"srt": SRT, "vtt": VTT, "text": TEXT}[wanted]
            return web.Response(text=text, content_type="text/plain")
        return web.json_response(
            _transcription(wanted, self.script.usage),
            dumps=lambda value: json.dumps(value, ensure_ascii=False),
        )

    def _note(self, request: web.Request) -> MediaSeen:
        seen = MediaSeen(request.path, {name.lower(): v for name, v in request.headers.items()})
        self.seen.append(seen)
        return seen


def _transcription(wanted: str, usage: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"text": TEXT}
    if wanted in ("verbose_json", "diarized_json"):
        answer |= {"task": "transcribe", "language": LANGUAGE, "duration": 8.47, "segments": []}
    if usage == "duration":
        answer["usage"] = {"type": "duration", "seconds": 9}
    if usage in ("tokens", "both"):
        answer["usage"] = {"type": "tokens", "input_tokens": 85, "output_tokens": 7}
        answer["usage"]["total_tokens"] = 92
    if usage == "absurd":
        answer["usage"] = {"type": "duration", "seconds": -3}
    if usage == "none":
        answer.pop("duration", None)
    return answer


def _odd(script: MediaScript) -> web.Response | None:
    if script.body:
        kind = script.content_type or "application/json"
        return web.Response(body=script.body, content_type=kind)
    if script.status == 200:
        return None
    error = {"message": "secret-canary-4410", "code": script.code or None, "type": "api_error"}
    return web.json_response({"error": error}, status=script.status)


@asynccontextmanager
async def open_media_upstream() -> AsyncIterator[MediaUpstream]:
    """Listen on 127.0.0.1; on exit every connection is cut."""
    upstream = MediaUpstream()
    application = web.Application(client_max_size=64 * 1024**2)
    application.router.add_post("/v1/images/generations", upstream.images)
    application.router.add_post("/v1/audio/speech", upstream.speech)
    application.router.add_post("/v1/audio/transcriptions", upstream.transcriptions)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        upstream.port = runner.addresses[0][1]
        yield upstream
    finally:
        await runner.cleanup()
