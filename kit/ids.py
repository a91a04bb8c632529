"""Identifiers: UUID version 7 for everything that is created, version 5 for names."""

import os
import threading
import uuid
from typing import Final

_NAMESPACE: Final = uuid.UUID("0192d3a0-7c00-7000-8000-7475726e7069")
_RAND_A_MAX: Final = 0xFFF
_RANDOM_BYTES: Final = 8
_POOL_BYTES: Final = 512 * _RANDOM_BYTES


class Uuid7Source:
    """Makes UUIDv7 strings that grow strictly within this process.

    The 12 bits after the millisecond count identifiers of the same millisecond; when they run out
    the clock is taken as one millisecond later. Source: RFC 9562, sections 5.7 and 6.2 method 1.
    """

    def __init__(self) -> None:
        self._last_ms = 0
        self._counter = 0
        self._lock = threading.Lock()
        # One system call for many identifiers: each would let another thread in.
        self._pool = b""
        self._used = 0

    def new(self, unix_ms: int) -> str:
        """Return a new identifier for the given Unix time in milliseconds."""
        with self._lock:
            if unix_ms > self._last_ms:
                self._last_ms = unix_ms
                self._counter = 0
            else:
                self._counter += 1
                if self._counter > _RAND_A_MAX:
                    self._last_ms += 1
                    self._counter = 0
            milliseconds, counter = self._last_ms, self._counter
            if self._used == len(self._pool):
                self._pool, self._used = os.urandom(_POOL_BYTES), 0
            drawn = self._pool[self._used : self._used + _RANDOM_BYTES]
            self._used += _RANDOM_BYTES
        time, tail = f"{milliseconds:012x}", drawn.hex()
        variant = "89ab"[drawn[0] >> 6]
        return f"{time[:8]}-{time[8:]}-7{counter:03x}-{variant}{tail[1:4]}-{tail[4:]}"


def name_id(kind: str, name: str) -> str:
    """Return the UUIDv5 of a name, stable for ever; `kind` keeps namespaces apart."""
    return str(uuid.uuid5(_NAMESPACE, f"{kind}:{name}"))
