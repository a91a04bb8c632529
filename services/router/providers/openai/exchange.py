"""What every exchange with an OpenAI-speaking upstream has in common: its failures and refusals."""

import asyncio
from typing import Final

from services.router.providers.openai.errors import error_of_status
from services.router.providers.port import Failure, ProviderError
from services.router.upstream import (
    HttpExchange,
    ResponseHead,
    UpstreamBusyError,
    UpstreamClosedError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamTimeoutError,
)

ERROR_BODY_BYTES_MAX: Final = 65_536
ERROR_BODY_S: Final = 1.0
"""Bounds for the body of a refusal; without it the status alone decides."""


async def refusal(
    exchange: HttpExchange, head: ResponseHead, deadline_s: float, *, now_unix_s: float
) -> ProviderError:
    """Return what an answer that is not 200 means."""
    return error_of_status(
        head.status,
        await error_body(exchange, deadline_s),
        retry_after=head.headers.get(b"retry-after", b""),
        now_unix_s=now_unix_s,
    )


async def error_body(exchange: HttpExchange, deadline_s: float) -> bytes:
    """Return the body of a refusal, as far as it comes soon."""
    until_s = min(deadline_s, asyncio.get_running_loop().time() + ERROR_BODY_S)
    try:
        return await exchange.read_all(until_s, ERROR_BODY_BYTES_MAX)
    except UpstreamError:
        return b""


def failure_of(error: UpstreamError, *, is_late: bool) -> ProviderError:
    """Return what a failed exchange means; connecting past the deadline is no fault of the host."""
    is_connect = isinstance(error, UpstreamConnectError)
    if is_connect and not is_late:
        return ProviderError(Failure.CONNECT, str(error))
    if is_connect or isinstance(error, UpstreamTimeoutError):
        return ProviderError(Failure.TIMEOUT, "The upstream did not answer in time.")
    if isinstance(error, UpstreamBusyError):
        return ProviderError(Failure.UNAVAILABLE, str(error))
    if isinstance(error, UpstreamClosedError):
        failure = Failure.UNAVAILABLE if error.is_untouched else Failure.INCOMPLETE
        return ProviderError(failure, str(error))
    return ProviderError(Failure.INVALID_RESPONSE, str(error))
