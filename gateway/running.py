"""Requests that run now: who may be ended from outside, and which clients do not read.

One sweep a second looks at all of them, so that a stream pays for no timer of its own.
"""

import asyncio
from contextlib import suppress
from typing import Protocol, cast

import msgspec
import structlog

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError

_log = structlog.get_logger("gateway.running")


class Quiet(Protocol):
    """An answer that may need a sign of life while its upstream is silent."""

    async def stay_alive(self, now_s: float) -> None:
        """Send headers or a keep-alive comment if they are due."""


class Running(msgspec.Struct, eq=False):
    """One request; `writing_since_s` is 0 while nobody waits for its client.

    `is_nudged` while the sweep waits for its sign of life.
    """

    key_id: str
    task: asyncio.Task[object]
    answer: Quiet | None = None
    writing_since_s: float = 0.0
    is_nudged: bool = False
    ended_by: TurnpikeError | None = None

    def end(self, error: TurnpikeError) -> None:
        """End the request from outside; its handler finds the reason in `ended_by`."""
        if self.ended_by is None:
            self.ended_by = error
            self.task.cancel()


class RunningRequests:
    """All of them, bounded."""

    def __init__(self, *, clock: Clock, requests_max: int, write_timeout_s: float) -> None:
        self._clock = clock
        self._requests_max = requests_max
        self._write_timeout_s = write_timeout_s
        self._all: set[Running] = set()
        self._left = asyncio.Event()

    @property
    def count(self) -> int:
        """Requests that run now."""
        return len(self._all)

    def enter(self, key_id: str) -> Running:
        """Register the current task's request; the caller leaves it in a `finally`.

        Raises:
            TurnpikeError: `OVERLOADED` when there are too many.
        """
        if len(self._all) >= self._requests_max:
            raise TurnpikeError(Reason.OVERLOADED, "The gateway is full.", retry_after_s="1")
        running = Running(key_id=key_id, task=cast("asyncio.Task[object]", asyncio.current_task()))
        self._all.add(running)
        return running

    def leave(self, running: Running) -> None:
        """Forget a request that has ended."""
        self._all.discard(running)
        # A stream's answer refers back to it: without this each one waits for the collector.
        running.answer = None
        self._left.set()

    def end_key(self, key_id: str, error: TurnpikeError | None = None) -> None:
        """End every request of a key: a revoked one, unless another reason is given."""
        reason = error or TurnpikeError(Reason.KEY_REVOKED, "The API key was revoked.")
        for running in list(self._all):
            if running.key_id == key_id:
                # Each has its own copy: one that many raise would collect all their traces.
                running.end(TurnpikeError(reason.reason, reason.message, **reason.metadata))

    async def sweep(self, interval_s: float) -> None:
        """Cut clients that do not read and keep silent streams alive, for ever."""
        async with asyncio.TaskGroup() as signs:
            while True:
                await asyncio.sleep(interval_s)
                for running in self.sweep_once():
                    signs.create_task(self._stay_alive(running))

    def sweep_once(self) -> list[Running]:
        """Cut clients that do not read and return the requests that may need a sign of life."""
        now_s = self._clock.monotonic_s()
        alive = []
        for running in list(self._all):
            since_s = running.writing_since_s
            if not since_s:
                if running.answer is not None and not running.is_nudged:
                    alive.append(running)
            elif now_s - since_s > self._write_timeout_s:
                running.end(
                    TurnpikeError(Reason.CLIENT_CLOSED_REQUEST, "The client does not read.")
                )
        return alive

    async def _stay_alive(self, running: Running) -> None:
        # A task of its own: one client that does not read must not keep the others waiting.
        if running.answer is None or running not in self._all:
            return
        running.is_nudged = True
        try:
            await running.answer.stay_alive(self._clock.monotonic_s())
        except OSError:
            # The client has gone; its handler hears of it too.
            return
        except Exception as error:  # noqa: BLE001 - the sweep of all outlives one's failure
            _log.error("sign_of_life_failed", exc_info=error)
        finally:
            running.is_nudged = False

    async def drained(self, *, wait_s: float) -> None:
        """Wait until nothing runs, at most `wait_s`; end what is left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while self._all:
                    self._left.clear()
                    await self._left.wait()
        for running in list(self._all):
            running.end(TurnpikeError(Reason.UNAVAILABLE, "The gateway is stopping."))
