"""Opens the way to one model on one Triton server: gRPC or HTTP, as its settings say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from services.router.providers.triton_http import HttpTransport, open_http_transport
from services.router.providers.triton_port import TritonConfig
from services.router.upstream import HttpPool

if TYPE_CHECKING:
    from services.router.providers.triton_grpc import GrpcTransport


@asynccontextmanager
async def open_transport(
    config: TritonConfig, http_pool: HttpPool | None
) -> "AsyncIterator[HttpTransport | GrpcTransport]":
    """Open a transport.

    Args:
        config: Where the model is.
        http_pool: Connections to share, for transport http; its own when absent.
    """
    if config.transport == "http":
        async with open_http_transport(config, http_pool) as transport:
            yield transport
    else:
        # Loaded on first use: the client library brings numpy along, 16 MiB of it.
        from services.router.providers.triton_grpc import open_grpc_transport  # noqa: PLC0415

        async with open_grpc_transport(config) as grpc_transport:
            yield grpc_transport
