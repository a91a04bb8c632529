"""`kill -9` of each of five processes at random moments under load; then the books are proved.

`FULL=1` kills each 200 times instead of 5, `FAULTS_KILLS` as often as it says. `FAULTS_SEED`
repeats a run's choices.
"""

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import pytest

from tests.fakes.tempo_chain import FUNDS
from tests.fakes.tempo_process import balance_of
from tests.faults.apart import PROCESSES, Apart, running_apart
from tests.faults.books import Checkpoints, Evidence, discrepancies_of_both, gather
from tests.faults.load import Load
from tests.faults.machine_books import (
    loss_of,
    machine_discrepancies,
    read_channels,
    slice_nusd,
)
from tests.faults.machines import (
    SECRETS,
    MachineLoad,
    machine_settings,
    payee_address,
    payers,
    running_chain,
)
from tests.faults.released import released
from tests.faults.site import merged
from tests.faults.test_kill import CHECKPOINT_TOKENS, LAG_TOKENS_MAX, SETTINGS
from turnpike.events.v1.events_pb2 import UsageEvent

KILLS_EACH: Final = int(
    os.environ.get("FAULTS_KILLS") or (200 if os.environ.get("FULL") == "1" else 5)
)
CLIENTS: Final = 6
MACHINES: Final = 3
CREDIT_NUSD: Final = 1_000_000_000_000
RELEASE_S: Final = 30.0
READ_TOKENS_MAX: Final = LAG_TOKENS_MAX - CHECKPOINT_TOKENS
ALLOWED: Final = {0, 200, 502, 503}
"""Gone, answered, the router died under it, or a room was away."""
ALLOWED_OF_MACHINES: Final = {*ALLOWED, 402, 410, 429}
"""Also: its voucher came to a hold that was taken, or a request before it still counts as open."""
pytestmark = pytest.mark.timeout(7_200)


@dataclass(slots=True)
class Nemesis:
    """Kills one process after the other, and keeps what dead routers leave in their journals."""

    site: Apart
    random: Random
    restarts_s: list[float] = field(default_factory=list)
    last: dict[str, UsageEvent] = field(default_factory=dict)

    async def run(self, kills_each: int) -> None:
        """Kill each process so many times, in any order; afterwards all are up."""
        victims = list(PROCESSES) * kills_each
        self.random.shuffle(victims)
        for name in victims:
            await asyncio.sleep(self.random.uniform(0.1, 0.8))
            self.site.kill_one(name)
            if name == "router":
                for request_id, event in self.site.journalled().items():
                    self.last.setdefault(request_id, event)
            await asyncio.sleep(self.random.uniform(0.0, 0.3))
            began_s = time.monotonic()
            await self.site.start_one(name)
            self.restarts_s.append(time.monotonic() - began_s)


async def test_ledger_stays_true_when_each_process_is_killed_at_random_moments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or time.time_ns() % 1_000_000)
    with capsys.disabled():
        print(f"\nseed {seed}, {KILLS_EACH} kills of each process")  # noqa: T201 - repeats a run
    owners = payers(MACHINES)
    with running_chain(owners) as chain_url:
        settings = merged(SETTINGS, machine_settings(chain_url))
        async with running_apart(
            tmp_path, settings=settings, variables=SECRETS, credit_nusd=CREDIT_NUSD
        ) as (site, _):
            await _run(site, seed, MachineLoad(site, seed, owners), chain_url, capsys)


async def _run(
    site: Apart,
    seed: int,
    machines: MachineLoad,
    chain_url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load = Load(site, seed=seed, client_count=CLIENTS)
    nemesis = Nemesis(site, Random(seed))
    load.is_open.set()

    async with machines:
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            group.create_task(machines.run())
            await nemesis.run(KILLS_EACH)
            await asyncio.sleep(1.0)
            load.stop()
            machines.stop()
        release_s, verified = await released(site, wait_s=RELEASE_S)
        channels = read_channels(site)
        evidence = gather(
            site,
            load.seen,
            Checkpoints(nemesis.last, LAG_TOKENS_MAX, READ_TOKENS_MAX),
            credit_nusd=CREDIT_NUSD,
        )
        receipts = {each.channel_id: await each.end() for each in machines.machines}
    earned = balance_of(chain_url, payee_address()) - FUNDS
    found = discrepancies_of_both(evidence, machines.bought)
    found += machine_discrepancies(evidence, machines.machines, channels, receipts, earned=earned)
    with capsys.disabled():
        print(table(evidence, nemesis, load.statuses, release_s))  # noqa: T201 - the result
        print(machine_table(evidence, machines, earned))  # noqa: T201 - as above
    assert verified["is_clean"], verified["findings"]
    assert [] == found, "\n".join(found[:20])
    assert set(load.statuses) <= ALLOWED, load.statuses
    assert set(machines.statuses) <= ALLOWED_OF_MACHINES, machines.statuses
    assert any(seen.is_whole for seen in load.seen)
    assert any(seen.is_whole and seen.receipt for seen in machines.bought)
    closed = site.verify()
    assert closed["is_clean"], closed["findings"]


def machine_table(evidence: Evidence, machines: MachineLoad, earned: int) -> str:
    """Return the figures of the machine rail, a line for each."""
    bought = machines.bought
    losses = [loss_of(seen, evidence) for seen in bought]
    figures = {
        "machines' requests": len(bought),
        "whole": sum(each.is_whole for each in bought),
        **{f"  status {status}": count for status, count in sorted(machines.statuses.items())},
        "vouchers asked for": sum(len(each.steps) - 1 for each in bought),
        "receipts": sum(each.receipt is not None for each in bought),
        "earned on chain, units": earned,
        "largest loss nUSD": max(losses, default=0),
        "a slice nUSD": slice_nusd(bought[0]),
    }
    return "\n".join(f"{name:<24}{value:>16}" for name, value in figures.items())


def table(evidence: Evidence, nemesis: Nemesis, statuses: Counter[int], release_s: float) -> str:
    """Return the run's figures, a line for each."""
    rows = evidence.rows.values()
    outcomes = Counter(row.outcome for row in rows)
    restarts = sorted(nemesis.restarts_s)
    figures = {
        "kills": len(restarts),
        "requests": len(evidence.seen),
        "whole": sum(each.is_whole for each in evidence.seen),
        **{f"  status {status}": count for status, count in sorted(statuses.items())},
        "usage records": len(rows),
        **{f"  {name}": count for name, count in sorted(outcomes.items())},
        "charged nUSD": evidence.charged_nusd,
        "written off nUSD": sum(row.charge.writeoff_nusd for row in rows),
        "late charges": sum(row.charge.is_late for row in rows),
        "operator loss nUSD": evidence.operator_loss_nusd,
        "restart s, median": f"{median(restarts):.2f}",
        "restart s, longest": f"{restarts[-1]:.2f}",
        "all released after s": f"{release_s:.2f}",
    }
    return "\n".join(f"{name:<24}{value:>16}" for name, value in figures.items())
