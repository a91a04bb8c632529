"""Merkle trees over receipts, and the proof that one is in a tree. Pure.

Source: RFC 6962 section 2.1 (read 2026-11-20): a leaf is hashed behind a byte 0x00, a node behind
0x01, and a tree that is not full is split at the largest power of two below its size.
"""

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of what is above two hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows at its end; it keeps one hash for each full subtree and no leaf."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._full: list[tuple[int, bytes]] = []
        self.size = 0
        for data in leaves:
            self.add(data)

    def add(self, data: bytes) -> None:
        """Add a leaf."""
        size, found = 1, leaf_hash(data)
        while self._full and self._full[-1][0] == size:
            _, left = self._full.pop()
            size, found = 2 * size, node_hash(left, found)
        self._full.append((size, found))
        self.size += 1

    def root(self) -> bytes:
        """Return the hash over all leaves."""
        if not self._full:
            return EMPTY_ROOT
        found = self._full[-1][1]
        for _, left in reversed(self._full[:-1]):
            found = node_hash(left, found)
        return found


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaves."""
    return Tree(leaves).root()


class Proofs:
    """A whole tree in memory, for the paths of its leaves."""

    def __init__(self, leaves: Iterable[bytes]) -> None:
        level = [leaf_hash(data) for data in leaves]
        self._levels = [level]
        while len(level) > 1:
            pairs = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
            # What has no neighbour moves up as it is: that is where RFC 6962 splits.
            level = pairs + level[2 * len(pairs) :]
            self._levels.append(level)

    def path(self, index: int) -> list[bytes]:
        """Return the hashes that lead from one leaf to the root, those next to it first."""
        path = []
        for level in self._levels:
            if index ^ 1 < len(level):
                path.append(level[index ^ 1])
            index //= 2
        return path


def root_by(data: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a path leads to; None when it does not fit a tree of this size."""
    turns: list[bool] = []
    start, end = 0, size
    if not 0 <= index < size:
        return None
    while end - start > 1:
        middle = start + _split(end - start)
        is_left = index < middle
        turns.append(is_left)
        start, end = (start, middle) if is_left else (middle, end)
    if len(turns) != len(path):
        return None
    found = leaf_hash(data)
    for is_left, other in zip(reversed(turns), path, strict=True):
        found = node_hash(found, other) if is_left else node_hash(other, found)
    return found


def _split(size: int) -> int:
    """Return the largest power of two below a size of at least two."""
    return 1 << (size - 1).bit_length() - 1
