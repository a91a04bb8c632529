"""NATS killed and restarted under load: requests go on, and no event is lost."""

import asyncio
import os
import time
from pathlib import Path
from random import Random
from typing import Final

import pytest

from tests.faults.books import Checkpoints, discrepancies, gather
from tests.faults.load import Load
from tests.faults.released import released
from tests.faults.site import Site, running_site, until
from tests.fixtures.nats import NatsServer, running_nats

KILLS: Final = 10 if os.environ.get("FULL") == "1" else 3
CLIENTS: Final = 10
CREDIT_NUSD: Final = 1_000_000_000_000
RELEASE_S: Final = 60.0
pytestmark = pytest.mark.timeout(300)


async def nemesis(server: NatsServer, load: Load, random: Random) -> None:
    """Kill NATS, leave it away for a while under load, start it again, and let it work."""
    for _ in range(KILLS):
        await answered(load, random.randint(20, 60))
        await asyncio.to_thread(server.kill)
        await answered(load, random.randint(20, 60))
        await asyncio.to_thread(server.start)
    await answered(load, 20)


async def answered(load: Load, more: int) -> None:
    """Wait until so many further requests have ended."""
    goal = len(load.seen) + more
    await until(lambda: len(load.seen) >= goal, f"{goal} requests answered", wait_s=30.0)


def is_settled(site: Site, count: int) -> bool:
    """Return whether both rooms have every request."""
    return len(site.usage()) >= count and int(site.verify()["charge_count"]) >= count


async def test_no_request_fails_and_no_event_is_lost_when_nats_is_killed_under_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or time.time_ns() % 1_000_000)
    with running_nats() as server:
        settings = {"nats": {"url": server.url}, "payment": {"lease_s": 8.0, "hold_ttl_s": 5.0}}
        async with running_site(tmp_path, settings=settings, credit_nusd=CREDIT_NUSD) as site:
            load = Load(site, seed=seed, client_count=CLIENTS, leavers_share=0.0)
            load.is_open.set()

            async with asyncio.TaskGroup() as group:
                group.create_task(load.run())
                await nemesis(server, load, Random(seed))
                load.stop()
            count = len(load.seen)
            await until(
                lambda: is_settled(site, count), f"{count} requests settled", wait_s=RELEASE_S
            )
            release_s, verified = await released(site, wait_s=RELEASE_S)

            evidence = gather(site, load.seen, Checkpoints({}, 0), credit_nusd=CREDIT_NUSD)
            with capsys.disabled():
                print(f"\nseed {seed}: {count} requests, free in {release_s:.1f} s")  # noqa: T201 - result
            assert [] == [seen for seen in load.seen if not seen.is_whole]
            assert count == len(evidence.rows)
            assert verified["is_clean"], verified["findings"]
            assert [] == discrepancies(evidence)
