"""Requests for a response over a real socket, without an SDK."""

import asyncio
from typing import Any

import aiohttp

from tests.fixtures.catalogues import SMALL
from tests.fixtures.gateway import Key, Site


def post(site: Site, key: Key, *, prefix: str = "/v1", **fields: Any) -> Any:
    """Send a request for a response; the answer is a context manager."""
    body = {"model": SMALL, "input": "hello", **fields}
    return site.http.post(f"{site.url}{prefix}/responses", json=body, headers=key.headers)


async def read_deltas(response: aiohttp.ClientResponse, count: int) -> bytes:
    """Read until so many pieces of text have come."""
    seen = b""
    async with asyncio.timeout(15):
        while seen.count(b"event: response.output_text.delta") < count:
            data = await response.content.readany()
            assert data, seen
            seen += data
    return seen
