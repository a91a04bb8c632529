"""Opens the ways to one model on Triton: gRPC or HTTP, as its settings say."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from services.router.providers.triton_http import HttpTransport, open_http_transport
from services.router.providers.triton_port import TritonAddress, TritonConfig
from services.router.upstream import HttpPool

if TYPE_CHECKING:
    from services.router.providers.triton_grpc import GrpcTransport

AnyTransport: TypeAlias = "HttpTransport | GrpcTransport"


@asynccontextmanager
async def open_ways(
    config: TritonConfig, http_pool: HttpPool | None
) -> "AsyncIterator[Mapping[str, AnyTransport]]":
    """Open the ways to a model at all of its servers, by address; nothing is asked of them.

    Args:
        config: Where the model is.
        http_pool: Connections to share, for transport http; its own when absent.
    """
    addresses = config.servers or (TritonAddress(config.grpc_address, config.http_address),)
    async with AsyncExitStack() as stack:
        ways: dict[str, AnyTransport] = {}
        for address in addresses:
            one = replace(config, grpc_address=address.grpc, http_address=address.http)
            name = address.http if config.transport == "http" else address.grpc
            ways[name] = await stack.enter_async_context(_open_transport(one, http_pool))
        yield ways


@asynccontextmanager
async def _open_transport(
    config: TritonConfig, http_pool: HttpPool | None
) -> "AsyncIterator[AnyTransport]":
    if config.transport == "http":
        async with open_http_transport(config, http_pool) as transport:
            yield transport
    else:
        # Loaded on first use: the client library brings numpy along, 16 MiB of it.
        from services.router.providers.triton_grpc import open_grpc_transport  # noqa: PLC0415

        async with open_grpc_transport(config) as grpc_transport:
            yield grpc_transport
