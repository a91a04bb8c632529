"""The journal's files: a lock file per worker, numbered segments beside it, and who holds them.

A worker's set is `<worker>.lock` and `<worker>.<number>.segment`. The lock is `flock` on the lock
file and ends with the process, however that ends. A process that is forked without exec shares it.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kit.journal_segment import read_frames

_LOCK: Final = ".lock"
_SEGMENT: Final = ".segment"
_CLAIMS_MAX: Final = 100


def claim_new_set(directory: Path) -> tuple[str, int]:
    """Make and lock a new file set; return its name and the descriptor that holds the lock.

    Raises:
        OSError: The directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for _ in range(_CLAIMS_MAX):
        worker = secrets.token_hex(8)
        path = lock_path(directory, worker)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        # One who adopts orphans may have seen the file before it was locked, and removed it.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(path, descriptor):
            return worker, descriptor
        os.close(descriptor)
    raise OSError(f"{directory} gave no lock of its own in {_CLAIMS_MAX} attempts.")


def lock_path(directory: Path, worker: str) -> Path:
    """Return where a worker's lock lies."""
    return directory / f"{worker}{_LOCK}"


def segment_path(directory: Path, worker: str, number: int) -> Path:
    """Return where a worker's segment lies; names sort as their numbers do."""
    return directory / f"{worker}.{number:012d}{_SEGMENT}"


class Orphan:
    """A dead worker's file set, held by this process until it is discarded or closed."""

    def __init__(self, directory: Path, worker: str, descriptor: int) -> None:
        self.worker = worker
        self._lock = lock_path(directory, worker)
        self._descriptor = descriptor
        self._segments = sorted(directory.glob(f"{worker}.*{_SEGMENT}"))
        self.skipped_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether the worker left no segment."""
        return not self._segments

    def records(self) -> Iterator[bytes]:
        """Yield the payloads in the order they were appended.

        A segment is read up to its first torn or changed record; `skipped_bytes` counts what lay
        behind it, over all segments, once the iteration is through. Records that were released
        come too while their segment lives: the reader must be able to meet them again.
        """
        self.skipped_bytes = 0
        for path in self._segments:
            data = path.read_bytes()
            payloads, read_bytes = read_frames(data)
            self.skipped_bytes += len(data[read_bytes:].rstrip(b"\0"))
            yield from payloads

    def discard(self) -> None:
        """Delete the files, the lock last, and let go of them."""
        for path in self._segments:
            path.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go without deleting; the next one who looks adopts what is left."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def adopt_orphans(directory: Path) -> list[Orphan]:
    """Take over every file set whose process has gone; no two processes get the same one.

    The caller discards each orphan once its records are dealt with. Sets of living processes,
    this one included, are left alone.
    """
    orphans = []
    for path in sorted(directory.glob(f"*{_LOCK}")):
        descriptor = _try_lock(path)
        if descriptor is None:
            continue
        orphan = Orphan(directory, path.name.removesuffix(_LOCK), descriptor)
        if orphan.is_empty:
            orphan.discard()
        else:
            orphans.append(orphan)
    return orphans


def _try_lock(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if _is_at(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))
