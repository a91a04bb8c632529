"""Opens the ways to one model on Triton: gRPC or HTTP, as its settings say."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from services.router.providers.triton.http import (
    HttpTransport,
    MetricsReader,
    open_http_transport,
)
from services.router.providers.triton.port import TritonAddress, TritonConfig
from services.router.providers.triton.servers import QueueReader
from services.router.upstream import HttpLimits, HttpPool, open_http_pool

if TYPE_CHECKING:
    from services.router.providers.triton.grpc import GrpcTransport

AnyTransport: TypeAlias = "HttpTransport | GrpcTransport"


class Ways(NamedTuple):
    """The ways to a model at its servers, and those to the queues there, by address."""

    models: "Mapping[str, AnyTransport]"
    queues: Mapping[str, QueueReader]


@asynccontextmanager
async def open_ways(config: TritonConfig, http_pool: HttpPool | None) -> AsyncIterator[Ways]:
    """Open the ways to a model at all of its servers; nothing is asked of them.

    Args:
        config: Where the model is.
        http_pool: Connections to share; its own when absent.
    """
    addresses = config.servers or (TritonAddress(config.grpc_address, config.http_address),)
    async with AsyncExitStack() as stack:
        if http_pool is None and any(address.metrics for address in addresses):
            limits = HttpLimits(connections_max=config.connections_max, connect_s=config.connect_s)
            http_pool = await stack.enter_async_context(open_http_pool(limits))
        models: dict[str, AnyTransport] = {}
        queues: dict[str, QueueReader] = {}
        for address in addresses:
            one = replace(config, grpc_address=address.grpc, http_address=address.http)
            name = address.http if config.transport == "http" else address.grpc
            models[name] = await stack.enter_async_context(_open_transport(one, http_pool))
            if address.metrics and http_pool is not None:
                queues[name] = MetricsReader(address.metrics, config.model_name, http_pool)
        yield Ways(models, queues)


@asynccontextmanager
async def _open_transport(
    config: TritonConfig, http_pool: HttpPool | None
) -> "AsyncIterator[AnyTransport]":
    if config.transport == "http":
        async with open_http_transport(config, http_pool) as transport:
            yield transport
    else:
        # Loaded on first use: the client library brings numpy along, 16 MiB of it.
        from services.router.providers.triton.grpc import open_grpc_transport  # noqa: PLC0415

        async with open_grpc_transport(config) as grpc_transport:
            yield grpc_transport
