"""Requests that are paid slice by slice: settled by what their caller says it handed over.

Over a socket batches run ahead of the caller, which may not be able to pay for them. So such a
request is not settled when its last batch leaves, but when the caller says how it ended.
"""

import asyncio
from contextlib import suppress
from weakref import WeakValueDictionary

from services.router.run import Run
from services.router.usage_events import UsageEvent


class SlicedRuns:
    """Those that run; one whose caller goes without a word is charged what left."""

    def __init__(self, *, wait_max_s: float) -> None:
        self._wait_max_s = wait_max_s
        self._runs: WeakValueDictionary[str, Run] = WeakValueDictionary()

    def open(self, run: Run) -> None:
        """Remember a run until it is gone."""
        run.ended = asyncio.Event()
        self._runs[run.request_id] = run

    def running(self) -> list[str]:
        """Return the ids of those that run."""
        return list(self._runs)

    def end(self, request_id: str, completion_tokens: int, *, is_whole: bool) -> None:
        """Settle a run by what was handed over; nothing happens to one that is settled or gone."""
        run = self._runs.get(request_id)
        if run is None or run.ended is None:
            return
        if is_whole and run.unpaid is not None:
            run.usage.close(run.unpaid, UsageEvent.OUTCOME_COMPLETED)
        else:
            used = run.delivered.usage_up_to(completion_tokens)
            run.usage.close(used, UsageEvent.OUTCOME_CLIENT_CLOSED)
        run.ended.set()

    async def outcome(self, run: Run) -> UsageEvent.Outcome.ValueType:
        """Wait until a finished run is settled; return what it is where nobody says."""
        if run.ended is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_max_s):
                    await run.ended.wait()
        return UsageEvent.OUTCOME_CLIENT_CLOSED
