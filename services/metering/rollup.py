"""Sums of records by hour, and how far a stream is stored; pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from services.metering.records import Extra, Record

HOUR_MS: Final = 3_600_000
_AHEAD_MAX: Final = 4_096


class HourSum(NamedTuple):
    """What the records of one hour, account, key and model add up to.

    The fields are the columns of `usage_hours`, in their order; an hour is that of the start.
    """

    hour_unix_ms: int
    account_id: str
    key_id: str
    model_id: str
    request_count: int
    prompt_token_count: int
    completion_token_count: int
    charge_nusd: int


def roll_up(records: Iterable[Record], extras: Mapping[str, Extra]) -> list[HourSum]:
    """Return the sums of records, ordered by hour, account, key and model.

    What was given back, as `extras` have it by event id, is taken off the charge.
    """
    sums: dict[tuple[int, str, str, str], list[int]] = {}
    for record in records:
        start = record.start_unix_ms
        key = (start - start % HOUR_MS, record.account_id, record.key_id, record.model_id)
        total = sums.get(key)
        if total is None:
            total = sums[key] = [0, 0, 0, 0]
        total[0] += 1
        total[1] += record.prompt_token_count
        total[2] += record.completion_token_count
        total[3] += record.charge_nusd
        if extras and (extra := extras.get(record.event_id)) is not None:
            total[3] -= extra.refund_nusd
    return [HourSum(*key, *sums[key]) for key in sorted(sums)]


def advance(applied: int, ahead: Sequence[int], seqs: Iterable[int]) -> tuple[int, list[int]]:
    """Return the position up to which all is stored and what is stored ahead of it.

    `seqs` were stored just now, in any order. A gap that more than a bound of later positions have
    passed will never be filled, as its messages expired or were given up; it is skipped.
    """
    later = sorted({seq for seq in (*ahead, *seqs) if seq > applied})
    for index, seq in enumerate(later):
        if seq > applied + 1 and len(later) - index <= _AHEAD_MAX:
            return applied, later[index:]
        applied = seq
    return applied, []
