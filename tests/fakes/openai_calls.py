"""Attempts and request bodies for tests of providers, and a way to wait."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from services.router.providers.port import Body, Call

CHUNK_HEAD = (
    b'{"id":"chatcmpl-ours","object":"chat.completion.chunk","created":1760000000,'
    b'"model":"ours/model",'
)

_CALL = Call(
    request_id="0192d3a0-7c00-7000-8000-000000000001",
    answer_id="chatcmpl-ours",
    create_unix_s=1_760_000_000,
    model_id="ours/model",
    upstream_model="upstream-model",
    is_streaming=True,
    max_tokens=100,
    chunk_head=CHUNK_HEAD,
    idle_s=5.0,
)


def make_call(**changes: Any) -> Call:
    """Return an attempt; streaming unless told otherwise."""
    return _CALL._replace(**changes)


def make_body(prompt: str = "hello", **fields: Any) -> Body:
    """Return a request split at its top level."""
    request = {"model": "ours/model", "messages": [{"role": "user", "content": prompt}], **fields}
    return msgspec.json.decode(msgspec.json.encode(request), type=Body)


async def eventually(is_true: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Return once the predicate holds; fail after a while."""
    async with asyncio.timeout(within_s):
        while not is_true():
            await asyncio.sleep(0.002)
