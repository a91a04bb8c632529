"""Fetches images that a client names by URL, for models that only take the bytes.

The URL is a stranger's, so it decides nothing but which public host is asked for which path: it is
read once, its name looked up once, every address found has to be public, and the connection goes
to such an address, with the certificate checked for the name. No redirect, proxy, cookie or
credential; every wait, size and count is bounded. What is fetched and from where is never logged.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, NamedTuple

from kit.image_magic import IMAGE_KINDS, looks_like_image
from kit.outbox import Outbox
from kit.public_url import PublicUrl, UrlError, is_public, read_public_url
from services.router.providers.port import ProviderError
from services.router.providers.refusals import rejected
from services.router.upstream import (
    HttpLimits,
    ResponseHead,
    UpstreamError,
    UpstreamTimeoutError,
)
from services.router.upstream_connection import HttpConnection

ADDRESSES_MAX: Final = 4
"""Most addresses of one name that are tried."""

LOOKUPS_MAX: Final = 64
"""Most names that are looked up or wait for it; a lookup cannot be stopped."""

_THREADS_MAX: Final = 8
_OK: Final = 200
_KINDS: Final = frozenset({*(kind.encode() for kind in IMAGE_KINDS), b"image/jpg"})
_ACCEPT: Final = ", ".join(IMAGE_KINDS)

Resolve = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host name; may block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """What may be fetched; times in seconds, sizes in bytes.

    `networks` are private networks that may be asked all the same. An empty `ca_file` means the
    system's certificates.
    """

    ports: frozenset[int] = frozenset({443})
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    ca_file: str = ""
    total_s: float = 5.0
    image_bytes_max: int = 10 * 1024**2
    request_bytes_max: int = 32 * 1024**2
    concurrent_max: int = 16


class ImageUrl(NamedTuple):
    """An image and the place in the request that names it."""

    where: str
    url: str


def system_addresses(host: str, port: int) -> Sequence[str]:
    """Return what the system's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class ImageFetcher:
    """Fetches images for all requests of this process; nothing is opened before the first."""

    def __init__(self, rules: FetchRules, *, resolve: Resolve = system_addresses) -> None:
        self._rules = rules
        self._resolve = resolve
        self._free = asyncio.Semaphore(rules.concurrent_max)
        self._threads = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="fetch")
        self._lookup_count = 0
        self._tls: ssl.SSLContext | None = None
        self._limits = HttpLimits()

    async def fetch(self, images: Sequence[ImageUrl], *, deadline_s: float) -> list[bytes]:
        """Return the images' bytes, in order.

        Args:
            images: What to fetch.
            deadline_s: Loop time by which all of them must be there.

        Raises:
            ProviderError: REJECTED, with `param` naming the one that cannot be had.
        """
        size = 0

        async def fetch_one(image: ImageUrl) -> bytes:
            nonlocal size
            data = await self._fetch(image, deadline_s)
            size += len(data)
            if size > self._rules.request_bytes_max:
                most = self._rules.request_bytes_max
                raise rejected("messages", f"name images of more than {most} bytes")
            return data

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(fetch_one(image)) for image in images]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def close(self) -> None:
        """Let go of the threads; lookups that run end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _fetch(self, image: ImageUrl, deadline_s: float) -> bytes:
        where = image.where
        try:
            url = read_public_url(image.url)
        except UrlError as error:
            raise rejected(where, str(error).removesuffix(".")) from None
        if url.port not in self._rules.ports:
            raise rejected(where, "names a port that images are not fetched from")
        until_s = min(deadline_s, asyncio.get_running_loop().time() + self._rules.total_s)
        try:
            async with asyncio.timeout_at(until_s), self._free:
                addresses = await self._addresses(where, url)
                connection = await self._connect(where, url, addresses)
                try:
                    return await self._read(where, url, connection, until_s)
                finally:
                    connection.abort()
        except (TimeoutError, UpstreamTimeoutError):
            raise rejected(where, "could not be fetched in time") from None
        except UpstreamError:
            raise rejected(where, "could not be fetched: the answer is not as asked for") from None

    async def _addresses(self, where: str, url: PublicUrl) -> Sequence[str]:
        """Look a name up, once; one address that is not public spoils all of them."""
        if self._lookup_count >= LOOKUPS_MAX:
            raise rejected(where, "could not be fetched in time")
        self._lookup_count += 1
        lookup = self._threads.submit(self._resolve, url.host, url.port)
        loop = asyncio.get_running_loop()
        lookup.add_done_callback(lambda done: _tell(loop, self._looked_up, done))
        try:
            addresses = await asyncio.wrap_future(lookup)
        except (OSError, UnicodeError):
            raise rejected(where, "names a host that was not found") from None
        if not addresses:
            raise rejected(where, "names a host that was not found")
        if not all(map(self._may_ask, addresses)):
            raise rejected(where, "must point at a public host")
        return addresses[:ADDRESSES_MAX]

    def _looked_up(self, _lookup: "Future[Sequence[str]]") -> None:
        self._lookup_count -= 1

    def _may_ask(self, text: str) -> bool:
        address = ip_address(text)
        if is_public(address):
            return True
        return any(
            address.version == network.version and address in network
            for network in self._rules.networks
        )

    async def _connect(
        self, where: str, url: PublicUrl, addresses: Sequence[str]
    ) -> HttpConnection:
        loop = asyncio.get_running_loop()
        if self._tls is None:
            self._tls = await loop.run_in_executor(self._threads, self._context)
        outbox = Outbox(loop)
        for address in addresses:
            try:
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(
                        loop, self._limits, outbox=outbox, on_free=_ignore, on_lost=_ignore
                    ),
                    address,
                    url.port,
                    ssl=self._tls,
                    server_hostname=url.host,
                )
            except (OSError, ssl.SSLError):
                continue
            return connection
        raise rejected(where, "names a host that cannot be reached by https")

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._rules.ca_file or None)

    async def _read(
        self, where: str, url: PublicUrl, connection: HttpConnection, until_s: float
    ) -> bytes:
        lines = (
            f"GET {url.path} HTTP/1.1",
            f"host: {url.authority}",
            f"accept: {_ACCEPT}",
            "accept-encoding: identity",
            "user-agent: turnpike",
            "connection: close",
        )
        connection.send("\r\n".join((*lines, "", "")).encode("ascii"), b"")
        head = await connection.head(until_s)
        self._check_head(where, head)
        data = bytearray()
        while piece := await connection.read(until_s):
            data += piece
            if len(data) > self._rules.image_bytes_max:
                raise _too_long(where, self._rules.image_bytes_max)
        if not looks_like_image(data):
            raise rejected(where, "is not a PNG, JPEG, WebP or GIF image")
        return bytes(data)

    def _check_head(self, where: str, head: ResponseHead) -> None:
        if 300 <= head.status < 400:
            raise rejected(where, "answers with a redirect, which is not followed")
        if head.status != _OK:
            raise rejected(where, f"answers with status {head.status}")
        if head.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise rejected(where, "answers compressed, which was not asked for")
        if head.media_type not in _KINDS:
            raise rejected(where, f"is none of {', '.join(IMAGE_KINDS)}")
        said = head.headers.get(b"content-length", b"")
        if said.isdigit() and int(said) > self._rules.image_bytes_max:
            raise _too_long(where, self._rules.image_bytes_max)


def _tell(
    loop: asyncio.AbstractEventLoop,
    listener: Callable[["Future[Sequence[str]]"], None],
    done: "Future[Sequence[str]]",
) -> None:
    """Pass the end of a lookup on to the loop, unless that has ended before."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(listener, done)


def _ignore(_connection: HttpConnection) -> None:
    """Do nothing: a connection serves one image."""


def _too_long(where: str, most: int) -> ProviderError:
    return rejected(where, f"is longer than {most} bytes")
