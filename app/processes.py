"""What `/proc` says about processes: who is alive, since when, in which session, with which mark.

Linux only, like the parent-death signal that children rely on. A process that ends while it is
looked at is simply not there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_STATE_AT: Final = 0
_SESSION_AT: Final = 3
_START_AT: Final = 19


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the kernel names it: an id may be used again, id and start time may not.

    `start_ticks` is clock ticks since boot.
    """

    pid: int
    session_id: int
    start_ticks: int


def find_process(pid: int) -> Process | None:
    """Return the process, or None when there is none or it only waits to be reaped.

    Source: proc_pid_stat(5); the command name may hold spaces and brackets, so fields count from
    the last bracket.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    if fields[_STATE_AT] in {"Z", "X"}:
        return None
    return Process(pid, int(fields[_SESSION_AT]), int(fields[_START_AT]))


def session_members(session_id: int) -> list[Process]:
    """Return the living processes of a session."""
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    found = (find_process(pid) for pid in pids)
    return [process for process in found if process and process.session_id == session_id]


def carries_mark(pid: int, name: str, value: str) -> bool:
    """Return whether the process was started with `name=value` in its environment."""
    try:
        environment = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return f"{name}={value}".encode() in environment.split(b"\0")
