"""`POST /v1/chat/completions`."""

from collections.abc import Awaitable

from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.chat import CHAT
from gateway.serve import serve


def create_chat_completion(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> Awaitable[web.StreamResponse]:
    """Answer one chat completion, streamed or whole."""
    return serve(deps, request, exchange, CHAT)
