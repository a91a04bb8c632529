"""Reading request bodies: how long one may be, and how many bytes of long ones are held at once.

A body is short unless it carries media: then it may be longer, as long as the rest of it is not.
Whether it does is known before it is there whole, because media is marked: a long body without a
mark is given up at the first limit.
"""

import asyncio
from typing import Final

from aiohttp import StreamReader, web

from gateway.call import Media
from gateway.settings import GatewaySettings
from kit.errors import Reason, TurnpikeError

_MARKS: Final = (b"base64", b"input_audio")
_MARK_BYTES_MAX: Final = max(map(len, _MARKS))


class LongBodies:
    """Bytes of long bodies that are held now; each is taken before it is kept and given back."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Take room.

        Raises:
            TurnpikeError: `OVERLOADED`: there is none.
        """
        if self.held_bytes + size > self._bytes_max:
            raise TurnpikeError(
                Reason.OVERLOADED, "Too many long bodies are being read.", retry_after_s="1"
            )
        self.held_bytes += size

    def give(self, size: int) -> None:
        """Give room back."""
        self.held_bytes -= size


class LongBody:
    """One body that did not come at once, or is longer than short ones may be."""

    def __init__(self, settings: GatewaySettings, room: LongBodies | None) -> None:
        self._settings = settings
        self._room = room
        self._taken_bytes = 0

    async def read(self, content: StreamReader, start: bytes = b"") -> bytes:
        """Return the body; `start` is what was read of it before.

        Raises:
            TurnpikeError: `REQUEST_TIMEOUT` when it does not come, `PAYLOAD_TOO_LARGE`,
                `OVERLOADED`, or `BAD_REQUEST` when it cannot be read.
        """
        body = bytearray()
        try:
            self._keep(body, start)
            async with asyncio.timeout(self._settings.body_timeout_s):
                while piece := await content.readany():
                    self._keep(body, piece)
        except TimeoutError as error:
            raise too_late() from error
        except web.RequestPayloadError as error:
            raise not_encoded() from error
        return bytes(body)

    def keep_whole(self, body: bytes) -> None:
        """Take a body that is there at once.

        Raises:
            TurnpikeError: `PAYLOAD_TOO_LARGE` or `OVERLOADED`.
        """
        self._keep(bytearray(), body)

    def check_announced(self, size: int | None) -> None:
        """Refuse at once what its own header says is too long.

        Raises:
            TurnpikeError: `PAYLOAD_TOO_LARGE`.
        """
        settings = self._settings
        bytes_max = settings.body_bytes_max
        if self._room is not None:
            bytes_max = max(bytes_max, settings.media_body_bytes_max)
        if size is not None and size > bytes_max:
            raise too_large(bytes_max)

    def check(self, size: int, media: Media | None) -> None:
        """Refuse a long body whose text alone is too long.

        Raises:
            TurnpikeError: `PAYLOAD_TOO_LARGE`.
        """
        bytes_max = self._settings.body_bytes_max
        if size - (media.inline_bytes if media is not None else 0) > bytes_max:
            raise too_large(bytes_max, " besides its media" if media is not None else "")

    def close(self) -> None:
        """Give back the room that the body took."""
        if self._taken_bytes and self._room is not None:
            self._room.give(self._taken_bytes)
            self._taken_bytes = 0

    def _keep(self, body: bytearray, piece: bytes) -> None:
        body += piece
        if len(body) <= self._settings.body_bytes_max:
            return
        size = len(piece)
        if not self._taken_bytes:
            self._check_mark(body)
            size = len(body)
        long_max = self._settings.media_body_bytes_max
        if len(body) > long_max:
            raise too_large(max(long_max, self._settings.body_bytes_max))
        if self._room is not None:
            self._room.take(size)
        self._taken_bytes += size

    def _check_mark(self, body: bytearray) -> None:
        bytes_max = self._settings.body_bytes_max
        end = bytes_max + _MARK_BYTES_MAX
        if self._room is None or not any(body.find(mark, 0, end) >= 0 for mark in _MARKS):
            raise too_large(bytes_max)


async def has_body(request: web.BaseRequest, wait_s: float) -> bool:
    """Return whether a request has a body that is not empty; nothing of it is taken.

    Raises:
        TurnpikeError: `REQUEST_TIMEOUT` when nothing comes of what was announced without a length.
    """
    if request.content_length is not None:
        return request.content_length > 0
    content = request.content
    try:
        async with asyncio.timeout(wait_s):
            while not content.total_bytes and not content.is_eof():
                # aiohttp has no public way to wait without taking what comes.
                await content._wait("has_body")  # noqa: SLF001
    except TimeoutError as error:
        raise too_late() from error
    except web.RequestPayloadError as error:
        raise not_encoded() from error
    return content.total_bytes > 0


def check_length(request: web.BaseRequest) -> None:
    """Tell a body that is empty from one that nothing announced. Source: RFC 9110, 15.5.12.

    Raises:
        TurnpikeError: `LENGTH_REQUIRED`.
    """
    if "Content-Length" not in request.headers and "Transfer-Encoding" not in request.headers:
        raise TurnpikeError(Reason.LENGTH_REQUIRED, "The request needs a Content-Length.")


def too_late() -> TurnpikeError:
    """Return the refusal of a body that does not come."""
    return TurnpikeError(Reason.REQUEST_TIMEOUT, "The body did not arrive in time.")


def not_encoded() -> TurnpikeError:
    """Return the refusal of a body that cannot be read."""
    return TurnpikeError(Reason.BAD_REQUEST, "The body is not encoded as its headers say.")


def too_large(bytes_max: int, where: str = "") -> TurnpikeError:
    """Return the refusal of a body that is too long."""
    return TurnpikeError(
        Reason.PAYLOAD_TOO_LARGE, f"The body is longer than {bytes_max} bytes{where}."
    )
