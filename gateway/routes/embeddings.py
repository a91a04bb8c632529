"""`POST /v1/embeddings`."""

from collections.abc import Awaitable

from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.embeddings import EMBEDDINGS
from gateway.serve import serve


def create_embeddings(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> Awaitable[web.StreamResponse]:
    """Answer with one vector for each input."""
    return serve(deps, request, exchange, EMBEDDINGS)
