"""Opens this room."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from kit.bus.port import Bus
from kit.clock import Clock
from kit.db import Database
from kit.db_writer import open_writer
from kit.tasks import background
from kit.telemetry import Telemetry
from services.metering.consumer import USAGE, UsageConsumer
from services.metering.metrics import watch
from services.metering.servicer import MeteringServicer
from services.metering.settings import MeteringSettings
from services.metering.store import MeteringStore
from services.metering.store_decisions import DecisionStore

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_metering(
    settings: MeteringSettings,
    *,
    database: Database,
    bus: Bus,
    clock: Clock,
    telemetry: Telemetry | None = None,
) -> AsyncIterator[MeteringServicer]:
    """Open the metering room on a migrated database; while it is open it stores usage.

    What it has in hand at the end and has not acknowledged is delivered again, and stored once.
    """
    async with open_writer(database, name="metering") as write:
        store = MeteringStore(database, write, stream=USAGE, settings=settings, clock=clock)
        consumer = UsageConsumer(store, bus, settings=settings)
        watch((telemetry or Telemetry()).registry, consumer=consumer)
        decisions = DecisionStore(database, write, settings=settings, clock=clock)

        async def forget() -> None:
            while True:
                await decisions.forget_old()
                await asyncio.sleep(settings.forget_every_s)

        async with (
            background(consumer.run, name="metering_consumer", restart_delay_s=settings.retry_s),
            background(forget, name="metering_forget", restart_delay_s=settings.forget_every_s),
        ):
            yield MeteringServicer(store, decisions)
