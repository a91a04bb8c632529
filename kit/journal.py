"""A local append-only journal of one worker process.

What is appended survives the end of the process, however sudden; with `is_synced` and `sync` it
survives a power loss. A record that is no longer needed is released; a segment goes when all of
its records are. The next process finds what was left by `adopt_orphans`.

Records are written into mapped files whose room on the disk was taken before: no system call and
no other thread comes between, and a disk without room is noticed before anything depends on it.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
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
from kit.journal_segment import HEADER, write_frame

__all__ = ["Journal", "JournalFullError", "Orphan", "Ticket", "adopt_orphans", "open_journal"]

Ticket: TypeAlias = int
"""Names a record's segment; given back once, to `release`."""

SEGMENT_BYTES: Final = 4 * 1024 * 1024
_IDLE_BYTES_MAX: Final = 64 * 1024
_STEP_BYTES: Final = 256 * 1024
_RESERVE_SHARE: Final = 8
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL


class JournalFullError(TurnpikeError):
    """There is no room for a record, by the journal's bound or on the disk."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.JOURNAL_FULL, message)


class _Segment:
    """A file of records: how many bytes it has, how many of its records are still needed.

    While it is written it is mapped and has room for more; then it is cut to what it holds.
    """

    __slots__ = ("bytes", "descriptor", "live_count", "number", "path", "room", "room_bytes")

    def __init__(self, path: Path, number: int, room_bytes: int) -> None:
        self.path = path
        self.number = number
        self.bytes = 0
        self.live_count = 0
        self.room_bytes = room_bytes
        self.descriptor = os.open(path, _FLAGS, 0o600)
        try:
            os.posix_fallocate(self.descriptor, 0, room_bytes)
            self.room = mmap(self.descriptor, room_bytes)
        except OSError:
            os.close(self.descriptor)
            path.unlink(missing_ok=True)
            raise

    def grow(self, room_bytes: int) -> None:
        """Take more room on the disk.

        Raises:
            OSError: There is none; nothing has changed.
        """
        os.posix_fallocate(self.descriptor, 0, room_bytes)
        self.room.resize(room_bytes)
        self.room_bytes = room_bytes

    def empty(self, room_bytes: int) -> None:
        """Forget every record and keep at most `room_bytes`."""
        self.room[: self.bytes] = bytes(self.bytes)
        self.bytes = 0
        if self.room_bytes > room_bytes:
            self.room.resize(room_bytes)
            self.room_bytes = room_bytes

    def seal(self) -> int:
        """Write no more; returns the open descriptor."""
        self.room.close()
        os.ftruncate(self.descriptor, self.bytes)
        return self.descriptor


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
        self._active = self._open_segment(1, 0)

    @property
    def live_count(self) -> int:
        """Records that were not released."""
        return self._live_count

    @property
    def live_bytes(self) -> int:
        """Bytes of records: of every segment that still holds a needed one, and the active."""
        return self._live_bytes

    @property
    def is_full(self) -> bool:
        """Whether to begin nothing new: the last eighth is for records of what was begun."""
        return self._live_bytes * _RESERVE_SHARE >= self._bytes_max * (_RESERVE_SHARE - 1)

    def append(self, payload: bytes) -> Ticket:
        """Write a record and return its ticket.

        Raises:
            JournalFullError: `bytes_max` would be passed, or the disk refuses; nothing is kept.
        """
        size = HEADER.size + len(payload)
        if self._live_bytes + size > self._bytes_max:
            raise JournalFullError(
                f"The journal holds {self._live_bytes} of {self._bytes_max} bytes."
            )
        active = self._active
        if active.bytes + size > active.room_bytes:
            active = self._make_room(size)
        active.bytes = write_frame(active.room, active.bytes, payload)
        active.live_count += 1
        self._live_bytes += size
        self._live_count += 1
        self._appended_count += 1
        return active.number

    def release(self, ticket: Ticket, count: int = 1) -> None:
        """Say that `count` records with this ticket are no longer needed.

        Raises:
            ValueError: The ticket's segment has fewer records that are still needed.
        """
        segment = self._segments.get(ticket)
        if segment is None or segment.live_count < count:
            raise ValueError(f"Segment {ticket} has no record to release.")
        segment.live_count -= count
        self._live_count -= count
        if segment.live_count:
            return
        if segment is not self._active:
            self._remove(segment)
        elif segment.bytes > self._idle_bytes_max:
            self._live_bytes -= segment.bytes
            segment.empty(self._room_bytes(0))

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
        for descriptor in (*self._unsynced, self._active.seal()):
            os.close(descriptor)
        self._unsynced = []
        for segment in list(self._segments.values()):
            if segment.live_count == 0:
                self._remove(segment)

    def _copies_to_sync(self) -> list[int]:
        copies = [os.dup(descriptor) for descriptor in (*self._unsynced, self._active.descriptor)]
        if self._unsynced or self._synced_count == 0:
            copies.append(os.open(self._directory, os.O_RDONLY))
        return copies

    def _make_room(self, size: int) -> _Segment:
        """Return a segment with room for `size` bytes: the active one, grown, or the next."""
        active = self._active
        needed = active.bytes + size
        try:
            if active.bytes and needed > self._segment_bytes:
                return self._rotate(size)
            active.grow(self._room_bytes(needed))
        except OSError as error:
            raise JournalFullError(f"The journal cannot grow: {error.strerror}.") from error
        return active

    def _room_bytes(self, needed: int) -> int:
        """Return how much room to take for `needed` bytes: whole steps, at most a segment's."""
        steps = -(-needed // _STEP_BYTES) or 1
        return max(needed, min(steps * _STEP_BYTES, self._segment_bytes))

    def _rotate(self, size: int) -> _Segment:
        old = self._active
        self._active = self._open_segment(old.number + 1, size)
        descriptor = old.seal()
        if self._is_synced:
            self._unsynced.append(descriptor)
        else:
            os.close(descriptor)
        if old.live_count == 0:
            self._remove(old)
        return self._active

    def _open_segment(self, number: int, needed: int) -> _Segment:
        path = segment_path(self._directory, self._worker, number)
        segment = _Segment(path, number, self._room_bytes(needed))
        self._segments[number] = segment
        return segment

    def _remove(self, segment: _Segment) -> None:
        del self._segments[segment.number]
        self._live_bytes -= segment.bytes
        segment.path.unlink(missing_ok=True)


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
        bytes_max: Most bytes of records; a step of room for more comes on top on the disk.
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
