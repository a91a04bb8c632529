"""Opens the gateway; `routes_of` is the map of what it serves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from gateway.admission import Admission, Shares
from gateway.bodies import LongBodies
from gateway.deps import Deps
from gateway.leases import RECALL_SUBJECT, CreditLeases
from gateway.metrics import GatewayMetrics
from gateway.models import CATALOGUE_SUBJECT, Models
from gateway.openai.dialect import PathDialects
from gateway.rates import Rates
from gateway.readiness import Readiness
from gateway.routes.chat import create_chat_completion
from gateway.routes.completions import create_completion
from gateway.routes.docs import llms, openapi, reference
from gateway.routes.embeddings import create_embeddings
from gateway.routes.health import livez, metrics, readyz
from gateway.routes.media import create_image, create_speech, create_transcription
from gateway.routes.messages import count_message_tokens, create_message
from gateway.routes.models import get_model, list_models
from gateway.routes.responses import create_response
from gateway.running import RunningRequests
from gateway.server import HttpServer, start_server
from gateway.settings import GatewaySettings
from gateway.site import Handler, Routes, Site
from gateway.slots import SLOT_RECALL_SUBJECT, Slots
from gateway.verdicts import HEARTBEAT_SUBJECT, KEY_CHANGED_SUBJECT, Verdicts
from kit.bus.port import Bus
from kit.clock import Clock
from kit.ids import Uuid7Source
from kit.logs import AccessLog
from kit.metrics import Reading
from kit.tasks import TaskPool, background
from kit.tracing import Tracing
from turnpike.auth.v1 import auth_pb2_grpc
from turnpike.events.v1 import events_pb2
from turnpike.payment.v1 import payment_pb2_grpc
from turnpike.router.v1 import router_pb2_grpc

if TYPE_CHECKING:
    from kit.rpc.server import Server

_SWEEP_S = 1.0
_RENEW_S = 0.25
_DRAIN_S = 25.0
_TASKS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Peers:
    """The rooms the gateway calls."""

    auth: "auth_pb2_grpc.AuthServiceAsyncStub"
    router: "router_pb2_grpc.RouterServiceAsyncStub"
    payment: "payment_pb2_grpc.PaymentServiceAsyncStub"


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


def routes_of(settings: GatewaySettings) -> Routes:
    """Return every route; a path prefix selects a dialect."""
    routes: list[tuple[str, str, Handler]] = [
        ("GET", "/livez", livez),
        ("GET", "/readyz", readyz),
        ("GET", "/metrics", metrics),
        ("GET", "/openapi.json", openapi),
        ("GET", "/docs", reference),
        ("GET", "/llms.txt", llms),
    ]
    for prefix in settings.path_dialects:
        for end in ("", "/"):
            routes.append(("POST", f"{prefix}/chat/completions{end}", create_chat_completion))
            routes.append(("POST", f"{prefix}/responses{end}", create_response))
            routes.append(("POST", f"{prefix}/completions{end}", create_completion))
            routes.append(("POST", f"{prefix}/embeddings{end}", create_embeddings))
            routes.append(("POST", f"{prefix}/images/generations{end}", create_image))
            routes.append(("POST", f"{prefix}/audio/speech{end}", create_speech))
            routes.append(("POST", f"{prefix}/audio/transcriptions{end}", create_transcription))
            routes.append(("GET", f"{prefix}/models{end}", list_models))
            routes.append(("POST", f"{prefix}/messages{end}", create_message))
            routes.append(("POST", f"{prefix}/messages/count_tokens{end}", count_message_tokens))
        routes.append(("GET", f"{prefix}/models/*", get_model))
    return Routes(routes)


@asynccontextmanager
async def open_gateway(
    settings: GatewaySettings, *, peers: Peers, bus: Bus, clock: Clock, process: Process
) -> AsyncIterator[Gateway]:
    """Open the gateway; on exit it refuses new requests, drains, and returns its leases."""
    holder_id = Uuid7Source().new(clock.unix_ms())
    tasks = TaskPool(tasks_max=_TASKS_MAX)
    verdicts = Verdicts(auth=peers.auth, settings=settings, clock=clock)
    models = Models(router=peers.router, settings=settings)
    rates = Rates(auth=peers.auth, settings=settings, clock=clock, holder_id=holder_id)
    leases = CreditLeases(
        payment=peers.payment, settings=settings, clock=clock, holder_id=holder_id, tasks=tasks
    )
    running = RunningRequests(
        clock=clock,
        requests_max=settings.requests_max,
        write_timeout_s=settings.write_timeout_s,
    )
    slots = Slots(auth=peers.auth, settings=settings, clock=clock, end_key=running.end_key)
    deps = Deps(
        settings=settings,
        admission=Admission(
            settings=settings,
            verdicts=verdicts,
            models=models,
            shares=Shares(rates, slots, leases),
            clock=clock,
        ),
        models=models,
        running=running,
        long_bodies=LongBodies(bytes_max=settings.long_bodies_bytes_max),
        router=peers.router,
        readiness=Readiness(models=models, process=process.is_ready),
        metrics=GatewayMetrics(process.registry),
        registry=process.registry,
        access_log=process.access_log,
        tracing=process.tracing,
        dialects=PathDialects(settings.path_dialects),
        clock=clock,
        ids=Uuid7Source(),
        log=structlog.get_logger("gateway"),
    )
    _show_running(process.registry, running)
    pushes = _Pushes(bus, verdicts, models, leases, slots, running)
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
            await leases.close()
            await slots.close()
            await tasks.close(wait_s=settings.rpc_timeout_s)


@dataclass(frozen=True, slots=True)
class _Pushes:
    """What other rooms push, and the gateway's own periodic work."""

    bus: Bus
    verdicts: Verdicts
    models: Models
    leases: CreditLeases
    slots: Slots
    running: RunningRequests

    def loops(
        self, settings: GatewaySettings
    ) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        return {
            "keys": self._keys,
            "heartbeats": self._heartbeats,
            "recalls": self._recalls,
            "slot-recalls": self._slot_recalls,
            "catalogue": self._catalogue,
            "models": lambda: self._models(settings.models_ttl_s),
            "leases": lambda: self.leases.tend(_SWEEP_S),
            "slots": lambda: self.slots.tend(_SWEEP_S),
            "holder": lambda: self.slots.live(_RENEW_S),
            "sweep": lambda: self.running.sweep(_SWEEP_S),
        }

    async def _keys(self) -> None:
        async with self.bus.subscribe(KEY_CHANGED_SUBJECT) as messages:
            async for data in messages:
                change = events_pb2.KeyChanged.FromString(data)
                self.verdicts.forget(change)
                if change.is_revoked:
                    self.running.end_key(change.key_id)

    async def _heartbeats(self) -> None:
        async with self.bus.subscribe(HEARTBEAT_SUBJECT) as messages:
            async for _ in messages:
                self.verdicts.heard_heartbeat()

    async def _recalls(self) -> None:
        async with self.bus.subscribe(RECALL_SUBJECT) as messages:
            async for data in messages:
                recall = events_pb2.LeaseRecall.FromString(data)
                await self.leases.recall(recall.account_id)

    async def _slot_recalls(self) -> None:
        async with self.bus.subscribe(SLOT_RECALL_SUBJECT) as messages:
            async for data in messages:
                await self.slots.recall(events_pb2.SlotRecall.FromString(data).key_id)

    async def _catalogue(self) -> None:
        async with self.bus.subscribe(CATALOGUE_SUBJECT) as messages:
            async for _ in messages:
                await self.models.refresh()

    async def _models(self, ttl_s: float) -> None:
        while True:
            await asyncio.sleep(ttl_s if self.models.is_loaded else 0.2)
            await self.models.refresh()


def _show_running(registry: CollectorRegistry, running: RunningRequests) -> None:
    Reading(
        registry,
        "turnpike_gateway_running_requests",
        "Requests that run now.",
        lambda: {(): running.count},
    )


async def _listen(settings: GatewaySettings, deps: Deps) -> HttpServer:
    site = Site(deps, routes_of(settings))
    return await start_server(site.handle, settings, refuse=site.refuse)


async def _listen_grpc(doors: AsyncExitStack, deps: Deps, process: Process) -> "Server":
    from gateway.grpc import open_grpc  # noqa: PLC0415 - gRPC's server loads where it is on

    return await doors.enter_async_context(open_grpc(deps, process.grpc_keys))
