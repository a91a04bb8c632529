"""The oracle: lays clients' records, the upstream's journal, usage and ledger side by side."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.faults.load import Seen
from tests.faults.site import Site, Told, price_nusd
from turnpike.events.v1.events_pb2 import UsageEvent

_MACHINE: Final = "tempo:"
_CHARGES: Final = (
    "SELECT request_id, charge_nusd, charged_nusd, writeoff_nusd, is_late FROM charges"
)


@dataclass(frozen=True, slots=True)
class Charge:
    """What the ledger took for one request, nano-USD."""

    charge_nusd: int
    charged_nusd: int
    writeoff_nusd: int
    is_late: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A usage record beside its ledger row."""

    request_id: str
    account_id: str
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    charge: Charge

    @property
    def is_of_a_machine(self) -> bool:
        """Whether no key paid for it."""
        return self.account_id.startswith(_MACHINE)

    @property
    def price_nusd(self) -> int:
        """What its tokens cost; nothing when nothing was said."""
        if not self.completion_tokens:
            return 0
        return price_nusd(self.prompt_tokens, self.completion_tokens)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """What dead routers' journals said; on a paced stream clients are ahead by so much at most.

    `cut_tokens_max` is by how much they are at most where they went away and the router lives: what
    is on its way between two processes then counts as not handed over.
    """

    last: Mapping[str, UsageEvent]
    lag_tokens_max: int
    cut_tokens_max: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known after a run."""

    rows: Mapping[str, Row]
    seen: Sequence[Seen]
    told: Mapping[int, Told]
    checkpoints: Checkpoints
    credit_nusd: int
    balance: Mapping[str, int]
    ledger: Mapping[str, int]

    def of_rail(self, seen: Sequence[Seen], *, is_machine: bool) -> "Evidence":
        """Return what concerns the clients of one rail."""
        serials = {each.ask.serial for each in seen}
        return replace(
            self,
            rows={
                name: row for name, row in self.rows.items() if row.is_of_a_machine == is_machine
            },
            seen=seen,
            told={serial: told for serial, told in self.told.items() if serial in serials},
        )

    @property
    def operator_loss_nusd(self) -> int:
        """What the upstream would bill for, and no caller was charged."""
        return sum(told.figure_nusd for told in self.told.values()) - self.charged_nusd

    @property
    def charged_nusd(self) -> int:
        """What callers were charged."""
        return sum(row.charge.charged_nusd for row in self.rows.values())


def gather(
    site: Site, seen: Sequence[Seen], checkpoints: Checkpoints, *, credit_nusd: int
) -> Evidence:
    """Read everything of a site at rest, on SQLite."""
    with closing(sqlite3.connect(site.state_dir / "payment.db")) as database:
        found = list(database.execute(_CHARGES))
    charges = {
        request_id: Charge(charge_nusd, charged_nusd, writeoff_nusd, bool(is_late))
        for request_id, charge_nusd, charged_nusd, writeoff_nusd, is_late in found
    }
    records = site.usage()
    assert len(found) == len(charges) == len(records), "a request was charged or recorded twice"
    rows = {
        record["request_id"]: Row(
            record["request_id"],
            record["account_id"],
            record["outcome"],
            _count(record, "prompt"),
            _count(record, "completion"),
            charges[record["request_id"]],
        )
        for record in records
    }
    return Evidence(
        rows,
        seen,
        site.upstream.told(),
        checkpoints,
        credit_nusd,
        site.balance(),
        site.ledger_balances(),
    )


def discrepancies(evidence: Evidence) -> list[str]:
    """Return what does not add up, a line for each."""
    return [*_of_sums(evidence), *_of_requests(evidence)]


def discrepancies_of_both(evidence: Evidence, machines: Sequence[Seen]) -> list[str]:
    """Return the same where machines paid as well; `evidence` has what clients with a key saw."""
    by_key = evidence.of_rail(evidence.seen, is_machine=False)
    by_channel = evidence.of_rail(machines, is_machine=True)
    return [*_of_sums(evidence), *_of_requests(by_key), *_of_requests(by_channel)]


def _of_requests(evidence: Evidence) -> list[str]:
    found = [*_of_strangers(evidence)]
    for seen in evidence.seen:
        row = evidence.rows.get(seen.request_id)
        told = evidence.told.get(seen.ask.serial)
        found += [
            f"{seen.request_id or seen.ask.serial}: {flaw}: {row} {told} {seen}"
            for flaw in _flaws(seen, row, told, evidence.checkpoints)
        ]
    for row in evidence.rows.values():
        found += [f"{row.request_id}: {flaw}: {row}" for flaw in _of_row(row, evidence)]
    return found


def _flaws(
    seen: Seen, row: Row | None, told: Told | None, checkpoints: Checkpoints
) -> Iterator[str]:
    if seen.status != 200:
        if row is not None and row.charge.charge_nusd:
            yield "a refusal was charged"
        return
    if row is None or told is None:
        yield "an answer began that nobody knows"
        return
    if row.charge.charge_nusd > told.figure_nusd:
        yield "charged above the upstream's figure"
    if seen.is_whole:
        yield from _of_whole(seen, row, told)
    else:
        yield from _of_part(seen, row, told, checkpoints)


def _of_whole(seen: Seen, row: Row, told: Told) -> Iterator[str]:
    usage = told.usage or {}
    figures = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    if figures != (row.prompt_tokens, row.completion_tokens) or row.outcome != "completed":
        yield "a whole answer is not charged by the upstream's usage"
    if row.completion_tokens != seen.content_count:
        yield "a whole answer has another number of chunks at its client"


def _of_part(seen: Seen, row: Row, told: Told, checkpoints: Checkpoints) -> Iterator[str]:
    lag_tokens = seen.content_count - row.completion_tokens
    if row.outcome == "completed":
        if row.charge.charge_nusd != told.figure_nusd:
            yield "a completed answer is not charged by the upstream's usage"
    elif row.outcome == "recovered":
        if seen.ask.delay_ms and lag_tokens > checkpoints.lag_tokens_max:
            yield "the last checkpoint lies too far behind the client"
    elif lag_tokens > checkpoints.cut_tokens_max:
        yield "charged for less than the client got"


def _of_row(row: Row, evidence: Evidence) -> Iterator[str]:
    charge = row.charge
    if charge.charge_nusd != row.price_nusd:
        yield "the charge is not the price of the usage"
    if charge.charged_nusd + charge.writeoff_nusd != charge.charge_nusd:
        yield "charged and written off are not the charge"
    journalled = evidence.checkpoints.last.get(row.request_id)
    if journalled is None:
        if row.outcome == "recovered":
            yield "recovered, but in no dead router's journal"
    elif row.completion_tokens != journalled.usage.completion_token_count:
        # An outcome that was published before the kill is in the journal too.
        yield "not charged by the last record in the journal"


def _of_strangers(evidence: Evidence) -> Iterator[str]:
    """Look at requests whose clients never saw a header, and so do not know their ids."""
    known = {seen.request_id for seen in evidence.seen}
    strangers = [row for name, row in evidence.rows.items() if name not in known]
    headless = {
        seen.ask.serial: evidence.told[seen.ask.serial]
        for seen in evidence.seen
        if not seen.request_id and seen.ask.serial in evidence.told
    }
    if len(strangers) < len(headless):
        yield f"{len(headless)} requests reached the upstream unseen; {len(strangers)} have a row"
    completed = Counter(
        (row.prompt_tokens, row.completion_tokens)
        for row in strangers
        if row.outcome == "completed"
    )
    reported = Counter(
        (told.usage["prompt_tokens"], told.usage["completion_tokens"])
        for told in headless.values()
        if told.usage is not None
    )
    if extra := completed - reported:
        yield f"charged as completed what no upstream reported: {extra}"
    most_nusd = max((told.figure_nusd for told in headless.values()), default=0)
    for row in strangers:
        if row.charge.charge_nusd > most_nusd:
            yield f"{row.request_id}: charged above every unseen request's figure: {row}"


def _of_sums(evidence: Evidence) -> Iterator[str]:
    charges = [row.charge for row in evidence.rows.values()]
    by_key = evidence.of_rail(evidence.seen, is_machine=False)
    charge = sum(each.charge_nusd for each in charges)
    written_off = sum(each.writeoff_nusd for each in charges)
    expected = {
        "revenue": charge,
        "writeoff": -written_off,
        "customer:available": evidence.credit_nusd - by_key.charged_nusd,
        "customer:held": 0,
        "funding:manual": -evidence.credit_nusd,
    }
    for name, amount in expected.items():
        if evidence.ledger.get(name, 0) != amount:
            yield f"{name} is {evidence.ledger.get(name, 0)}; {amount} expected"
    parts = {"available": expected["customer:available"], "held": 0}
    parts["charged"] = by_key.charged_nusd
    if dict(evidence.balance) != parts:
        yield f"the balance is {dict(evidence.balance)}; {parts} expected"
    if sum(evidence.ledger.values()):
        yield f"the books sum to {sum(evidence.ledger.values())}"


def _count(record: Mapping[str, Any], kind: str) -> int:
    return int(record.get("usage", {}).get(f"{kind}_token_count", 0))
