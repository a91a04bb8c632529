"""Opening and closing with deadlines, and the order from Ctrl-C to the end."""

import asyncio
import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, TypeVar

import structlog

from app.errors import StartError

_KILLED: Final = 130
_log = structlog.get_logger("app.lifecycle")
T = TypeVar("T")


class Bounded(AbstractAsyncContextManager[T], Generic[T]):
    """A part that must open and close in time; one that closes late is given up and logged."""

    def __init__(
        self, part: AbstractAsyncContextManager[T], *, name: str, start_s: float, close_s: float
    ) -> None:
        self._part = part
        self._name = name
        self._start_s = start_s
        self._close_s = close_s

    async def __aenter__(self) -> T:
        try:
            async with asyncio.timeout(self._start_s):
                return await self._part.__aenter__()
        except TimeoutError as error:
            raise StartError(f"{self._name} did not start within {self._start_s:g} s.") from error
        except OSError as error:
            raise StartError(f"{self._name} cannot start: {error.strerror or error}.") from error

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            async with asyncio.timeout(self._close_s):
                return await self._part.__aexit__(kind, error, trace)
        except TimeoutError:
            _log.error("part_closed_late", part=self._name, close_s=self._close_s)
            return None


class Ending:
    """Waits for SIGTERM or Ctrl-C: the first ends in order, the second at once.

    Args:
        kill: Called before this process ends at once.
    """

    def __init__(self, *, kill: Callable[[], None]) -> None:
        self._kill = kill
        self._asked = asyncio.Event()
        self._starting: asyncio.Task[object] | None = asyncio.current_task()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over while the body runs."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self.ask)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    @property
    def is_asked(self) -> bool:
        """Whether somebody has asked."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask for the end; a start that is under way is broken off."""
        if self.is_asked:
            self._kill()
            os._exit(_KILLED)
        self._asked.set()
        if self._starting is not None:
            self._starting.cancel()

    async def wait(self) -> None:
        """Say that the start is over, and wait until somebody asks."""
        self._starting = None
        await self._asked.wait()


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock file while the body runs; it is free again when this process is gone.

    Raises:
        StartError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"Turnpike runs already with this state folder ({path.parent})."
            raise StartError(message) from error
        yield
