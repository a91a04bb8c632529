"""A channel to another process; it reconnects by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio

from kit.rpc.limits import (
    KEEPALIVE_S,
    KEEPALIVE_TIMEOUT_S,
    MESSAGE_BYTES_MAX,
    RECONNECT_MAX_S,
)

OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 1000 * KEEPALIVE_S),
    ("grpc.keepalive_timeout_ms", 1000 * KEEPALIVE_TIMEOUT_S),
    ("grpc.max_reconnect_backoff_ms", 1000 * RECONNECT_MAX_S),
)


@asynccontextmanager
async def open_channel(address: str, *, token: str) -> AsyncIterator[aio.Channel]:
    """Open a channel to `host:port` that shows the service token with each call."""
    header = ("authorization", f"Bearer {token}")
    interceptors = [_UnaryToken(header), _StreamToken(header)]
    async with aio.insecure_channel(
        address, options=list(OPTIONS), interceptors=interceptors
    ) as channel:
        yield channel


def _with_token(details: aio.ClientCallDetails, header: tuple[str, str]) -> aio.ClientCallDetails:
    metadata = aio.Metadata(*(details.metadata or ()))
    metadata.add(*header)
    return aio.ClientCallDetails(
        method=details.method,
        timeout=details.timeout,
        metadata=metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


class _UnaryToken(aio.UnaryUnaryClientInterceptor):
    def __init__(self, header: tuple[str, str]) -> None:
        self._header = header

    async def intercept_unary_unary(
        self,
        continuation: Any,  # noqa: ANN401 - gRPC's own signature
        client_call_details: aio.ClientCallDetails,
        request: Any,  # noqa: ANN401 - any message
    ) -> Any:  # noqa: ANN401 - gRPC's own signature
        return await continuation(_with_token(client_call_details, self._header), request)


class _StreamToken(aio.UnaryStreamClientInterceptor):
    def __init__(self, header: tuple[str, str]) -> None:
        self._header = header

    async def intercept_unary_stream(
        self,
        continuation: Any,  # noqa: ANN401 - gRPC's own signature
        client_call_details: aio.ClientCallDetails,
        request: Any,  # noqa: ANN401 - any message
    ) -> Any:  # noqa: ANN401 - gRPC's own signature
        return await continuation(_with_token(client_call_details, self._header), request)
