"""The transport for images, speech and transcriptions; the codec is in `openai_media_codec`."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from kit.clock import Clock
from services.router.providers.openai.errors import error_in_answer
from services.router.providers.openai.exchange import error_body, failure_of, refusal
from services.router.providers.openai.media_codec import (
    SpeechReader,
    encode_image,
    encode_sound,
    encode_speech,
    read_images,
    read_transcription,
)
from services.router.providers.own_credential import as_bearer
from services.router.providers.port import Batch, Body, Call
from services.router.upstream import (
    HttpExchange,
    HttpPool,
    ResponseHead,
    Target,
    UpstreamError,
    build_headers,
)
from turnpike.router.v1 import router_pb2

ANSWER_BYTES_MAX: Final = 31 * 1024**2
"""Longest answer of images or text, bytes: with its envelope it fits one message."""

_JSON: Final = "application/json"
_PATHS: Final[Mapping[int, str]] = {
    router_pb2.OPERATION_IMAGE: "/images/generations",
    router_pb2.OPERATION_SPEECH: "/audio/speech",
    router_pb2.OPERATION_TRANSCRIPTION: "/audio/transcriptions",
}
MEDIA: Final = frozenset(_PATHS)
"""The operations that are served here."""


class OpenAiMedia:
    """One OpenAI-speaking upstream's images, speech and transcriptions.

    `headers` are sent with each request; they hold the upstream's key.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        pool: HttpPool,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._loop = loop
        self._headers = headers
        self._targets = {name: Target.of(base_url, path) for name, path in _PATHS.items()}

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        """Yield the answer's batches; see `services.router.providers.port.Provider`."""
        exchange: HttpExchange | None = None
        try:
            if call.operation == router_pb2.OPERATION_TRANSCRIPTION:
                sound = encode_sound(call)
                exchange = await self._send(call, sound.body, sound.content_type, deadline_s)
                await self._head(exchange, deadline_s)
                yield read_transcription(call, sound, await self._all(exchange, deadline_s))
            elif call.operation == router_pb2.OPERATION_IMAGE:
                request = encode_image(call, body)
                exchange = await self._send(call, request, _JSON, deadline_s)
                await self._head(exchange, deadline_s)
                yield read_images(call, await self._all(exchange, deadline_s))
            else:
                request = encode_speech(call, body)
                exchange = await self._send(call, request, _JSON, deadline_s)
                reader = await self._speech(call, body, exchange, deadline_s)
                read = exchange.reader()
                wait_s = deadline_s
                while data := await read(wait_s):
                    yield reader.feed(data)
                    wait_s = self._loop.time() + call.idle_s
                yield reader.end()
        except UpstreamError as error:
            raise failure_of(error, is_late=self._loop.time() >= deadline_s) from error
        finally:
            if exchange is not None:
                exchange.close()

    async def _send(
        self, call: Call, request: bytes, content_type: str, deadline_s: float
    ) -> HttpExchange:
        target = self._targets[call.operation]
        fields = self._headers
        if call.credential is not None:
            fields = as_bearer(fields, call.credential)
        headers = build_headers(target, {**fields, "content-type": content_type})
        return await self._pool.request(
            "POST",
            target,
            headers=headers,
            body=request,
            connect_s=min(self._pool.limits.connect_s, deadline_s - self._loop.time()),
        )

    async def _head(self, exchange: HttpExchange, deadline_s: float) -> ResponseHead:
        head = await exchange.head(deadline_s)
        if head.status != 200:
            now_unix_s = self._clock.unix_ms() / 1000
            raise await refusal(exchange, head, deadline_s, now_unix_s=now_unix_s)
        return head

    async def _all(self, exchange: HttpExchange, deadline_s: float) -> bytes:
        bytes_max = min(ANSWER_BYTES_MAX, self._pool.limits.body_bytes_max)
        return await exchange.read_all(deadline_s, bytes_max)

    async def _speech(
        self, call: Call, body: Body, exchange: HttpExchange, deadline_s: float
    ) -> SpeechReader:
        """Return what reads an answer of sound; a JSON body may be an error that says why."""
        head = await self._head(exchange, deadline_s)
        if head.media_type == _JSON.encode():
            answer = await error_body(exchange, deadline_s)
            if b'"error"' in answer:
                raise error_in_answer(answer)
        length = head.headers.get(b"content-length", b"")
        return SpeechReader(call, body, media_type=head.media_type, length=length)
