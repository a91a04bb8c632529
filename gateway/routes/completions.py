"""`POST /v1/completions`."""

from collections.abc import Awaitable

from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.completions import COMPLETIONS
from gateway.serve import serve


def create_completion(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> Awaitable[web.StreamResponse]:
    """Answer one text completion, streamed or whole."""
    return serve(deps, request, exchange, COMPLETIONS)
