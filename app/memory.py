"""How this process asks its allocator and its collector to hold little."""

import ctypes
import gc
from typing import Final

_M_ARENA_MAX: Final = -8
"""Source: glibc, malloc.h."""
_ARENAS_MAX: Final = 2
_GC_THRESHOLDS: Final = (5_000, 10, 10)
"""Collections at every 700 objects find nothing; what is in a cycle still must not wait long.

A finished stream that a cycle keeps holds some 30 KiB outside the collector's count.
"""


def bound_arenas() -> None:
    """Let all threads share two heaps: one for each thread would keep what its bursts took."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS_MAX)


def settle_memory() -> None:
    """Take what start-up made out of the collector's sight, and give back what it left free.

    What is there now lives as long as the process.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
