"""A gRPC server for one process: its services, their health, and reflection."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kit.rpc.interceptors import ErrorInterceptor, IdentityInterceptor
from kit.rpc.limits import MESSAGE_BYTES_MAX

CALLS_MAX: Final = 10_000
"""Calls a server runs at once; more are refused with RESOURCE_EXHAUSTED."""
PING_INTERVAL_MIN_S: Final = 5
"""Clients that ping more often than this are sent away."""

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


@dataclass(frozen=True, slots=True)
class Terms:
    """Whom a server lets in, how, and how much of them.

    Attributes:
        guards: What looks at a call before its servicer does.
        credentials: Its certificate; None serves plain text.
        calls_max: Calls at once.
        request_bytes_max: Longest request.
        options: More of gRPC's channel arguments.
    """

    guards: tuple[aio.ServerInterceptor, ...] = ()
    credentials: grpc.ServerCredentials | None = None
    calls_max: int = CALLS_MAX
    request_bytes_max: int = MESSAGE_BYTES_MAX
    options: tuple[tuple[str, int], ...] = ()

    @classmethod
    def for_services(cls, token: str) -> "Terms":
        """Return the terms among Turnpike's own services: who shows the token comes in."""
        return cls(guards=(IdentityInterceptor(token),))


@asynccontextmanager
async def open_server(
    address: str,
    *,
    register: Callable[[aio.Server], None],
    services: Sequence[str],
    terms: Terms,
    grace_s: float = 10.0,
) -> AsyncIterator[Server]:
    """Serve on `host:port`; on exit health turns off and running calls get `grace_s`.

    Args:
        address: Where to listen; port 0 takes a free one.
        register: Adds the servicers.
        services: Their full names, for health and reflection.
        terms: Whom it lets in, and its limits.
        grace_s: Seconds for running calls at the end.

    Raises:
        OSError: The address cannot be listened on.
    """
    server = aio.server(
        interceptors=[*terms.guards, ErrorInterceptor()],
        options=[
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_receive_message_length", terms.request_bytes_max),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 1000 * PING_INTERVAL_MIN_S),
            *terms.options,
        ],
        maximum_concurrent_rpcs=terms.calls_max,
    )
    register(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        (*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        if terms.credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, terms.credentials)
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
