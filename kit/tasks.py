"""Background work with an owner: a task that lives as long as its context, and a bounded group."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

_log = structlog.get_logger("kit.tasks")


@asynccontextmanager
async def background(
    run: Callable[[], Coroutine[Any, Any, None]], *, name: str, restart_delay_s: float = 1.0
) -> AsyncIterator[None]:
    """Run `run()` beside the body and cancel it on exit; a crash is logged and restarted.

    `run` loops by itself; when it returns, it is done.
    """
    task = asyncio.get_running_loop().create_task(
        _supervised(run, name, restart_delay_s), name=name
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _supervised(
    run: Callable[[], Coroutine[Any, Any, None]], name: str, restart_delay_s: float
) -> None:
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001 - a background loop must outlive its bugs; they are logged
            _log.exception("background_task_failed", task=name)
            await asyncio.sleep(restart_delay_s)
        else:
            return


class TaskPool:
    """Tasks that outlive the request which started them, bounded in number.

    `close` waits for them, up to a deadline, and cancels the rest.
    """

    def __init__(self, *, tasks_max: int) -> None:
        self._tasks_max = tasks_max
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """Tasks that run now."""
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], *, name: str) -> bool:
        """Start `work` and return whether there was room; without room it is closed unstarted."""
        if len(self._tasks) >= self._tasks_max:
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return True

    async def close(self, *, wait_s: float) -> None:
        """Wait for the tasks, then cancel what is left."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=wait_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", task=task.get_name(), exc_info=error)
