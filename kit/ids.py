"""Identifiers: UUID version 7 for everything that is created, version 5 for names."""

import os
import re
import threading
import uuid
from typing import Final

OPERATOR_ID: Final = "operator"
"""Stands for an account in what is used and nobody is charged for: the operator bears it."""

_NAMESPACE: Final = uuid.UUID("0192d3a0-7c00-7000-8000-7475726e7069")
_RAND_A_MAX: Final = 0xFFF
_RANDOM_BYTES: Final = 8
_VARIANTS: Final = "89ab"
_POOL_BYTES: Final = 512 * _RANDOM_BYTES


class Uuid7Source:
    """Makes UUIDv7 strings that grow strictly within this process.

    The 12 bits after the millisecond count identifiers of the same millisecond; when they run out
    the clock is taken as one millisecond later. Source: RFC 9562, sections 5.7 and 6.2 method 1.
    """

    def __init__(self) -> None:
        self._last_ms = 0
        self._counter = 0
        self._head = ""
        self._lock = threading.Lock()
        # One system call for many identifiers: each would let another thread in.
        self._pool = b""
        self._used = 0

    def new(self, unix_ms: int) -> str:
        """Return a new identifier for the given Unix time in milliseconds."""
        with self._lock:
            self._counter += 1
            if unix_ms > self._last_ms:
                self._begin(unix_ms)
            elif self._counter > _RAND_A_MAX:
                self._begin(self._last_ms + 1)
            head, counter = self._head, self._counter
            if self._used == len(self._pool):
                self._pool, self._used = os.urandom(_POOL_BYTES), 0
            drawn = self._pool[self._used : self._used + _RANDOM_BYTES]
            self._used += _RANDOM_BYTES
        tail = drawn.hex()
        return f"{head}{counter:03x}-{_VARIANTS[drawn[0] >> 6]}{tail[1:4]}-{tail[4:]}"

    def _begin(self, unix_ms: int) -> None:
        time = f"{unix_ms:012x}"
        self._last_ms, self._counter, self._head = unix_ms, 0, f"{time[:8]}-{time[8:]}-7"


_FORM: Final = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)


def uuid7_unix_ms(text: str) -> int | None:
    """Return when a UUIDv7 in lower case was made, Unix milliseconds; None for what is none."""
    form = _FORM.fullmatch(text)
    return int(form[1] + form[2], 16) if form else None


def name_id(kind: str, name: str) -> str:
    """Return the UUIDv5 of a name, stable for ever; `kind` keeps namespaces apart."""
    return str(uuid.uuid5(_NAMESPACE, f"{kind}:{name}"))
