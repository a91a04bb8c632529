"""The table of what Turnpike consists of: each module, what it needs, whom it calls, and targets.

A module that is a service is put into a handler table; whether its callers reach it there or over
the network is decided in `app.links` and known to nobody else.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from grpc import aio
from pydantic import SecretStr

from app.admin_client import BESIDE, SERVICES
from app.errors import StartError
from app.settings import Settings
from gateway.app import Peers, Process, open_gateway
from gateway.settings import GatewaySettings
from kit.bus.port import Bus
from kit.clock import Clock
from kit.db import Database
from kit.logs import AccessLog
from kit.references import resolve
from kit.telemetry import Telemetry
from services.auth.room import open_auth
from services.metering.room import open_metering
from services.payment.room import open_payment
from services.router.room import CatalogueSource, Kept, open_router
from turnpike.auth.v1.auth_pb2_grpc import AuthServiceStub, add_AuthServiceServicer_to_server
from turnpike.metering.v1.metering_pb2_grpc import (
    MeteringServiceStub,
    add_MeteringServiceServicer_to_server,
)
from turnpike.payment.v1.billing_pb2_grpc import BillingServiceStub
from turnpike.payment.v1.caps_pb2_grpc import CapsServiceStub
from turnpike.payment.v1.machine_pb2_grpc import MachinePaymentServiceStub
from turnpike.payment.v1.payment_pb2_grpc import PaymentServiceStub
from turnpike.payment.v1.receipts_pb2_grpc import ReceiptServiceStub
from turnpike.router.v1.provider_keys_pb2_grpc import (
    add_ProviderKeysServiceServicer_to_server,
)
from turnpike.router.v1.router_pb2_grpc import (
    RouterServiceStub,
    add_RouterServiceServicer_to_server,
)

Need = Literal["database"]
Channels = Mapping[str, aio.Channel]
Register = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a process has one of and every module may use.

    `databases` holds those asked for, but for one whose URL is empty.

    `variables` are what settings may refer to as `${NAME}`.
    """

    settings: Settings
    bus: Bus
    clock: Clock
    telemetry: Telemetry
    access_log: AccessLog
    catalogue: CatalogueSource
    databases: Mapping[str, Database]
    variables: Mapping[str, str]
    is_ready: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Opened:
    """A module that runs: how it registers with a server, where it listens, whether it is ready.

    A port of 0 is not served.
    """

    register: Register = lambda _server: None
    port: int = 0
    grpc_port: int = 0
    is_ready: Callable[[], bool] = lambda: True


Opener = Callable[[Parts, Channels], AbstractAsyncContextManager[Opened]]


@dataclass(frozen=True, slots=True)
class Module:
    """One row of the table; `service` is empty for what is no gRPC service.

    `beside` are further services that it serves.
    """

    open: Opener
    service: str = ""
    beside: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    calls: tuple[str, ...] = ()


@asynccontextmanager
async def _open_auth(parts: Parts, _channels: Channels) -> AsyncIterator[Opened]:
    async with open_auth(
        parts.settings.auth, database=parts.databases["auth"], bus=parts.bus, clock=parts.clock
    ) as servicer:
        yield Opened(partial(add_AuthServiceServicer_to_server, servicer))


@asynccontextmanager
async def _open_metering(parts: Parts, _channels: Channels) -> AsyncIterator[Opened]:
    async with open_metering(
        parts.settings.metering,
        database=parts.databases["metering"],
        bus=parts.bus,
        clock=parts.clock,
        telemetry=parts.telemetry,
    ) as servicer:
        yield Opened(partial(add_MeteringServiceServicer_to_server, servicer))


@asynccontextmanager
async def _open_payment(parts: Parts, channels: Channels) -> AsyncIterator[Opened]:
    async with open_payment(
        parts.settings.payment,
        database=parts.databases["payment"],
        bus=parts.bus,
        clock=parts.clock,
        metering=MeteringServiceStub(channels["metering"]),
        telemetry=parts.telemetry,
    ) as served:
        yield Opened(served.register)


@asynccontextmanager
async def _open_router(parts: Parts, _channels: Channels) -> AsyncIterator[Opened]:
    async with open_router(
        parts.settings.router,
        source=parts.catalogue,
        kept=Kept(parts.settings.state_dir, parts.databases.get("router")),
        bus=parts.bus,
        clock=parts.clock,
        telemetry=parts.telemetry,
    ) as served:

        def register(server: Any) -> None:  # noqa: ANN401 - a server, or what stands for one
            add_RouterServiceServicer_to_server(served.router, server)
            add_ProviderKeysServiceServicer_to_server(served.provider_keys, server)

        yield Opened(register)


@asynccontextmanager
async def _open_gateway(parts: Parts, channels: Channels) -> AsyncIterator[Opened]:
    peers = Peers(
        auth=AuthServiceStub(channels["auth"]),
        router=RouterServiceStub(channels["router"]),
        payment=PaymentServiceStub(channels["payment"]),
        receipts=ReceiptServiceStub(channels["payment"]),
        caps=CapsServiceStub(channels["payment"]),
        metering=MeteringServiceStub(channels["metering"]),
        billing=BillingServiceStub(channels["payment"]),
        machine=MachinePaymentServiceStub(channels["payment"]),
    )
    process = Process(
        registry=parts.telemetry.registry,
        access_log=parts.access_log,
        is_ready=parts.is_ready,
        tracing=parts.telemetry.tracing,
        grpc_keys=certificate_keys(parts.settings.gateway, parts.variables),
    )
    async with open_gateway(
        parts.settings.gateway,
        peers=peers,
        bus=parts.bus,
        clock=parts.clock,
        process=process,
    ) as gateway:
        yield Opened(
            port=gateway.port,
            grpc_port=gateway.grpc_port,
            is_ready=lambda: not gateway.readiness.missing(),
        )


def certificate_keys(
    settings: GatewaySettings, variables: Mapping[str, str]
) -> dict[str, SecretStr]:
    """Return the API keys that client certificates stand for, by the names in these.

    Raises:
        StartError: A variable is not set, or a file cannot be read.
    """
    keys = {}
    for name, reference in settings.grpc_identities.items():
        try:
            keys[name] = SecretStr(resolve(reference, variables))
        except (KeyError, OSError) as error:
            raise StartError(
                f"gateway.grpc_identities: {name}: {reference} is not there."
            ) from error
    return keys


def beside(room: str) -> tuple[str, ...]:
    """Return the further services that a room serves."""
    return tuple(service for served_by, service in BESIDE.values() if served_by == room)


MODULES: Final[Mapping[str, Module]] = {
    "auth": Module(_open_auth, SERVICES["auth"], needs=("database",)),
    "metering": Module(_open_metering, SERVICES["metering"], needs=("database",)),
    "payment": Module(
        _open_payment,
        SERVICES["payment"],
        beside=beside("payment"),
        needs=("database",),
        calls=("metering",),
    ),
    "router": Module(
        _open_router,
        SERVICES["router"],
        beside=beside("router"),
        needs=("database",),
    ),
    "gateway": Module(_open_gateway, calls=("auth", "router", "metering", "payment")),
}
"""In the order in which they start; they end in the opposite order."""

TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "all": tuple(MODULES),
    **{name: (name,) for name in MODULES},
}
"""What one process runs."""
