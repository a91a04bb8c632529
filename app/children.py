"""Child processes that never stay behind: nats-server and Triton run as these.

Each has a session of its own, so that Ctrl-C reaches Turnpike alone; gets a signal when Turnpike
dies; and is written down in a file, so that the next start can remove what a kill left. What a
child is good for is not known here.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Self

import structlog

from app import child_launcher
from app.errors import StartError
from app.processes import Process, carries_mark, find_process, session_members
from kit.clock import Clock
from kit.tasks import background

_MARK: Final = "TURNPIKE_CHILD"
_POLL_S: Final = 0.05
_KILL_WAIT_S: Final = 5.0
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MAX_S: Final = 5.0
_STEADY_S: Final = 30.0
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - Triton's choice, not a temporary file of ours
_log = structlog.get_logger("app.children")


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run.

    `environment` is the child's whole environment. `stop_s` is how long SIGTERM may take before
    SIGKILL follows. `shared_memory` is what its files under `/dev/shm` start with, `{pid}` being
    its process id; empty when it makes none.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_s: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL
    shared_memory: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    """What is written down about a child."""

    pid: int
    start_ticks: int
    mark: str
    shared_memory: str

    @classmethod
    def read(cls, path: Path) -> Self | None:
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def survivors(self) -> list[Process]:
        """Processes of this child that still live: same session, same mark, not older."""
        return [
            process
            for process in session_members(self.pid)
            if process.start_ticks >= self.start_ticks
            and carries_mark(process.pid, _MARK, self.mark)
        ]

    def remove_shared_memory(self) -> None:
        if self.shared_memory:
            for path in _SHARED_MEMORY.glob(f"{self.shared_memory}*"):
                path.unlink(missing_ok=True)


class Child:
    """One running child; made by `Nursery.start`."""

    def __init__(
        self, spec: ChildSpec, process: subprocess.Popen[bytes], record: _Record, path: Path
    ) -> None:
        self._spec = spec
        self._process = process
        self._record = record
        self._path = path

    @property
    def pid(self) -> int:
        """Process id, which is also its group's and its session's."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended; it stays a zombie until `stop`, so its id is not used again."""
        if self._process.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    async def ended(self) -> None:
        """Wait until it has ended, however long that takes."""
        while not self.has_ended:  # noqa: ASYNC110 - the kernel tells by asking only
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """End it and everything of its group: SIGTERM, then SIGKILL after `stop_s`."""
        if self._process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended(), self._spec.stop_s)
        self._signal(signal.SIGKILL)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_gone(), _KILL_WAIT_S)
        self._process.poll()
        self._record.remove_shared_memory()
        self._path.unlink(missing_ok=True)

    async def _is_gone(self) -> None:
        """Wait until it and everything of its session has ended."""
        while session_members(self.pid):  # noqa: ASYNC110 - the kernel tells by asking only
            await asyncio.sleep(_POLL_S)

    def kill(self) -> None:
        """End it at once and without waiting."""
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Nursery:
    """Starts children and keeps their records under one folder.

    Args:
        run_dir: Where records lie; owned by one Turnpike process at a time.
        logs_dir: Where the children's output goes: one file each, and the one before.
    """

    def __init__(self, run_dir: Path, logs_dir: Path) -> None:
        self._run_dir = run_dir
        self._logs_dir = logs_dir
        self._running: dict[str, Child] = {}

    def log_path(self, name: str) -> Path:
        """Return where a child's output goes."""
        return self._logs_dir / f"{name}.log"

    def start(self, spec: ChildSpec) -> Child:
        """Start a child; to be called on the main thread, whose end the kernel watches.

        Raises:
            StartError: The launcher could not be run.
        """
        mark = secrets.token_hex(16)
        launcher = [sys.executable, "-I", "-S", child_launcher.__file__]
        arguments = [str(int(spec.death_signal)), str(os.getpid()), *spec.command]
        try:
            with self._open_log(spec.name) as log:
                process = subprocess.Popen(  # noqa: S603 - the command comes from Turnpike itself
                    [*launcher, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**spec.environment, _MARK: mark},
                    start_new_session=True,
                )
        except OSError as error:
            raise StartError(f"{spec.name} cannot be started: {error.strerror}.") from error
        return self._record(spec, process, mark)

    async def sweep(self) -> list[str]:
        """Remove what an earlier kill left, and return the names of what had still been running.

        Only processes whose session, start time and mark are the recorded ones are touched.
        """
        swept = []
        for path in sorted(self._run_dir.glob("*.child.json")):
            record = _Record.read(path)
            if record is not None and await _remove(record):
                swept.append(path.name.removesuffix(".child.json"))
            path.unlink(missing_ok=True)
        return swept

    def kill_all(self) -> None:
        """End every child at once; for the second Ctrl-C."""
        for child in self._running.values():
            child.kill()

    def _record(self, spec: ChildSpec, process: subprocess.Popen[bytes], mark: str) -> Child:
        found = find_process(process.pid)
        record = _Record(
            pid=process.pid,
            start_ticks=found.start_ticks if found else 0,
            mark=mark,
            shared_memory=spec.shared_memory.format(pid=process.pid),
        )
        path = self._run_dir / f"{spec.name}.child.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({name: getattr(record, name) for name in _Record.__slots__}))
        child = Child(spec, process, record, path)
        self._running[spec.name] = child
        return child

    def _open_log(self, name: str) -> BinaryIO:
        path = self.log_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        return path.open("wb")


@asynccontextmanager
async def open_child(
    nursery: Nursery,
    spec: ChildSpec,
    *,
    is_ready: Callable[[], Awaitable[bool]],
    ready_s: float,
    clock: Clock,
) -> AsyncIterator[Child]:
    """Start a child, wait until it is ready, and start it again when it dies; on exit it is gone.

    Raises:
        StartError: It ended, or was not ready within `ready_s`; its log's last line is told.
    """
    guard = _Guard(nursery, spec, clock)
    try:
        await guard.start(is_ready, ready_s)
        async with background(guard.run, name=f"child-{spec.name}"):
            yield guard.child
    finally:
        await guard.child.stop()


class _Guard:
    """Starts a child again when it dies, ever more slowly while it keeps dying."""

    def __init__(self, nursery: Nursery, spec: ChildSpec, clock: Clock) -> None:
        self._nursery = nursery
        self._spec = spec
        self._clock = clock
        self.child = nursery.start(spec)

    async def start(self, is_ready: Callable[[], Awaitable[bool]], ready_s: float) -> None:
        """Wait until the child is ready."""
        try:
            async with asyncio.timeout(ready_s):
                while not await is_ready():
                    if self.child.has_ended:
                        raise StartError(f"{self._spec.name} ended at once: {self._last_line()}")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            message = f"{self._spec.name} was not ready within {ready_s:g} s: {self._last_line()}"
            raise StartError(message) from error

    async def run(self) -> None:
        """Watch, and start again."""
        delay_s = _BACKOFF_FIRST_S
        while True:
            started_s = self._clock.monotonic_s()
            await self.child.ended()
            await self.child.stop()
            is_steady = self._clock.monotonic_s() - started_s >= _STEADY_S
            delay_s = _BACKOFF_FIRST_S if is_steady else min(2 * delay_s, _BACKOFF_MAX_S)
            _log.error("child_died", child=self._spec.name, restart_s=delay_s)
            await asyncio.sleep(delay_s)
            self.child = self._nursery.start(self._spec)

    def _last_line(self) -> str:
        path = self._nursery.log_path(self._spec.name)
        lines = path.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it wrote nothing."


async def _remove(record: _Record) -> bool:
    """Kill what lives of an earlier child; return whether anything did."""
    had_survivors = False
    for _ in range(round(_KILL_WAIT_S / _POLL_S)):
        survivors = record.survivors()
        if not survivors:
            break
        had_survivors = True
        for process in survivors:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await asyncio.sleep(_POLL_S)
    record.remove_shared_memory()
    return had_survivors
