"""Whatever order, repetition and loss the stream has: every request is counted exactly once."""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.clock import ManualClock
from kit.db import upgrade
from services.metering.room import MIGRATIONS
from services.metering.settings import MeteringSettings
from services.metering.store import METADATA
from tests.unit.metering.events import batch, intent, outcome, request_id
from tests.unit.metering.rooms import UnsteadyBus, opened

_NUMBERS = st.lists(st.integers(0, 40), max_size=8)
_DELIVERIES = st.lists(_NUMBERS, min_size=1, max_size=12)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A migrated, empty database file to copy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metering.db"
        asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}", MIGRATIONS, METADATA))
        yield path


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    batches=_DELIVERIES,
    more=_DELIVERIES,
    lost_acks=st.integers(0, 8),
    seed=st.integers(0, 2**16),
    group_bytes=st.sampled_from([1, 2_000, 4_194_304]),
)
def test_every_outcome_counts_once(
    template: Path,
    batches: list[list[int]],
    more: list[list[int]],
    lost_acks: int,
    seed: int,
    group_bytes: int,
) -> None:
    async def play(url: str) -> None:
        clock = ManualClock()
        bus = UnsteadyBus(clock)
        bus.order = random.Random(seed).shuffle
        bus.lost_acks = lost_acks
        limits = MeteringSettings(
            linger_s=0.0, fetch_wait_s=1.0, fetch_max=3, apply_bytes_max=group_bytes
        )
        async with opened(url, bus=bus, clock=clock, settings=limits) as room:
            for numbers in batches:
                await room.publish(batch(*map(intent, numbers), *map(outcome, numbers)))
        # The room is closed with work in hand, and opened again.
        async with opened(url, bus=bus, clock=clock, settings=limits) as room:
            for numbers in more:
                await room.publish(batch(*map(outcome, numbers)))
            bus.lost_acks += lost_acks
            await _drain(bus, clock)

            unique = {number for numbers in (*batches, *more) for number in numbers}
            assert sorted(f"{request_id(number)}:outcome" for number in unique) == [
                charge.event_id for charge in await room.charges(page_size=7)
            ]
            expected = (
                len(unique),
                sum(10 + number for number in unique),
                sum(100 + number for number in unique),
                sum(1_000 + number for number in unique),
            )
            assert (expected, expected) == await room.totals()
            assert len(batches) + len(more) == await room.applied_seq()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metering.db"
        shutil.copy(template, path)
        asyncio.run(play(f"sqlite+aiosqlite:///{path}"))


async def _drain(bus: UnsteadyBus, clock: ManualClock) -> None:
    """Let redelivery times pass until everything was stored and acknowledged."""
    async with asyncio.timeout(20.0):
        while not bus.is_idle():
            clock.advance(5.0)
            bus.wake()
            await asyncio.sleep(0.002)
