"""`/openapi.json`, `/docs` and `/llms.txt`: the API's description, open to everybody.

It is made when it is first asked for, so that no start waits for it.
"""

from functools import lru_cache
from typing import NamedTuple

from aiohttp import web

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.schema import encode

VERSION = "1"


class _Pages(NamedTuple):
    openapi: bytes
    reference: bytes
    llms: bytes


@lru_cache(maxsize=1)
def _pages() -> _Pages:
    from gateway.docs.document import document  # noqa: PLC0415 - few ever ask
    from gateway.docs.pages import llms_text, reference_page  # noqa: PLC0415

    found = document(VERSION)
    return _Pages(encode(found), reference_page(found).encode(), llms_text().encode())


async def openapi(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return the OpenAPI document."""
    exchange.route = "GET /openapi.json"
    return _page(deps, _pages().openapi, "application/json; charset=utf-8")


async def reference(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return the document as a page to read."""
    exchange.route = "GET /docs"
    return _page(deps, _pages().reference, "text/html; charset=utf-8")


async def llms(deps: Deps, request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Return what there is, for machines that read text."""
    exchange.route = "GET /llms.txt"
    return _page(deps, _pages().llms, "text/plain; charset=utf-8")


def _page(deps: Deps, body: bytes, kind: str) -> web.Response:
    headers = {
        "Content-Type": kind,
        "X-Request-Id": deps.new_id(),
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=body, headers=headers)
