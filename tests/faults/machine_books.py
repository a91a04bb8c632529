"""The oracle of the machine rail: channels on chain and in the books beside what their owners saw.

I6 of facts/reliability A5: what is accepted never falls; no more is streamed than was accepted and
one chunk; each challenge is used once; at the close, what is settled is the price of the usage.
"""

import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.faults.books import Evidence, Row
from tests.faults.machines import SLICE_TOKENS, Bought, Machine
from tests.faults.site import OUTPUT_PUSD, Site, price_nusd

NUSD_PER_BASE_UNIT: Final = 1_000
_CHUNK_NUSD: Final = -(-OUTPUT_PUSD // 1_000)
_CHANNELS: Final = "SELECT channel_id, accepted, settled, state FROM channels"
_CHALLENGES: Final = "SELECT challenge_id FROM used_challenges"


@dataclass(frozen=True, slots=True)
class Channels:
    """What the payment room knows of channels, before they are closed.

    It forgets used challenges that had ended by `read_unix_s`.
    """

    accepted: Mapping[str, int]
    used_challenges: Sequence[str]
    read_unix_s: float


def read_channels(site: Site) -> Channels:
    """Read the payment room's own tables, on SQLite."""
    with closing(sqlite3.connect(site.state_dir / "payment.db")) as database:
        accepted = {row[0]: row[1] for row in database.execute(_CHANNELS)}
        used = [row[0] for row in database.execute(_CHALLENGES)]
    return Channels(accepted, used, time.time())


def machine_discrepancies(
    evidence: Evidence,
    machines: Sequence[Machine],
    channels: Channels,
    receipts: Mapping[str, Mapping[str, Any]],
    *,
    earned: int,
) -> list[str]:
    """Return what does not add up, a line for each; `earned` is what the payee got on chain."""
    found = list(_of_challenges(machines, channels))
    due_in_all = 0
    for machine in machines:
        rows = rows_of(evidence, machine)
        charged_nusd = sum(row.charge.charged_nusd for row in rows)
        due = -(-charged_nusd // NUSD_PER_BASE_UNIT)
        due_in_all += due
        receipt = receipts[machine.channel_id]
        if (str(due), machine.channel_id) != (receipt["spent"], receipt["channelId"]):
            found.append(f"{machine.channel_id}: closed by {receipt}; {due} was used")
        found += [f"{machine.channel_id}: {flaw}" for flaw in _of_channel(machine, channels, due)]
        found += [f"{machine.channel_id}: {flaw}" for flaw in _of_steps(machine, evidence)]
    if earned != due_in_all:
        found.append(f"the payee got {earned} on chain; {due_in_all} was used")
    for seen in (seen for machine in machines for seen in machine.bought):
        loss_nusd = loss_of(seen, evidence)
        if loss_nusd > slice_nusd(seen):
            found.append(f"{seen.request_id}: {loss_nusd} nUSD are lost, more than a slice: {seen}")
    return found


def rows_of(evidence: Evidence, machine: Machine) -> list[Row]:
    """Return what a channel was charged for."""
    return [row for row in evidence.rows.values() if row.account_id == machine.account_id]


def loss_of(seen: Bought, evidence: Evidence) -> int:
    """Return what the upstream would bill for a request beyond what its payer was charged."""
    told = evidence.told.get(seen.ask.serial)
    row = evidence.rows.get(seen.request_id)
    if told is None or row is None:
        return 0
    return told.figure_nusd - row.charge.charged_nusd


def slice_nusd(seen: Bought) -> int:
    """Return what a slice costs at most: the first one has the prompt in it."""
    return price_nusd(seen.ask.prompt_tokens_max, SLICE_TOKENS)


def _of_channel(machine: Machine, channels: Channels, due: int) -> Iterator[str]:
    accepted = channels.accepted.get(machine.channel_id)
    if accepted is None:
        yield "the books do not know it"
        return
    if not due <= accepted <= machine.cumulative:
        yield f"{due} is used, {accepted} accepted, {machine.cumulative} signed"
    if any(above < below for below, above in pairwise([*machine.accepted, accepted])):
        yield f"what is accepted fell: {machine.accepted}, {accepted}"


def _of_steps(machine: Machine, evidence: Evidence) -> Iterator[str]:
    """Compare every chunk that came with what was signed then."""
    before_nusd = 0
    for seen in machine.bought:
        row = evidence.rows.get(seen.request_id)
        for chunks, cumulative in seen.steps:
            prompt_tokens = row.prompt_tokens if row is not None else 0
            cost_nusd = price_nusd(prompt_tokens, chunks) if chunks else 0
            most_nusd = cumulative * NUSD_PER_BASE_UNIT + _CHUNK_NUSD
            if before_nusd + cost_nusd > most_nusd:
                yield f"{chunks} chunks came for {cumulative} with {before_nusd} nUSD spent: {seen}"
        before_nusd += row.charge.charged_nusd if row is not None else 0


def _of_challenges(machines: Sequence[Machine], channels: Channels) -> Iterator[str]:
    answered: defaultdict[str, int] = defaultdict(int)
    kept = set()
    for machine in machines:
        for seen in machine.bought:
            if seen.status == 200 and seen.challenge_id:
                answered[seen.challenge_id] += 1
                if seen.challenge_expires_unix_s > channels.read_unix_s:
                    kept.add(seen.challenge_id)
    if twice := [name for name, count in answered.items() if count > 1]:
        yield f"challenges that bought several answers: {twice}"
    if repeated := [name for name, count in Counter(channels.used_challenges).items() if count > 1]:
        yield f"challenges that were used up several times: {repeated}"
    if lost := kept - set(channels.used_challenges):
        yield f"challenges that bought an answer and count as unused: {lost}"
