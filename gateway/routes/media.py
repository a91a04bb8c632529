"""`POST /v1/images/generations`, `/v1/audio/speech` and `/v1/audio/transcriptions`."""

from collections.abc import Awaitable

from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.media import ImageApi, SpeechApi
from gateway.openai.transcription import TranscriptionApi
from gateway.serve import serve
from gateway.uploads import Upload


def create_image(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> Awaitable[web.StreamResponse]:
    """Answer with images for a prompt."""
    api = ImageApi(timeout_max_ms=deps.settings.media_timeout_max_ms)
    return serve(deps, request, exchange, api)


def create_speech(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> Awaitable[web.StreamResponse]:
    """Answer with sound for a text, piece by piece."""
    api = SpeechApi(timeout_max_ms=deps.settings.media_timeout_max_ms)
    return serve(deps, request, exchange, api)


async def create_transcription(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Answer with text for sound."""
    api = TranscriptionApi(
        content_type=request.headers.get("Content-Type", ""),
        file_bytes_max=deps.settings.upload_bytes_max,
        timeout_max_ms=deps.settings.media_timeout_max_ms,
    )
    upload = Upload()
    try:
        return await serve(deps, request, exchange, api, upload.read)
    finally:
        upload.close()
