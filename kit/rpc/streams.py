"""Ending a response stream early, whichever channel it came over."""

from typing import Any

from grpc import aio

from kit.rpc.local import LocalStream


async def close_stream(call: aio.UnaryStreamCall[Any, Any]) -> None:
    """Cancel a call that is not finished; to be called by the task that reads it.

    Over a local channel the servicer's clean-up has run when this returns; over a socket the
    cancellation is on its way.
    """
    if isinstance(call, LocalStream):
        await call.aclose()
    else:
        call.cancel()
