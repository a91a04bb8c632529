"""A host of images on a real TLS socket; the path says how it behaves."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

IMAGE: Final = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
MIB: Final = 1024**2
_OK: Final = "HTTP/1.1 200 OK\r\n"
_PNG: Final = f"{_OK}Content-Type: image/png\r\n"


@dataclass(slots=True)
class ImageHost:
    """What was asked; `names` are those of the TLS handshakes, `heads` whole request heads."""

    port: int = 0
    names: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    open_count: int = 0

    def url(self, path: str) -> str:
        """Return a URL on this host."""
        return f"https://img.example.com:{self.port}{path}"


@asynccontextmanager
async def open_image_host(tls: ssl.SSLContext) -> AsyncIterator[ImageHost]:
    """Open the host on a free port of 127.0.0.1."""
    host = ImageHost()
    is_over = asyncio.Event()

    def named(_socket: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        host.names.append(name or "")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host.open_count += 1
        try:
            with suppress(OSError, EOFError):
                head = await reader.readuntil(b"\r\n\r\n")
                host.heads.append(head)
                await _answer(head.split(b" ", 2)[1].decode(), writer, is_over)
        finally:
            host.open_count -= 1
            writer.close()

    tls.sni_callback = named
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        is_over.set()
        server.close()
        await server.wait_closed()


async def _answer(path: str, writer: asyncio.StreamWriter, is_over: asyncio.Event) -> None:
    html = b"<html>secret</html>"
    whole = {
        "/a.png": (f"{_PNG}Content-Length: {len(IMAGE)}\r\n", IMAGE),
        "/until-close.png": (_PNG, IMAGE),
        "/parameters.png": (f"{_OK}Content-Type: Image/PNG; x=y\r\n", IMAGE),
        "/redirect": ("HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\n", b""),
        "/moved": (f"HTTP/1.1 308 Moved\r\nLocation: /a.png\r\n{_PNG[len(_OK) :]}", IMAGE),
        "/gone": ("HTTP/1.1 404 Not Found\r\nContent-Type: image/png\r\n", IMAGE),
        "/page": (f"{_OK}Content-Type: text/html\r\n", IMAGE),
        "/untold": (_OK, IMAGE),
        "/liar": (_PNG, html),
        "/packed": (f"{_PNG}Content-Encoding: gzip\r\n", IMAGE),
        "/said": (f"{_PNG}Content-Length: {11 * MIB}\r\n", b""),
        "/junk": ("SSH-2.0-OpenSSH\r\n", b""),
    }
    if path == "/silent":
        await is_over.wait()
    elif path in whole:
        head, body = whole[path]
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()
    elif path == "/long":
        writer.write(_PNG.encode() + b"\r\n" + IMAGE)
        for _ in range(11 * 16):
            writer.write(bytes(MIB // 16))
            await writer.drain()
    elif path == "/slow":
        writer.write(_PNG.encode() + b"\r\n" + IMAGE)
        while not is_over.is_set():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)
