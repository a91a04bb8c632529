"""Vendors that speak OpenAI's API in words of their own: a server each, well-behaved or not.

Every vendor answers as `openai_model` does, respelled; refuses what it is documented to refuse, in
its own form; and goes wrong as the last message asks: `error before`, `error late`, `cut`, `junk`,
`broken off`, `slow`. It remembers what it was asked and, in OpenAI's meaning, what was used. What
it knows and writes is in `vendor_manners`.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.openai_model import Turn
from tests.fakes.vendor_basics import Refusal
from tests.fakes.vendor_manners import MANNERS, Manner, understood

Value = dict[str, Any]


@dataclass(slots=True)
class VendorUpstream:
    """The fake's memory; `base_url` is what a provider is given.

    `split` is how many bytes are written at once, 0 for an event. A stream goes wrong after
    `pieces` with content, -1 for in the middle; `pause_s` is between two events.
    """

    name: str
    base_url: str = ""
    seen: list[Value] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    usages: list[Value] = field(default_factory=list)
    split: int = 0
    pieces: int = -1
    pieces_sent: int = 0
    pause_s: float = 0.0
    is_aborted: bool = False


class _Answer:
    """One answer of a vendor."""

    def __init__(self, upstream: VendorUpstream, request: web.Request, body: Value) -> None:
        self._upstream = upstream
        self._request = request
        self._manner: Manner = MANNERS[upstream.name]
        self._asked = understood(body)
        self._turn = Turn(self._asked, is_lying=False)
        last = self._asked["messages"][-1]
        self._wish = json.dumps(last)
        usage = self._turn.usage()
        if not self._manner.counts_cache:
            usage["prompt_tokens_details"] = {"cached_tokens": 0}
        self._usage = usage

    async def run(self) -> web.StreamResponse:
        if "error before" in self._wish:
            return refused(self._manner.overloaded)
        if not self._asked.get("stream"):
            return await self._whole()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(self._request)
        if self._manner.comment:
            await self._write(response, self._manner.comment)
        chunks = self._manner.streamed(list(self._turn.chunks()))
        usage_chunk = chunks.pop()
        # The first chunk has the role alone.
        wrong_at = len(chunks) // 2 if self._upstream.pieces < 0 else 1 + self._upstream.pieces
        for number, chunk in enumerate(chunks):
            self._upstream.pieces_sent = max(0, number - 1)
            if number == wrong_at and await self._mishap(response):
                return response
            if self._manner.usage_at_end and number == len(chunks) - 1:
                chunk["usage"] = self._usage
            await self._event(response, self._spelled(chunk))
            await asyncio.sleep(self._upstream.pause_s)
        if not self._manner.usage_at_end:
            await self._event(response, self._spelled({**usage_chunk, "usage": self._usage}))
        self._upstream.usages.append(self._usage)
        await self._write(response, b"data: [DONE]\n\n")
        return response

    async def _whole(self) -> web.StreamResponse:
        whole = self._turn.completion()
        whole["usage"] = self._usage
        self._upstream.usages.append(self._usage)
        if "broken off" in self._wish:
            whole["choices"][0]["finish_reason"] = self._manner.broken
        body = json.dumps(self._spelled(whole)).encode()
        if "junk" in self._wish:
            body = b'{"choices": [{"message": oops'
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(self._request)
        if "cut" in self._wish:
            await self._write(response, body[: len(body) // 2])
            self._cut()
            return response
        await self._write(response, self._manner.blank + body)
        return response

    async def _mishap(self, response: web.StreamResponse) -> bool:
        """Go wrong in the middle if that is asked for; whether the answer ends here."""
        if "slow" in self._wish:
            await asyncio.get_running_loop().create_future()
        if "error late" in self._wish:
            await self._event(response, self._manner.late_error)
            return True
        if "broken off" in self._wish:
            choice = {"index": 0, "delta": {}, "finish_reason": self._manner.broken}
            await self._event(response, {**self._turn.identity("x"), "choices": [choice]})
            await self._write(response, b"data: [DONE]\n\n")
            return True
        if "junk" in self._wish:
            await self._write(response, b'data: {"choices": oops\n\n')
            return True
        if "cut" in self._wish:
            self._cut()
            return True
        return False

    def _cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.close()

    def _spelled(self, value: Value) -> Value:
        return self._manner.spelled(value, self._request.path)

    async def _event(self, response: web.StreamResponse, value: Value) -> None:
        data = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        await self._write(response, b"data: " + data + b"\n\n")

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        size = self._upstream.split or len(data)
        for at in range(0, len(data), size):
            await response.write(data[at : at + size])
            if self._upstream.split:
                await asyncio.sleep(0)


def refused(refusal: Refusal) -> web.Response:
    """Return a refusal as it goes over the wire."""
    return web.json_response(refusal.body, status=refusal.status, headers=refusal.headers)


@asynccontextmanager
async def open_vendor(name: str) -> AsyncIterator[VendorUpstream]:
    """Serve one vendor on a free port."""
    upstream = VendorUpstream(name)
    manner = MANNERS[name]

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        upstream.seen.append(body)
        upstream.paths.append(request.path)
        upstream.headers.append(dict(request.headers))
        if request.headers.get("Authorization") != "Bearer sk-vendor":
            return refused(manner.unauthorized)
        if refusal := manner.refusal(body, request.path):
            return refused(refusal)
        try:
            return await _Answer(upstream, request, body).run()
        except (ConnectionError, asyncio.CancelledError):
            upstream.is_aborted = True
            raise

    async def embed(request: web.Request) -> web.Response:
        body = await request.json()
        upstream.seen.append(body)
        upstream.paths.append(request.path)
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        size = body.get("output_dimension") or body.get("dimensions") or 4
        data = [
            {"object": "embedding", "index": index, "embedding": [0.5] * size}
            for index in range(len(inputs))
        ]
        usage = {"prompt_tokens": 3 * len(inputs), "total_tokens": 3 * len(inputs)}
        upstream.usages.append(usage)
        return web.json_response(
            {"object": "list", "model": body["model"], "data": data, "usage": usage}
        )

    async def media(request: web.Request) -> web.Response:
        """Answer with a picture, a sound or a text, as the path asks for."""
        upstream.paths.append(request.path)
        if request.path.endswith("transcriptions"):
            form = await request.post()
            upstream.seen.append({name: str(form[name]) for name in form})
            return web.json_response({"text": "Hello.", "duration": 2.5, "segments": []})
        body = await request.json()
        upstream.seen.append(body)
        if request.path.endswith("speech"):
            return web.Response(body=b"sound" * 20, content_type="audio/mpeg")
        name = "b64_json" if body.get("response_format") != "url" else "url"
        pictures = [{"index": at, name: "aGk=", "type": "x"} for at in range(body.get("n", 1))]
        return web.json_response({"id": "o", "model": "m", "object": "list", "data": pictures})

    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_post("/v1/embeddings", embed)
    for path in ("/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions"):
        app.router.add_post(path, media)
    app.router.add_post("/v1/{tail:.*}", answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield upstream
    finally:
        await runner.cleanup()
