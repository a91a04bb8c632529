"""Ending a response stream early, whichever channel it came over."""

from typing import Any, Protocol, runtime_checkable

from grpc import aio


@runtime_checkable
class Closable(Protocol):
    """A stream whose servicer can be waited for."""

    async def aclose(self) -> None:
        """Close the servicer's side and wait for its clean-up."""


async def close_stream(call: aio.UnaryStreamCall[Any, Any]) -> None:
    """Cancel a call that is not finished.

    Over a local channel the servicer's clean-up has run when this returns; over a socket the
    cancellation is on its way.
    """
    if isinstance(call, Closable):
        await call.aclose()
    else:
        call.cancel()
