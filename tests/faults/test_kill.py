"""`kill -9` of the all-in-one process at random moments under load; then the books are proved.

`FULL=1` kills 50 times instead of 5; `FAULTS_SEED` repeats a run's choices.
"""

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import pytest

from tests.faults.books import Checkpoints, Evidence, discrepancies, gather
from tests.faults.load import Load
from tests.faults.released import released
from tests.faults.site import Json, Site, running_site
from turnpike.events.v1.events_pb2 import UsageEvent

KILLS: Final = 50 if os.environ.get("FULL") == "1" else 5
CLIENTS: Final = 10
CREDIT_NUSD: Final = 1_000_000_000_000
CHECKPOINT_TOKENS: Final = 8
LAG_TOKENS_MAX: Final = CHECKPOINT_TOKENS + 24
"""The distance of checkpoints, and what one read of a paced stream brings at most."""
STARTING_SHARE: Final = 0.2
RELEASE_S: Final = 20.0
SETTINGS: Final[Json] = {
    "gateway": {"lease_margin_s": 1.5, "lease_requests": 16},
    "router": {
        "checkpoint_s": 0.2,
        "checkpoint_tokens": CHECKPOINT_TOKENS,
        "hold_renew_s": 1.0,
        "watermark_s": 0.3,
    },
    "payment": {
        "hold_ttl_s": 3.0,
        "lease_s": 4.0,
        "draw_grace_s": 1.0,
        "router_gone_s": 3.0,
        "sweep_s": 0.3,
    },
}
pytestmark = pytest.mark.timeout(1_500)


@dataclass(slots=True)
class Nemesis:
    """Kills at random moments, and keeps what the dead leave in their journals."""

    site: Site
    load: Load
    random: Random
    restarts_s: list[float] = field(default_factory=list)
    killed_while_starting: int = 0
    last: dict[str, UsageEvent] = field(default_factory=dict)

    async def run(self, kills: int) -> None:
        """Kill so many times; afterwards the site is up."""
        self.load.is_open.set()
        for _ in range(kills):
            if self.site.has_ended:
                self.killed_while_starting += 1
                self.site.spawn()
                await asyncio.sleep(self.random.uniform(0.0, 3.0))
            else:
                await asyncio.sleep(self.random.uniform(0.3, 3.0))
            self._kill()
            if self.random.random() >= STARTING_SHARE:
                await self._restart()
        if self.site.has_ended:
            await self._restart()

    def _kill(self) -> None:
        self.load.is_open.clear()
        self.site.kill()
        for request_id, event in self.site.journalled().items():
            self.last.setdefault(request_id, event)

    async def _restart(self) -> None:
        self.restarts_s.append(await self.site.start())
        self.load.is_open.set()


async def test_ledger_stays_true_when_everything_is_killed_at_random_moments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or time.time_ns() % 1_000_000)
    with capsys.disabled():
        print(f"\nseed {seed}, {KILLS} kills")  # noqa: T201 - repeats a run
    async with running_site(tmp_path, settings=SETTINGS, credit_nusd=CREDIT_NUSD) as site:
        load = Load(site, seed=seed, client_count=CLIENTS)
        nemesis = Nemesis(site, load, Random(seed))

        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            await nemesis.run(KILLS)
            await asyncio.sleep(1.0)
            load.stop()
        release_s, verified = await released(site, wait_s=RELEASE_S)

        checkpoints = Checkpoints(nemesis.last, LAG_TOKENS_MAX)
        evidence = gather(site, load.seen, checkpoints, credit_nusd=CREDIT_NUSD)
        found = discrepancies(evidence)
        with capsys.disabled():
            print(table(evidence, nemesis, release_s))  # noqa: T201 - the run's result
        assert verified["is_clean"], verified["findings"]
        assert [] == found, "\n".join(found[:20])
        assert set(load.statuses) <= {0, 200}, load.statuses
        assert any(seen.is_whole for seen in load.seen)


def table(evidence: Evidence, nemesis: Nemesis, release_s: float) -> str:
    """Return the run's figures, a line for each."""
    seen = evidence.seen
    outcomes = [row.outcome for row in evidence.rows.values()]
    written_off = sum(row.charge.writeoff_nusd for row in evidence.rows.values())
    restarts = sorted(nemesis.restarts_s)
    figures = {
        "kills": KILLS,
        "of them while starting": nemesis.killed_while_starting,
        "requests": len(seen),
        "whole": sum(each.is_whole for each in seen),
        "cut by a kill": sum(each.is_cut for each in seen),
        "left by their client": sum(each.has_left for each in seen),
        "without an answer": sum(each.status == 0 for each in seen),
        "usage records": len(evidence.rows),
        **{f"  {name}": outcomes.count(name) for name in sorted(set(outcomes))},
        "charged nUSD": evidence.charged_nusd,
        "written off nUSD": written_off,
        "late charges": sum(row.charge.is_late for row in evidence.rows.values()),
        "operator loss nUSD": evidence.operator_loss_nusd,
        "restart s, median": f"{median(restarts):.2f}",
        "restart s, longest": f"{restarts[-1]:.2f}",
        "all released after s": f"{release_s:.2f}",
    }
    return "\n".join(f"{name:<24}{value:>16}" for name, value in figures.items())
