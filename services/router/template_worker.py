"""Renders clients' chat templates in a process that can be killed; see `template_pool`.

Run as a script, isolated and with an empty environment. The kernel bounds its memory and its CPU
time and ends it with its parent; files, processes and core dumps are not to be had. Jobs come as
frames (a little-endian uint32 and that much JSON) on standard input, results leave the same way;
what goes wrong is told by a word, because the text of an error may repeat a message.

Source: prctl(2), PR_SET_PDEATHSIG and PR_SET_NO_NEW_PRIVS; setrlimit(2).
"""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import BinaryIO, Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
_FAILED: Final = 127
_SIZE_BYTES: Final = 4
_OPEN_FILES_MAX: Final = 16


def main(arguments: list[str]) -> None:
    """Serve jobs until standard input ends.

    Args:
        arguments: Process id of the parent, most bytes of memory, most CPU seconds of a job.
    """
    parent_pid, memory_bytes, cpu_s = map(int, arguments)
    libc = ctypes.CDLL(None, use_errno=True)
    armed = libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if armed != 0 or os.getppid() != parent_pid:
        sys.exit(_FAILED)
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from services.router.template_engine import run_job  # noqa: PLC0415 - the path is set above

    _limit(memory_bytes)
    jobs, results = sys.stdin.buffer, sys.stdout.buffer
    while (job := _read(jobs)) is not None:
        _allow_cpu(cpu_s)
        result = run_job(job)
        results.write(len(result).to_bytes(_SIZE_BYTES, "little") + result)
        results.flush()


def _limit(memory_bytes: int) -> None:
    fixed = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES_MAX,
        resource.RLIMIT_NPROC: 0,
    }
    for kind, most in fixed.items():
        resource.setrlimit(kind, (most, most))


def _allow_cpu(cpu_s: int) -> None:
    """Let the next job use so much more; one that goes beyond is ended by the kernel."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = int(used.ru_utime + used.ru_stime) + 1 + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


def _read(jobs: BinaryIO) -> bytes | None:
    size = jobs.read(_SIZE_BYTES)
    return jobs.read(int.from_bytes(size, "little")) if len(size) == _SIZE_BYTES else None


if __name__ == "__main__":
    main(sys.argv[1:])
