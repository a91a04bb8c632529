"""Opens the router: catalogue, upstreams, journal, publisher and servicer."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from kit.bus.port import BucketSpec, Bus
from kit.clock import Clock
from kit.db import Database
from kit.ids import Uuid7Source
from kit.journal import Journal, open_journal
from kit.journal_files import adopt_orphans
from kit.sealed import new_key, ring_of
from kit.tasks import background
from kit.telemetry import Telemetry
from services.router.adapters import Parts, opener, wanted
from services.router.catalog_entries import CatalogueFile
from services.router.dispatch import Dispatcher
from services.router.fleet import Fleet, open_fleet
from services.router.metrics import watch, watch_calls
from services.router.prompt_tools import open_prompt_tools
from services.router.reload import CatalogueKeeper
from services.router.room_keys import keys_servicer, open_own_keys
from services.router.servicer import RouterServicer
from services.router.settings import CATALOGUE_SUBJECT, RouterSettings
from services.router.shared_health import SharedHealth
from services.router.turn_states import BUCKET_NAME, TurnStates
from services.router.upstream import open_http_pool
from services.router.upstream_types import HttpLimits
from services.router.usage_events import recover
from services.router.usage_log import UsageLog
from turnpike.events.v1 import events_pb2
from turnpike.router.v1.provider_keys_pb2_grpc import ProviderKeysServiceServicer

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_log = structlog.get_logger("router")


@dataclass(frozen=True, slots=True)
class CatalogueSource:
    """Where models come from: a file, what fills its references, and what stands without one."""

    path: Path | None
    default: CatalogueFile
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives the router: a folder, and a migrated database where accounts bring keys."""

    state_dir: Path
    database: Database | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What the room answers to."""

    router: RouterServicer
    provider_keys: ProviderKeysServiceServicer


@asynccontextmanager
async def open_router(
    settings: RouterSettings,
    *,
    source: CatalogueSource,
    kept: Kept,
    bus: Bus,
    clock: Clock,
    telemetry: Telemetry | None = None,
) -> AsyncIterator[Served]:
    """Open the router; on exit usage is published, or kept on disk for the next start.

    Journals of routers that died on this machine are adopted first.

    Raises:
        YamlError: The catalogue file is bad.
        TurnpikeError: UNAVAILABLE: the database does not answer, or was never migrated.
    """
    telemetry = telemetry or Telemetry()
    router_id = Uuid7Source().new(clock.unix_ms())
    journal_dir = kept.state_dir / "journal"
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(_journal(journal_dir, settings))
        usage = UsageLog(
            router_id=router_id, journal=journal, bus=bus, clock=clock, settings=settings
        )
        pool = await stack.enter_async_context(open_http_pool(_http_limits(settings)))
        tools = await stack.enter_async_context(open_prompt_tools(settings))
        turns = _turn_states(settings, bus, clock)
        parts = Parts(settings, pool, clock, tools)
        fleet = await stack.enter_async_context(open_fleet(opener(parts), turns=turns))
        keeper = _keeper(source, fleet)
        await keeper.load()
        _adopt(journal_dir, usage, clock)
        watch(telemetry.registry, fleet=fleet, usage=usage, journal=journal)
        health, announce = SharedHealth(fleet, bus, router_id), _announcer(bus, router_id)
        opening = open_own_keys(kept.database, bus=bus, clock=clock, settings=settings)
        keys = await stack.enter_async_context(opening)
        await _run(
            stack,
            {
                "usage": usage.run,
                "turns": turns.run,
                "health-told": health.tell,
                "health-heard": health.listen,
                "fleet": lambda: fleet.tend(settings.probe_interval_s),
                "catalogue": lambda: keeper.watch(settings.reload_poll_s, announce),
            },
        )
        dispatcher = Dispatcher(
            settings=settings,
            catalogue=lambda: keeper.current,
            fleet=fleet,
            usage=usage,
            clock=clock,
            keys=None if keys is None else keys.ring,
        )
        watch_calls(telemetry.registry, dispatcher)
        try:
            yield Served(
                RouterServicer(
                    dispatcher=dispatcher,
                    catalogue=lambda: keeper.current,
                    tracing=telemetry.tracing,
                ),
                keys_servicer(keys, lambda: keeper.current),
            )
        finally:
            await _drain(usage, settings)


async def _drain(usage: UsageLog, settings: RouterSettings) -> None:
    if not await usage.drained(wait_s=settings.drain_s):
        _log.warning("usage_left_in_journal", backlog=usage.backlog_count)


def _keeper(source: CatalogueSource, fleet: Fleet) -> CatalogueKeeper:
    return CatalogueKeeper(
        path=source.path,
        default=source.default,
        variables=source.variables,
        adopt=lambda file, catalogue: fleet.adopt(wanted(file, catalogue)),
    )


def _journal(folder: Path, settings: RouterSettings) -> AbstractContextManager[Journal]:
    return open_journal(
        folder, bytes_max=settings.journal_bytes_max, is_synced=settings.journal_is_synced
    )


def _turn_states(settings: RouterSettings, bus: Bus, clock: Clock) -> TurnStates:
    """Return what is kept between turns; without a key of the owner's, for this process alone."""
    text = settings.turn_state_keys.get_secret_value()
    spec = BucketSpec(
        name=BUCKET_NAME,
        ttl_s=settings.turn_state_ttl_s,
        bytes_max=settings.turn_state_bytes_max,
        replicas=settings.stream_replicas,
    )
    return TurnStates(bus, spec=spec, ring=ring_of(text or new_key()), clock=clock)


async def _run(
    stack: AsyncExitStack, loops: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]
) -> None:
    for name, loop in loops.items():
        await stack.enter_async_context(background(loop, name=f"router-{name}"))


def _http_limits(settings: RouterSettings) -> HttpLimits:
    return HttpLimits(
        connections_max=settings.connections_max, connect_s=settings.connect_timeout_s
    )


def _announcer(bus: Bus, router_id: str) -> Callable[[int], Awaitable[None]]:
    """Return what tells everyone that there is a new generation of the catalogue."""

    async def announce(generation: int) -> None:
        change = events_pb2.CatalogueChanged(router_id=router_id, generation=generation)
        await bus.publish(CATALOGUE_SUBJECT, change.SerializeToString())

    return announce


def _adopt(journal_dir: Path, usage: UsageLog, clock: Clock) -> None:
    """Take over what dead routers left: journal it as our own, then let go of theirs."""
    for orphan in adopt_orphans(journal_dir):
        events = recover(orphan.records(), now_unix_ms=clock.unix_ms())
        if usage.adopt(events):
            orphan.discard()
        else:
            orphan.close()
        _log.info("journal_adopted", requests=len(events), skipped_bytes=orphan.skipped_bytes)
