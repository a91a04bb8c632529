"""The file outside the database that keeps every signed root: JSON lines, flushed to the disk.

Nothing here knows what a line says. A line that a crash cut off is taken away when the file is
opened; its root is in the database and is appended again.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

_BLOCK_BYTES: Final = 64 * 1024
_OWNER_ONLY: Final = 0o600


class RootsFile:
    """A file of lines; its methods block and are called in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def heal(self) -> str:
        """Take away a line that is cut off and return the last whole one; empty without any."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, _OWNER_ONLY)
        with os.fdopen(descriptor, "r+b") as file:
            end = _after_last_line(file, file.seek(0, os.SEEK_END))
            file.truncate(end)
            os.fsync(file.fileno())
            if not end:
                return ""
            start = _after_last_line(file, end - 1)
            file.seek(start)
            return file.read(end - start).decode(errors="replace").rstrip("\n")

    def append(self, line: str) -> None:
        """Add a line and wait until the disk has it."""
        with self._path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self, *, offset: int, count_max: int, line_bytes_max: int) -> tuple[list[str], int]:
        """Return whole lines from a byte on and where the next one begins; no file has none."""
        if not self._path.exists():
            return [], offset
        lines: list[str] = []
        with self._path.open("rb") as file:
            file.seek(offset)
            while len(lines) < count_max:
                line = file.readline(line_bytes_max + 2)
                if not line or (not line.endswith(b"\n") and len(line) <= line_bytes_max):
                    break
                lines.append(line.decode(errors="replace").rstrip("\n"))
                offset += len(line)
        return lines, offset


def _after_last_line(file: BinaryIO, end: int) -> int:
    """Return where the last end of a line before `end` is over; 0 when there is none."""
    for start in _blocks(end):
        file.seek(start)
        found = file.read(min(_BLOCK_BYTES, end - start)).rfind(b"\n")
        if found >= 0:
            return start + found + 1
    return 0


def _blocks(end: int) -> Iterator[int]:
    while end > 0:
        end = max(0, end - _BLOCK_BYTES)
        yield end
