"""Uploads: bodies that are larger than JSON ever is, within a bound of their own.

All that are in hand together have a bound too, so that memory has one.
"""

import asyncio
from typing import Final

from aiohttp import web

from gateway.bodies import not_encoded, too_large, too_late
from gateway.deps import Deps
from gateway.exchange import Exchange

FIELDS_BYTES_MAX: Final = 1024**2
"""What the other fields of a form may have beside its file."""


class Upload:
    """One upload; its bytes count until it is closed."""

    def __init__(self) -> None:
        self._deps: Deps | None = None
        self._taken = 0

    async def read(self, deps: Deps, request: web.BaseRequest, exchange: Exchange) -> bytes:
        """Return the body.

        Raises:
            TurnpikeError: `PAYLOAD_TOO_LARGE`, `OVERLOADED` when too much is in hand already,
                `REQUEST_TIMEOUT` when it does not come, or `BAD_REQUEST` when it cannot be read.
        """
        del exchange
        limits, announced = deps.settings, request.content_length
        bytes_max = limits.upload_bytes_max + FIELDS_BYTES_MAX
        size_max = bytes_max if announced is None else announced
        if size_max > bytes_max:
            raise too_large(bytes_max)
        deps.long_bodies.take(size_max)
        self._deps, self._taken = deps, size_max
        pieces: list[bytes] = []
        left = size_max
        try:
            async with asyncio.timeout(limits.upload_timeout_s):
                async for piece in request.content.iter_any():
                    left -= len(piece)
                    if left < 0:
                        raise too_large(bytes_max)
                    pieces.append(piece)
        except TimeoutError as error:
            raise too_late() from error
        except web.RequestPayloadError as error:
            raise not_encoded() from error
        return b"".join(pieces)

    def close(self) -> None:
        """Make room for others."""
        if self._deps is not None:
            self._deps.long_bodies.give(self._taken)
            self._deps = None
