"""Opens the gateway; `gateway/routes/table.py` is the map of what it serves."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from gateway.admission import Admission, Shares
from gateway.bodies import LongBodies
from gateway.deps import Deps
from gateway.leases import CreditLeases
from gateway.machine.rail import MachineRail, Shop
from gateway.machine.rates import RateGrants
from gateway.metrics import GatewayMetrics
from gateway.models import Models
from gateway.openai.dialect import PathDialects
from gateway.pushes import Pushes
from gateway.rates import RateGranter, Rates
from gateway.readiness import Readiness
from gateway.routes.table import routes_of
from gateway.running import RunningRequests
from gateway.server import HttpServer, start_server
from gateway.settings import GatewaySettings
from gateway.site import Site
from gateway.slots import Slots
from gateway.verdicts import Verdicts
from kit.bus.port import Bus
from kit.clock import Clock
from kit.ids import Uuid7Source
from kit.logs import AccessLog
from kit.metrics import Reading
from kit.tasks import TaskPool, background
from kit.tracing import Tracing
from turnpike.auth.v1 import auth_pb2_grpc
from turnpike.metering.v1 import metering_pb2_grpc
from turnpike.payment.v1 import (
    billing_pb2_grpc,
    caps_pb2_grpc,
    machine_pb2_grpc,
    payment_pb2_grpc,
    receipts_pb2_grpc,
)
from turnpike.router.v1 import router_pb2_grpc

if TYPE_CHECKING:
    from kit.rpc.server import Server

_DRAIN_S = 25.0
_TASKS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Peers:
    """The rooms the gateway calls."""

    auth: "auth_pb2_grpc.AuthServiceAsyncStub"
    router: "router_pb2_grpc.RouterServiceAsyncStub"
    payment: "payment_pb2_grpc.PaymentServiceAsyncStub"
    receipts: "receipts_pb2_grpc.ReceiptServiceAsyncStub"
    caps: "caps_pb2_grpc.CapsServiceAsyncStub"
    metering: "metering_pb2_grpc.MeteringServiceAsyncStub"
    billing: "billing_pb2_grpc.BillingServiceAsyncStub"
    machine: "machine_pb2_grpc.MachinePaymentServiceAsyncStub"


@dataclass(frozen=True, slots=True)
class Process:
    """What the gateway shares with the rest of its process.

    `grpc_keys` has the API key that a client certificate stands for, by its name.
    """

    registry: CollectorRegistry
    access_log: AccessLog
    is_ready: Callable[[], bool]
    tracing: Tracing = field(default_factory=Tracing)
    grpc_keys: Mapping[str, SecretStr] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that listens; `grpc_port` is 0 when gRPC is off."""

    port: int
    grpc_port: int
    readiness: Readiness
    deps: Deps


@asynccontextmanager
async def open_gateway(
    settings: GatewaySettings, *, peers: Peers, bus: Bus, clock: Clock, process: Process
) -> AsyncIterator[Gateway]:
    """Open the gateway; on exit it refuses new requests, drains, and returns its leases."""
    tasks = TaskPool(tasks_max=_TASKS_MAX)
    verdicts = Verdicts(auth=peers.auth, settings=settings, clock=clock)
    models = Models(router=peers.router, settings=settings)
    running = _running(settings, clock, process.registry)
    shares = _shares(settings, peers, clock, tasks, running)
    admission = Admission(
        settings=settings, verdicts=verdicts, models=models, shares=shares, clock=clock
    )
    shop = Shop(models, admission, peers.router, clock, tasks, process.registry)
    deps = Deps(
        settings=settings,
        admission=admission,
        models=models,
        running=running,
        long_bodies=LongBodies(bytes_max=settings.long_bodies_bytes_max),
        router=peers.router,
        receipts=peers.receipts,
        payment=peers.payment,
        caps=peers.caps,
        metering=peers.metering,
        billing=peers.billing,
        readiness=Readiness(models=models, process=process.is_ready),
        metrics=GatewayMetrics(process.registry),
        registry=process.registry,
        access_log=process.access_log,
        tracing=process.tracing,
        dialects=PathDialects(settings.path_dialects),
        clock=clock,
        ids=Uuid7Source(),
        log=structlog.get_logger("gateway"),
        rail=_rail(settings, peers, shop),
    )
    pushes = Pushes(bus, verdicts, models, shares, running)
    await models.refresh()
    async with AsyncExitStack() as stack:
        for name, loop in pushes.loops(settings).items():
            await stack.enter_async_context(background(loop, name=f"gateway-{name}"))
        doors = await stack.enter_async_context(AsyncExitStack())
        rpc = await _listen_grpc(doors, deps, process) if settings.grpc_is_enabled else None
        server = await _listen(settings, deps)
        try:
            yield Gateway(server.port, rpc.port if rpc else 0, deps.readiness, deps)
        finally:
            deps.readiness.is_stopping = True
            server.leave()
            if rpc is not None:
                await rpc.set_serving(is_serving=False)
            await running.drained(wait_s=_DRAIN_S)
            await server.close()
            await doors.aclose()
            await shares.leases.close()
            await shares.slots.close()
            await tasks.close(wait_s=settings.rpc_timeout_s)


def _shares(
    settings: GatewaySettings,
    peers: Peers,
    clock: Clock,
    tasks: TaskPool,
    running: RunningRequests,
) -> Shares:
    """Return what requests draw from, under one name for this gateway."""
    holder_id = Uuid7Source().new(clock.unix_ms())
    grants: RateGranter = peers.auth
    if settings.machine_payments.is_enabled:
        grants = RateGrants(auth=grants, settings=settings.machine_payments, clock=clock)
    return Shares(
        rates=Rates(auth=grants, settings=settings, clock=clock, holder_id=holder_id),
        slots=Slots(auth=peers.auth, settings=settings, clock=clock, end_key=running.end_key),
        leases=CreditLeases(
            payment=peers.payment, settings=settings, clock=clock, holder_id=holder_id, tasks=tasks
        ),
    )


def _rail(settings: GatewaySettings, peers: Peers, shop: Shop) -> MachineRail | None:
    if not settings.machine_payments.is_enabled:
        return None
    return MachineRail(machine=peers.machine, settings=settings, shop=shop)


def _running(
    settings: GatewaySettings, clock: Clock, registry: CollectorRegistry
) -> RunningRequests:
    """Return what counts requests that run, shown by the registry."""
    running = RunningRequests(
        clock=clock,
        requests_max=settings.requests_max,
        write_timeout_s=settings.write_timeout_s,
    )
    Reading(
        registry,
        "turnpike_gateway_running_requests",
        "Requests that run now.",
        lambda: {(): running.count},
    )
    return running


async def _listen(settings: GatewaySettings, deps: Deps) -> HttpServer:
    site = Site(deps, routes_of(settings))
    return await start_server(site.handle, settings, refuse=site.refuse)


async def _listen_grpc(doors: AsyncExitStack, deps: Deps, process: Process) -> "Server":
    from gateway.grpc import open_grpc  # noqa: PLC0415 - gRPC's server loads where it is on

    return await doors.enter_async_context(open_grpc(deps, process.grpc_keys))
