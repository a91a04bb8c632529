"""`/openapi.json`, `/docs` and `/llms.txt`: the API's description, open to everybody."""

from functools import lru_cache

from aiohttp import web

from gateway.deps import Deps
from gateway.docs.document import document
from gateway.docs.pages import llms_text, reference_page
from gateway.exchange import Exchange
from gateway.openai.schema import encode

VERSION = "1"


@lru_cache(maxsize=1)
def _openapi() -> bytes:
    return encode(document(VERSION))


async def openapi(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return the OpenAPI document."""
    exchange.route = "GET /openapi.json"
    return _page(deps, _openapi(), "application/json; charset=utf-8")


async def reference(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return the document as a page to read."""
    exchange.route = "GET /docs"
    page = reference_page(document(VERSION))
    return _page(deps, page.encode(), "text/html; charset=utf-8")


async def llms(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return what there is, for machines that read text."""
    exchange.route = "GET /llms.txt"
    return _page(deps, llms_text().encode(), "text/plain; charset=utf-8")


def _page(deps: Deps, body: bytes, kind: str) -> web.Response:
    headers = {
        "Content-Type": kind,
        "X-Request-Id": deps.new_id(),
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=body, headers=headers)
