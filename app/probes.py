"""Small looks at ports of this machine: is it free, does NATS greet, does HTTP answer 200.

Used by what starts children and by `turnpike doctor`; nothing here sends anything of value.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final

PROBE_S: Final = 2.0
_LINE_BYTES_MAX: Final = 64 * 1024


def is_port_free(host: str, port: int) -> bool:
    """Return whether a server could listen on `host:port` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


async def nats_greets(host: str, port: int) -> bool:
    """Return whether a NATS server greets on `host:port` within `PROBE_S`."""
    return (await _first_line(host, port, b"")).startswith(b"INFO ")


async def http_is_ok(host: str, port: int, path: str) -> bool:
    """Return whether `GET path` on `host:port` answers 200 within `PROBE_S`."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    line = await _first_line(host, port, request.encode())
    return line.split(b" ", 2)[1:2] == [b"200"]


async def accepts(host: str, port: int) -> bool:
    """Return whether something accepts connections on `host:port` within `PROBE_S`."""
    try:
        async with asyncio.timeout(PROBE_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _first_line(host: str, port: int, request: bytes) -> bytes:
    """Send `request` and return the answer's first line; empty when there is none in time."""
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection(host, port, limit=_LINE_BYTES_MAX)
            try:
                writer.write(request)
                return await reader.readline()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return b""
