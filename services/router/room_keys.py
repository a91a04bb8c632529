"""Opens the part of the router that keeps the keys which accounts bring along."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kit.bus.port import Bus
from kit.clock import Clock
from kit.db import Database
from kit.tasks import background
from services.router.catalog import Catalogue
from services.router.own_keys import OwnKeyRing
from services.router.servicer_keys import NoProviderKeysServicer, ProviderKeysServicer
from services.router.settings import RouterSettings
from services.router.store import ProviderKeyStore
from turnpike.router.v1.provider_keys_pb2_grpc import ProviderKeysServiceServicer


@dataclass(frozen=True, slots=True)
class OpenKeys:
    """Where keys are stored, and where requests find them."""

    store: ProviderKeyStore
    ring: OwnKeyRing


@asynccontextmanager
async def open_own_keys(
    database: Database | None, *, bus: Bus, clock: Clock, settings: RouterSettings
) -> AsyncIterator[OpenKeys | None]:
    """Read every key and follow their changes; nothing without a database.

    Raises:
        TurnpikeError: UNAVAILABLE: the database does not answer, or was never migrated.
    """
    if database is None:
        yield None
        return
    store = ProviderKeyStore(database, clock=clock)
    ring = OwnKeyRing(store, settings.sealing_ring(), bus=bus, settings=settings, clock=clock)
    async with background(ring.listen, name="router-keys-heard"):
        await ring.load()
        async with background(ring.refresh, name="router-keys-read"):
            yield OpenKeys(store, ring)


def keys_servicer(
    keys: OpenKeys | None, catalogue: Callable[[], Catalogue]
) -> ProviderKeysServiceServicer:
    """Return what answers for keys, or says that none are kept."""
    if keys is None:
        return NoProviderKeysServicer()
    return ProviderKeysServicer(keys.store, keys.ring, catalogue=catalogue)
