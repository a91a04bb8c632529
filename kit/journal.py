"""A local append-only journal of one worker process.

What is appended survives the end of the process, however sudden; with `is_synced` and `sync` it
survives a power loss. A record that is no longer needed is released; a segment goes when all of
its records are. The next process finds what was left by `adopt_orphans`.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from kit.errors import Reason, TurnpikeError
from kit.journal_files import (
    Orphan,
    adopt_orphans,
    claim_new_set,
    lock_path,
    segment_path,
)
from kit.journal_segment import frame

__all__ = ["Journal", "JournalFullError", "Orphan", "Ticket", "adopt_orphans", "open_journal"]

Ticket: TypeAlias = int
"""Names a record's segment; given back once, to `release`."""

SEGMENT_BYTES: Final = 4 * 1024 * 1024
_IDLE_BYTES_MAX: Final = 64 * 1024
_RESERVE_SHARE: Final = 8
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND


class JournalFullError(TurnpikeError):
    """There is no room for a record, by the journal's bound or on the disk."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.JOURNAL_FULL, message)


class _Segment:
    """A file of records: how many bytes it has, how many of its records are still needed."""

    __slots__ = ("bytes", "is_torn", "live_count", "number", "path")

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.bytes = 0
        self.live_count = 0
        self.is_torn = False


class Journal:
    """Appends and releases records; for one thread, the event loop's."""

    def __init__(
        self,
        directory: Path,
        worker: str,
        *,
        bytes_max: int,
        segment_bytes: int = SEGMENT_BYTES,
        is_synced: bool = False,
    ) -> None:
        self._directory = directory
        self._worker = worker
        self._bytes_max = bytes_max
        self._idle_bytes_max = min(_IDLE_BYTES_MAX, bytes_max // _RESERVE_SHARE)
        self._segment_bytes = segment_bytes
        self._is_synced = is_synced
        self._segments: dict[int, _Segment] = {}
        self._live_bytes = 0
        self._live_count = 0
        self._appended_count = 0
        self._synced_count = 0
        self._sync_lock = asyncio.Lock()
        self._unsynced: list[int] = []
        self._has_sync_failed = False
        self._descriptor = -1
        self._active = self._open_segment(1)

    @property
    def live_count(self) -> int:
        """Records that were not released."""
        return self._live_count

    @property
    def live_bytes(self) -> int:
        """Bytes on disk: all of every segment that still holds a needed record, and the active."""
        return self._live_bytes

    @property
    def is_full(self) -> bool:
        """Whether to begin nothing new: the last eighth is for records of what was begun."""
        return self._live_bytes * _RESERVE_SHARE >= self._bytes_max * (_RESERVE_SHARE - 1)

    def append(self, payload: bytes) -> Ticket:
        """Write a record by one system call and return its ticket.

        Raises:
            JournalFullError: `bytes_max` would be passed, or the disk refuses; nothing is kept.
        """
        record = frame(payload)
        size = len(record)
        active = self._active
        if active.is_torn or (active.bytes and active.bytes + size > self._segment_bytes):
            active = self._rotate()
        if self._live_bytes + size > self._bytes_max:
            raise JournalFullError(
                f"The journal holds {self._live_bytes} of {self._bytes_max} bytes."
            )
        try:
            written = os.write(self._descriptor, record)
        except OSError as error:
            raise JournalFullError(f"The journal cannot be written: {error.strerror}.") from error
        if written != size:
            self._cut_back(active)
            raise JournalFullError("The disk has no room for the journal.")
        active.bytes += size
        active.live_count += 1
        self._live_bytes += size
        self._live_count += 1
        self._appended_count += 1
        return active.number

    def release(self, ticket: Ticket) -> None:
        """Say that a record is no longer needed.

        Raises:
            ValueError: The ticket's segment has no record that is still needed.
        """
        segment = self._segments.get(ticket)
        if segment is None or segment.live_count == 0:
            raise ValueError(f"Segment {ticket} has no record to release.")
        segment.live_count -= 1
        self._live_count -= 1
        if segment.live_count:
            return
        if segment is not self._active:
            self._remove(segment)
        elif segment.bytes > self._idle_bytes_max:
            self._empty(segment)

    async def sync(self) -> None:
        """Wait until what was appended so far is on the disk; calls at one time share an fsync.

        Does nothing unless the journal was opened with `is_synced`.

        Raises:
            JournalFullError: The disk refused.
        """
        wanted = self._appended_count
        if not self._is_synced:
            return
        async with self._sync_lock:
            if self._synced_count >= wanted:
                return
            if self._has_sync_failed:
                raise JournalFullError("An earlier sync of the journal failed.")
            covered, retired = self._appended_count, list(self._unsynced)
            try:
                await asyncio.to_thread(_sync_and_close, self._copies_to_sync())
            except OSError as error:
                # Linux forgets what it failed to write, so a repeat would succeed wrongly.
                self._has_sync_failed = True
                raise JournalFullError(
                    f"The journal cannot be synced: {error.strerror}."
                ) from error
            self._synced_count = covered
            for descriptor in retired:
                if descriptor in self._unsynced:
                    self._unsynced.remove(descriptor)
                    os.close(descriptor)

    def close(self) -> None:
        """Let go of the files; those without a needed record are deleted."""
        for descriptor in (*self._unsynced, self._descriptor):
            os.close(descriptor)
        self._unsynced, self._descriptor = [], -1
        for segment in list(self._segments.values()):
            if segment.live_count == 0:
                self._remove(segment)

    def _copies_to_sync(self) -> list[int]:
        copies = [os.dup(descriptor) for descriptor in (*self._unsynced, self._descriptor)]
        if self._unsynced or self._synced_count == 0:
            copies.append(os.open(self._directory, os.O_RDONLY))
        return copies

    def _rotate(self) -> _Segment:
        old, old_descriptor = self._active, self._descriptor
        try:
            self._active = self._open_segment(old.number + 1)
        except OSError as error:
            raise JournalFullError(f"The journal cannot grow: {error.strerror}.") from error
        if self._is_synced:
            self._unsynced.append(old_descriptor)
        else:
            os.close(old_descriptor)
        if old.live_count == 0:
            self._remove(old)
        return self._active

    def _open_segment(self, number: int) -> _Segment:
        segment = _Segment(segment_path(self._directory, self._worker, number), number)
        self._descriptor = os.open(segment.path, _FLAGS, 0o600)
        self._segments[number] = segment
        return segment

    def _remove(self, segment: _Segment) -> None:
        del self._segments[segment.number]
        self._live_bytes -= segment.bytes
        segment.path.unlink(missing_ok=True)

    def _empty(self, segment: _Segment) -> None:
        os.ftruncate(self._descriptor, 0)
        self._live_bytes -= segment.bytes
        segment.bytes = 0

    def _cut_back(self, segment: _Segment) -> None:
        try:
            os.ftruncate(self._descriptor, segment.bytes)
        except OSError:
            segment.is_torn = True


@contextmanager
def open_journal(
    directory: Path,
    *,
    bytes_max: int,
    segment_bytes: int = SEGMENT_BYTES,
    is_synced: bool = False,
) -> Iterator[Journal]:
    """Open a journal with files of its own in `directory`, which is made when missing.

    On exit the files go when every record was released; else they wait to be adopted.

    Args:
        directory: Shared by the workers of one machine; on a local disk, for `flock`'s sake.
        bytes_max: Most bytes on disk.
        segment_bytes: A segment that would grow beyond this is followed by a new one.
        is_synced: Whether `sync` makes records safe from a power loss.

    Raises:
        OSError: The directory cannot be written.
    """
    worker, lock = claim_new_set(directory)
    try:
        journal = Journal(
            directory,
            worker,
            bytes_max=bytes_max,
            segment_bytes=segment_bytes,
            is_synced=is_synced,
        )
        try:
            yield journal
        finally:
            journal.close()
            if journal.live_count == 0:
                lock_path(directory, worker).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _sync_and_close(descriptors: list[int]) -> None:
    try:
        for descriptor in descriptors:
            os.fsync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
