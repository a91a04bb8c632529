"""What a client of the gateway sees: answers, errors and streams, read byte by byte if need be."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict

from tests.fakes.openai_upstream import OpenAiUpstream

UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
READ_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, checked for what all of them have in common."""
        error: dict[str, Any] = self.json["error"]
        assert {"error"} == set(self.json)
        assert self.headers["Content-Type"] == "application/json; charset=utf-8"
        assert UUID7.fullmatch(self.headers["X-Request-Id"])
        assert self.headers["X-Request-Id"] == error["request_id"]
        assert {"message", "type", "param", "request_id"} <= set(error)
        assert error["message"].endswith((".", ")")) or "(" in error["message"]
        return error


async def answer_of(call: Any) -> Answer:
    """Send a request and return its whole answer."""
    async with call as response:
        return Answer(response.status, CIMultiDict(response.headers), await response.read())


def events_of(body: bytes) -> list[Any]:
    """Return the values of a whole event stream; `[DONE]` stays text, comments are left out."""
    assert body.endswith(b"\n\n"), body[-80:]
    blocks = [block for block in body.decode().split("\n\n") if block and block[0] != ":"]
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    values = [block.removeprefix("data: ") for block in blocks]
    return [value if value == "[DONE]" else json.loads(value) for value in values]


def text_of(events: list[Any]) -> str:
    """Return the text that a stream's chunks add up to."""
    deltas = [
        choice["delta"].get("content") or ""
        for event in events
        if event != "[DONE]"
        for choice in event.get("choices", ())
    ]
    return "".join(deltas)


def tokens(count: int) -> str:
    """Return what the fake upstream says in so many chunks."""
    return "".join(f"tok{index} " for index in range(count))


async def read_chunks(response: aiohttp.ClientResponse, count: int) -> bytes:
    """Read until so many chunks with content have come."""
    seen = b""
    async with asyncio.timeout(READ_S):
        while seen.count(b'"content":"tok') < count:
            data = await response.content.readany()
            assert data, seen
            seen += data
    return seen


async def stalled(upstream: OpenAiUpstream, *, since_s: float = 0.3) -> int:
    """Wait until the upstream can send no more; return what it has sent."""
    sent, since = -1, asyncio.get_running_loop().time()
    async with asyncio.timeout(15):
        while asyncio.get_running_loop().time() - since < since_s:
            now = sum(seen.bytes_sent for seen in upstream.seen)
            if now != sent:
                sent, since = now, asyncio.get_running_loop().time()
            await asyncio.sleep(0.02)
    return sent


class RawClient:
    """A connection of which every byte is ours."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """Read one answer, which must have a Content-Length."""
        async with asyncio.timeout(READ_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = CIMultiDict(line.partition(": ")[::2] for line in lines)
            body = await self.reader.readexactly(int(headers["Content-Length"]))
        return Answer(int(first.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Read until the other side ends the connection."""
        async with asyncio.timeout(READ_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def connected(port: int, *, ahead_bytes: int = 2**16) -> AsyncIterator[RawClient]:
    """Open a connection; `ahead_bytes` bounds what it takes in without being read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ahead_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=ahead_bytes)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


def request_bytes(
    secret: str, body: bytes, *, path: str = "/v1/chat/completions", more: str = ""
) -> bytes:
    """Return a whole POST request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: turnpike\r\nAuthorization: Bearer {secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body
