"""Processes that render clients' chat templates: started on first use, killed when they are slow.

A worker that overruns its time, dies or is left in the middle of a job is killed, and the next job
gets a new one. Workers, waiting jobs and every wait are bounded; none of Turnpike's secrets is
within their reach: the environment is empty and what a worker gets is one request's messages.
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from kit.errors import Reason, TurnpikeError
from services.router.template_jobs import Job, Result, Trouble, decode_result, encode

_SCRIPT: Final = Path(__file__).with_name("template_worker.py")
_SIZE_BYTES: Final = 4
_RESULT_BYTES_PER_CHAR_MAX: Final = 6
_EXIT_S: Final = 5.0
_log = structlog.get_logger("router.template_pool")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateLimits:
    """What clients' templates may use; `wall_s` and `cpu_s` are for each job.

    `start_s` bounds the start of a worker, `waiting_max` how many jobs may wait for one.
    """

    wall_s: float = 1.0
    cpu_s: int = 1
    memory_bytes: int = 256 * 1024**2
    output_chars_max: int = 4 * 1024**2
    workers_max: int = 2
    waiting_max: int = 32
    start_s: float = 10.0


class _WorkerError(Exception):
    """The worker did not answer as it should; it has to go."""


class TemplateWorkers:
    """Renders clients' templates; opened by `open_template_workers`."""

    def __init__(self, limits: TemplateLimits) -> None:
        self.limits = limits
        self._free = asyncio.Semaphore(limits.workers_max)
        self._idle: list[Process] = []
        self._living: set[Process] = set()
        self._waiting_count = 0

    @property
    def living_count(self) -> int:
        """Workers that run now."""
        return sum(worker.returncode is None for worker in self._living)

    async def render(self, job: Job, *, deadline_s: float) -> str:
        """Return the prompt that a client's template makes.

        Args:
            job: What to render.
            deadline_s: Loop time after which a job does not wait for a worker any longer.

        Raises:
            TurnpikeError: INVALID_VALUE with `param` chat_template, OVERLOADED when no worker gets
                free, or UNAVAILABLE when none can be started.
        """
        if self._waiting_count >= self.limits.waiting_max:
            raise _overloaded()
        self._waiting_count += 1
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._free.acquire()
        except TimeoutError:
            raise _overloaded() from None
        finally:
            self._waiting_count -= 1
        try:
            result = await self._run(encode(job))
        finally:
            self._free.release()
        if result.trouble is Trouble.NONE:
            return result.text
        raise _invalid(self._sentence(result.trouble))

    async def close(self) -> None:
        """End every worker."""
        for worker in self._living:
            self._kill(worker)
        async with asyncio.timeout(_EXIT_S):
            for worker in self._living:
                await worker.wait()

    async def _run(self, job: bytes) -> Result:
        worker = self._idle.pop() if self._idle else None
        if worker is None or worker.returncode is not None:
            worker = await self._start()
        is_good = False
        try:
            async with asyncio.timeout(self.limits.wall_s):
                result = await self._ask(worker, job)
            is_good = True
        except (TimeoutError, _WorkerError):
            raise _invalid(
                f"chat_template needs more than {self.limits.wall_s:g} s, or more than it may have."
            ) from None
        finally:
            if is_good:
                self._idle.append(worker)
            else:
                self._kill(worker)
        return result

    async def _start(self) -> Process:
        """Start a worker and wait until it has rendered something."""
        limits = self.limits
        try:
            # The arguments are Turnpike's own.
            worker = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-B",
                str(_SCRIPT),
                str(os.getpid()),
                str(limits.memory_bytes),
                str(limits.cpu_s),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd="/",
                env={},
            )
        except OSError as error:
            raise self._not_started(error) from error
        self._living = {one for one in self._living if one.returncode is None} | {worker}
        is_good = False
        try:
            async with asyncio.timeout(limits.start_s):
                await self._ask(worker, encode(_FIRST_JOB))
            is_good = True
        except (TimeoutError, _WorkerError) as error:
            raise self._not_started(error) from error
        finally:
            if not is_good:
                self._kill(worker)
        return worker

    async def _ask(self, worker: Process, job: bytes) -> Result:
        """Exchange frames with a worker; whatever stops this leaves it unusable."""
        if worker.stdin is None or worker.stdout is None:
            raise _WorkerError
        try:
            worker.stdin.write(len(job).to_bytes(_SIZE_BYTES, "little") + job)
            await worker.stdin.drain()
            size = int.from_bytes(await worker.stdout.readexactly(_SIZE_BYTES), "little")
            if size > self.limits.output_chars_max * _RESULT_BYTES_PER_CHAR_MAX + 1024:
                raise _WorkerError
            return decode_result(await worker.stdout.readexactly(size))
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise _WorkerError from error

    def _kill(self, worker: Process) -> None:
        """End a worker at once; the loop reaps it, and it counts as living until then."""
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.returncode is None:
            worker.kill()

    def _not_started(self, error: Exception) -> TurnpikeError:
        _log.error("template_worker_not_started", why=type(error).__name__)
        return TurnpikeError(
            Reason.UNAVAILABLE, "Chat templates cannot be rendered now.", retry_after_s="5"
        )

    def _sentence(self, trouble: Trouble) -> str:
        if trouble is Trouble.TOO_LONG:
            return f"chat_template writes more than {self.limits.output_chars_max} characters."
        if trouble is Trouble.REFUSED:
            return "chat_template refuses the messages."
        return "chat_template is broken, or does not fit the messages."


_FIRST_JOB: Final = Job(
    source="", messages=[], named={}, bos_token="", eos_token="", unix_s=0, chars_max=1
)


@asynccontextmanager
async def open_template_workers(limits: TemplateLimits) -> AsyncIterator[TemplateWorkers]:
    """Open the pool; no process is started before the first job, and none outlives it."""
    workers = TemplateWorkers(limits)
    try:
        yield workers
    finally:
        await workers.close()


def _invalid(message: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, message, param="chat_template")


def _overloaded() -> TurnpikeError:
    return TurnpikeError(
        Reason.OVERLOADED, "Too many chat templates are being rendered.", retry_after_s="1"
    )
