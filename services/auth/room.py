"""Opens this room."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from kit.bus.port import Bus
from kit.clock import Clock
from kit.db import Database
from kit.ids import Uuid7Source
from kit.tasks import background
from services.auth.concurrency import Concurrency
from services.auth.keys import Issuer
from services.auth.limits import Limits, Windows
from services.auth.messages import KeyMessages
from services.auth.rates import Rates
from services.auth.ring import KeyRing
from services.auth.servicer import AuthServicer
from services.auth.settings import DEFAULT_TIER, AuthSettings
from services.auth.store import AuthStore
from services.auth.store_slots import SlotStore
from services.auth.subjects import HEARTBEAT
from services.auth.tiers import Tiers
from services.auth.verdicts import Verdicts
from turnpike.events.v1 import events_pb2

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_auth(
    settings: AuthSettings, *, database: Database, bus: Bus, clock: Clock
) -> AsyncIterator[AuthServicer]:
    """Open the auth room on a migrated database; while it is open its heartbeat is heard.

    Raises:
        ValueError: The pepper is empty.
    """
    pepper = settings.pepper.get_secret_value().encode()
    if not pepper:
        raise ValueError("auth.pepper is empty; keys cannot be hashed without it.")
    auth_id = Uuid7Source().new(clock.unix_ms())
    beat = _Heartbeat(bus, auth_id=auth_id, every_s=settings.heartbeat_s)
    async with background(beat.run, name="auth_heartbeat"):
        yield _servicer(settings, database, pepper=pepper, bus=bus, clock=clock)


def _servicer(
    settings: AuthSettings, database: Database, *, pepper: bytes, bus: Bus, clock: Clock
) -> AuthServicer:
    store = AuthStore(database, clock=clock, new_id=Uuid7Source().new)
    tiers = Tiers(
        {
            name: Limits(tier.requests_per_minute, tier.tokens_per_minute, tier.concurrent_requests)
            for name, tier in settings.tiers.items()
        },
        default=DEFAULT_TIER,
    )
    verdicts = Verdicts(
        store,
        pepper=pepper,
        clock=clock,
        cache_s=settings.key_cache_s,
        cache_max=settings.key_cache_max,
    )
    issuer = Issuer(prefix=settings.key_prefix, pepper=pepper, random_bytes=os.urandom)
    windows = Windows(keys_max=settings.key_cache_max)
    overlap_ms = round(settings.rotation_overlap_s * 1000)
    return AuthServicer(
        store,
        ring=KeyRing(store, issuer=issuer, verdicts=verdicts, bus=bus),
        verdicts=verdicts,
        rates=Rates(store, windows, tiers=tiers, clock=clock, replicas=settings.replicas_expected),
        concurrency=Concurrency(
            SlotStore(database, lease_ms=round(settings.holder_lease_s * 1000)),
            tiers=tiers,
            bus=bus,
            clock=clock,
            settings=settings,
        ),
        keys=KeyMessages(tiers, clock=clock, rotation_overlap_ms=overlap_ms),
    )


class _Heartbeat:
    """Says at a steady pace that auth lives, so that listeners know that pushes would arrive."""

    def __init__(self, bus: Bus, *, auth_id: str, every_s: float) -> None:
        self._bus = bus
        self._message = events_pb2.AuthHeartbeat(auth_id=auth_id).SerializeToString()
        self._every_s = every_s

    async def run(self) -> None:
        while True:
            await self._bus.publish(HEARTBEAT, self._message)
            await asyncio.sleep(self._every_s)
