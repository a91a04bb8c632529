"""Sums of records per account, key, model and hour; and how far the stream was applied. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from services.metering.records import Record

HOUR_MS: Final = 3_600_000
AHEAD_MAX: Final = 4_096
"""Positions that may wait for an earlier one; the bus hands out no more at a time."""


class HourSum(NamedTuple):
    """What one key used of one model in one hour; the fields are the columns of `usage_hours`."""

    hour_unix_ms: int
    account_id: str
    key_id: str
    model_id: str
    request_count: int
    prompt_token_count: int
    completion_token_count: int
    charge_nusd: int


def roll_up(records: Iterable[Record]) -> list[HourSum]:
    """Return the sums of records, in the order of their keys.

    An hour is that of the dispatch. One order for all writers keeps them from waiting for each
    other in circles.
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
    return [HourSum(*key, *total) for key, total in sorted(sums.items())]


def advance(applied: int, ahead: Sequence[int], seqs: Iterable[int]) -> tuple[int, list[int]]:
    """Return the position up to which all is applied and those beyond it, after `seqs` were.

    Redelivery brings positions out of order. A gap that more than `AHEAD_MAX` later positions have
    passed was lost with its messages, and is passed over.
    """
    waiting = sorted({seq for seq in (*ahead, *seqs) if seq > applied})
    surplus = len(waiting) - AHEAD_MAX
    done = 0
    for seq in waiting:
        if seq != applied + 1 and done >= surplus:
            break
        applied = seq
        done += 1
    return applied, waiting[done:]
