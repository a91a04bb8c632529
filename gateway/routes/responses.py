"""`POST /v1/responses`."""

from collections.abc import Awaitable

from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.responses.api import ResponsesApi
from gateway.serve import serve


def create_response(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> Awaitable[web.StreamResponse]:
    """Answer one request for a response, streamed or whole; nothing is stored."""
    return serve(deps, request, exchange, ResponsesApi())
