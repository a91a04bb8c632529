"""What an account paid and used in a month, folded from sums of the ledger.

Pure. A credit limit is nobody's money and appears nowhere: `opening + lines = closing` over all
other postings, exactly. Months are those of UTC. Amounts are nano-USD.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from services.payment.ledger import Kind

DAY_MS: Final = 86_400_000
PERIODS_MAX: Final = 120
_PERIOD: Final = re.compile(r"(19[7-9]\d|2\d{3})-(0[1-9]|1[0-2])", re.ASCII)
_PREFIXES: Final = ("funding:", "refund:")
_NAMES: Final = {Kind.SETTLEMENT.value: "charge"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class DaySum(NamedTuple):
    """What one kind of posting changed on one day; `day` counts from 1970-01-01."""

    day: int
    kind: str
    amount_nusd: int


@dataclass(frozen=True, slots=True)
class Line:
    """A posting or a group of them; a group has no `reference` and no moment."""

    kind: str
    subject: str
    reference: str
    count: int
    amount_nusd: int
    unix_ms: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """One month of an account; `by_kind` has what each kind of posting changed."""

    period: str
    opening_nusd: int
    closing_nusd: int
    by_kind: dict[str, int]
    is_final: bool
    lines: tuple[Line, ...] = field(default=())

    def of(self, *kinds: Kind) -> int:
        """Return what postings of these kinds changed."""
        return sum(self.by_kind.get(kind.value, 0) for kind in kinds)


def bounds_of(period: str) -> tuple[int, int] | None:
    """Return start and end of a month, Unix milliseconds; None for what is no month."""
    match = _PERIOD.fullmatch(period)
    if match is None:
        return None
    year, month = int(match[1]), int(match[2])
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return _unix_ms(start), _unix_ms(end)


def period_of(unix_ms: int) -> str:
    """Return the month of a moment."""
    return (_EPOCH + timedelta(milliseconds=unix_ms)).strftime("%Y-%m")


def months(sums: Iterable[DaySum], *, now_ms: int) -> list[Invoice]:
    """Return the months that have postings, oldest first, without lines."""
    found: dict[str, dict[str, int]] = {}
    for day, kind, amount in sorted(sums):
        by_kind = found.setdefault(period_of(day * DAY_MS), {})
        by_kind[kind] = by_kind.get(kind, 0) + amount
    invoices, opening, current = [], 0, period_of(now_ms)
    for period, by_kind in found.items():
        closing = opening + sum(by_kind.values())
        invoices.append(Invoice(period, opening, closing, by_kind, is_final=period < current))
        opening = closing
    return invoices


def lines_of(
    charges: Sequence[Line], groups: Sequence[Line], singles: Sequence[Line]
) -> tuple[Line, ...]:
    """Return an invoice's lines: charges by model, single postings, and the rest in groups.

    `groups` sum up every posting that is no charge, by kind and subject; `singles` are some of the
    same postings one by one.
    """
    rest = {(line.kind, line.subject): line for line in groups}
    for one in singles:
        group = rest[one.kind, one.subject]
        left = (group.count - one.count, group.amount_nusd - one.amount_nusd)
        rest[one.kind, one.subject] = replace(group, count=left[0], amount_nusd=left[1])
    grouped = [line for line in rest.values() if line.count and line.amount_nusd]
    return tuple(_named(line) for line in (*singles, *grouped, *charges))


def _named(line: Line) -> Line:
    subject = line.subject
    for prefix in _PREFIXES:
        subject = subject.removeprefix(prefix)
    return replace(line, kind=_NAMES.get(line.kind, line.kind), subject=subject)


def _unix_ms(moment: datetime) -> int:
    return round((moment - _EPOCH) / timedelta(milliseconds=1))
