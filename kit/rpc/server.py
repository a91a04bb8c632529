"""A gRPC server for one process: its services, their health, and reflection."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kit.rpc.interceptors import ErrorInterceptor, IdentityInterceptor
from kit.rpc.limits import MESSAGE_BYTES_MAX

CALLS_MAX = 10_000
"""Calls a server runs at once; more are refused with RESOURCE_EXHAUSTED."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens."""

    port: int
    services: Sequence[str]
    health: health.aio.HealthServicer

    async def set_serving(self, *, is_serving: bool) -> None:
        """Tell health checks whether to send calls here."""
        for name in ("", *self.services):
            await self.health.set(name, _SERVING if is_serving else _NOT_SERVING)


@asynccontextmanager
async def open_server(
    address: str,
    *,
    register: Callable[[aio.Server], None],
    services: Sequence[str],
    token: str,
    grace_s: float = 10.0,
) -> AsyncIterator[Server]:
    """Serve on `host:port`; on exit health turns off and running calls get `grace_s`.

    Args:
        address: Where to listen; port 0 takes a free one.
        register: Adds the servicers.
        services: Their full names, for health and reflection.
        token: What callers must show.
        grace_s: Seconds for running calls at the end.

    Raises:
        OSError: The address cannot be listened on.
    """
    server = aio.server(
        interceptors=[IdentityInterceptor(token), ErrorInterceptor()],
        options=[
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ],
        maximum_concurrent_rpcs=CALLS_MAX,
    )
    register(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        (*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"{address} cannot be listened on.") from error
    running = Server(port, tuple(services), checks)
    await running.set_serving(is_serving=True)
    await server.start()
    try:
        yield running
    finally:
        await checks.enter_graceful_shutdown()
        await server.stop(grace_s)
