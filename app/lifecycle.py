"""The life of a process: start in order, say that it is ready, drain, and end in reverse."""

import asyncio
import os
import shutil
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog
import uvloop
from prometheus_client import CollectorRegistry, ProcessCollector

from app.admin import AdminPort, open_admin
from app.admin_client import BESIDE, SERVICES
from app.bounded import Bounded, Ending, only_one
from app.children import Nursery
from app.databases import open_room_database, room_databases
from app.embedded import CHECKOUT, Embedded, open_embedded
from app.embedded_triton import HOST as TRITON_HOST
from app.first_run import Note, Stubs, greet
from app.kept_secrets import fill_secrets
from app.links import Links
from app.memory import bound_arenas, settle_memory
from app.modules import MODULES, TARGETS, Opened, Parts, Register
from app.readings import watch_access_log, watch_bus
from app.settings import Loaded, Settings
from app.settings_layers import environment
from kit.bus.nats import NatsBus, open_nats_bus
from kit.clock import SystemClock
from kit.logs import AccessLog, configure_logs
from kit.redaction import Redactor
from kit.rpc.local import HandlerTable
from kit.rpc.transcode import Transcoder
from kit.telemetry import Telemetry
from kit.tracing import open_tracing
from services.router.defaults import LocalTriton, default_catalogue
from services.router.room import CatalogueSource
from turnpike.auth.v1.auth_pb2_grpc import AuthServiceStub
from turnpike.payment.v1.payment_pb2_grpc import PaymentServiceStub
from turnpike.router.v1.router_pb2_grpc import RouterServiceStub

EVERYTHING: Final = "all"
GATEWAY: Final = "gateway"
_OWNER_ONLY: Final = 0o077
_TOKENIZER: Final = "examples/triton/models/tiny-chat/1/tokenizer_config.json"
_EVERY_INTERFACE: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - shown, not bound
_log = structlog.get_logger("app.lifecycle")
T = TypeVar("T")


def run(loaded: Loaded, target: str) -> int:
    """Run `target` until it is asked to end, and return the exit code.

    Raises:
        StartError: It cannot start.
    """
    os.umask(_OWNER_ONLY)
    bound_arenas()
    settings = fill_secrets(loaded.settings, target=target)
    _configure_logs(settings)
    run_dir = settings.state_dir / "run" / target
    with only_one(run_dir / "lock"), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(replace(loaded, settings=settings), target, run_dir))
    return 0


def _configure_logs(settings: Settings) -> None:
    redactor = Redactor()
    shared = (settings.admin.token, settings.peers.token, settings.auth.pepper)
    mpp, stripe = settings.payment.mpp, settings.payment.stripe
    paid = (*mpp.secrets, mpp.chain.payee_key, mpp.chain.rpc_authorization)
    billed = (stripe.api_key, stripe.webhook_secret, stripe.webhook_secret_previous)
    proved = settings.payment.proof.signing_key
    for secret in (*shared, *settings.router.byok_keys.values(), *paid, *billed, proved):
        redactor.register(secret.get_secret_value())
    for key in settings.router.turn_state_keys.get_secret_value().split(","):
        redactor.register(key.strip())
    configure_logs(level=settings.telemetry.log_level, stream=sys.stderr, redactor=redactor)


async def _serve(loaded: Loaded, target: str, run_dir: Path) -> None:
    nursery = Nursery(run_dir, loaded.settings.state_dir / "logs")
    ending = Ending(kill=nursery.kill_all)
    with ending.listening():
        try:
            async with AsyncExitStack() as stack:
                process = Process(loaded, target=target, nursery=nursery, stack=stack)
                await process.start()
                await ending.wait()
                process.is_ready = False
                _log.info("process_stopping", target=target)
                await asyncio.sleep(loaded.settings.lifecycle.leave_s)
        except asyncio.CancelledError:
            if not ending.is_asked:
                raise
    _log.info("process_stopped", target=target)


def _shown(host: str, port: int) -> str:
    return f"{_EVERY_INTERFACE.get(host, host)}:{port}"


def _command() -> str:
    """Return how to call the command line from here."""
    if shutil.which("turnpike"):
        return "turnpike"
    return os.path.relpath(Path(sys.executable).parent / "turnpike")


class Process:
    """What runs in this process; `stack` ends it, in the opposite order of its start.

    Args:
        loaded: Settings with every secret filled in.
        target: A key of `TARGETS`.
        nursery: Starts children.
        stack: Owns everything that is opened.
    """

    def __init__(
        self, loaded: Loaded, *, target: str, nursery: Nursery, stack: AsyncExitStack
    ) -> None:
        self._loaded = loaded
        self._settings: Settings = loaded.settings
        self._target = target
        self._nursery = nursery
        self._stack = stack
        self._clock = SystemClock()
        self._registry = CollectorRegistry()
        self._links = Links(self._settings.peers, stack)
        self._gateway: Opened | None = None
        self.is_ready = False

    async def start(self) -> None:
        """Open everything; afterwards the process is ready and has told its owner so."""
        ProcessCollector(registry=self._registry)
        if swept := await self._nursery.sweep():
            _log.warning("leftovers_removed", children=swept)
        embedded = await self._embedded()
        parts = await self._parts(embedded)
        names = TARGETS[self._target]
        services = {
            name: await self._open_service(name, parts) for name in names if name != GATEWAY
        }
        admin = await self._admin()
        if GATEWAY in names:
            self._gateway = await self._open_module(GATEWAY, parts)
        else:
            await self._listen(self._target, services[self._target])
        self.is_ready = True
        settle_memory()
        if self._gateway is not None and self._target == EVERYTHING:
            await self._greet(self._gateway, admin, embedded)
        _log.info("process_ready", target=self._target, admin_port=admin.port)

    def _says_ready(self) -> bool:
        return self.is_ready and (self._gateway is None or self._gateway.is_ready())

    async def _open(
        self, part: AbstractAsyncContextManager[T], name: str, *, start_s: float | None = None
    ) -> T:
        limits = self._settings.lifecycle
        bounded = Bounded(
            part, name=name, start_s=start_s or limits.start_s, close_s=limits.drain_s
        )
        return await self._stack.enter_async_context(bounded)

    async def _open_module(self, name: str, parts: Parts) -> Opened:
        module = MODULES[name]
        channels = {callee: await self._links.channel(callee) for callee in module.calls}
        return await self._open(module.open(parts, channels), name)

    async def _open_service(self, name: str, parts: Parts) -> Register:
        register = (await self._open_module(name, parts)).register
        table = HandlerTable()
        register(table)
        self._links.add(name, table)
        return register

    async def _listen(self, name: str, register: Register) -> None:
        from kit.rpc.server import Terms, open_server  # noqa: PLC0415 - no use where all is one process

        peers = self._settings.peers
        part = open_server(
            getattr(peers, name),
            register=register,
            services=[MODULES[name].service, *MODULES[name].beside],
            terms=Terms.for_services(peers.token.get_secret_value()),
        )
        await self._open(part, f"server of {name}")

    async def _embedded(self) -> Embedded:
        settings = self._settings
        part = open_embedded(
            settings, target=self._target, nursery=self._nursery, clock=self._clock
        )
        wait_s = settings.nats.ready_s + settings.triton.ready_s + settings.triton.install_s
        return await self._open(part, "embedded servers", start_s=wait_s)

    async def _parts(self, embedded: Embedded) -> Parts:
        telemetry = await self._telemetry()
        bus = await self._bus()
        there = room_databases(self._settings)
        rooms = [
            name
            for name in TARGETS[self._target]
            if "database" in MODULES[name].needs and name in there
        ]
        databases = {
            room: await self._open(open_room_database(self._settings, room), f"{room} database")
            for room in rooms
        }
        return Parts(
            settings=self._settings,
            bus=bus,
            clock=self._clock,
            telemetry=telemetry,
            access_log=self._access_log(),
            catalogue=self._catalogue(embedded),
            databases=databases,
            variables=environment(),
            is_ready=lambda: self.is_ready,
        )

    async def _telemetry(self) -> Telemetry:
        tracing = open_tracing(self._settings.telemetry, service_name=f"turnpike-{self._target}")
        return Telemetry(self._registry, await self._open(tracing, "tracing"))

    async def _bus(self) -> NatsBus:
        nats = self._settings.nats
        part = open_nats_bus(
            nats.address(), name=f"turnpike-{self._target}", user_credentials=nats.credentials
        )
        bus = await self._open(part, "bus")
        watch_bus(self._registry, bus)
        return bus

    def _access_log(self) -> AccessLog:
        later = asyncio.get_running_loop().call_later
        access_log = AccessLog(partial(os.write, sys.stderr.fileno()), later=later)
        self._stack.callback(access_log.flush)
        watch_access_log(self._registry, access_log)
        return access_log

    def _catalogue(self, embedded: Embedded) -> CatalogueSource:
        variables = environment()
        triton = self._settings.triton
        local = LocalTriton(
            grpc_address=f"{TRITON_HOST}:{triton.grpc_port}",
            http_address=f"{TRITON_HOST}:{triton.http_port}",
            tokenizer_config=CHECKOUT / _TOKENIZER,
        )
        default = default_catalogue(variables, local if embedded.has_triton else None)
        return CatalogueSource(self._loaded.config_path, default, variables)

    async def _admin(self) -> AdminPort:
        channels = {SERVICES[name]: await self._links.channel(name) for name in SERVICES}
        channels |= {name: await self._links.channel(room) for room, name in BESIDE.values()}
        settings = self._settings.admin
        part = open_admin(
            settings,
            port=settings.port_for(self._target),
            transcoder=Transcoder(channels),
            registry=self._registry,
            readiness=self._says_ready,
        )
        return await self._open(part, "admin port")

    async def _greet(self, gateway: Opened, admin: AdminPort, embedded: Embedded) -> None:
        listens = self._settings.gateway
        note = Note(
            base_url=f"http://{_shown(listens.host, gateway.port)}/v1",
            grpc_address=_shown(listens.grpc_host, gateway.grpc_port) if gateway.grpc_port else "",
            api_key="",
            admin_address=_shown(admin.host, admin.port),
            admin_token=self._settings.admin.token.get_secret_value(),
        )
        stubs = Stubs(
            auth=AuthServiceStub(await self._links.channel("auth")),
            payment=PaymentServiceStub(await self._links.channel("payment")),
            router=RouterServiceStub(await self._links.channel("router")),
        )
        greeting = await greet(
            stubs,
            state_dir=self._settings.state_dir,
            note=note,
            settings=self._settings.first_run,
            clock=self._clock,
        )
        greeting = replace(greeting, triton_missing=embedded.triton_missing, command=_command())
        sys.stdout.write(greeting.text() + "\n")
        sys.stdout.flush()
