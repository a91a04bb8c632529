"""Chance that can be replayed: draws that follow from a seed alone; pure.

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014): SplitMix64, and
Lemire, "Fast random integer generation in an interval" (2019): the product's upper half.
"""

import hashlib
from typing import Final

_MASK: Final = 2**64 - 1
_STEP: Final = 0x9E3779B97F4A7C15


def mixed(value: int) -> int:
    """Return 64 bits that depend on all bits of a value."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def spread(value: int) -> int:
    """Return 64 bits of a value that is random already: cheaper than `mixed`, enough to rank by.

    Source: Knuth, "The Art of Computer Programming", volume 3, section 6.4: multiplicative hashing.
    """
    return value * _STEP & _MASK


class Chance:
    """Draws, one after the other; two with the same seed draw the same."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def below(self, count: int) -> int:
        """Return one of 0 to `count` - 1, each as likely."""
        self._state = (self._state + _STEP) & _MASK
        return (mixed(self._state) * count) >> 64

    def two_of(self, count: int) -> tuple[int, int]:
        """Return two different ones of 0 to `count` - 1; `count` is at least 2."""
        one, other = self.below(count), self.below(count - 1)
        return one, other + (other >= one)


def name_hash(name: str) -> int:
    """Return 64 bits that stand for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def sticky_seed(account_id: str, key: str) -> bytes:
    """Return what stands for an account and its sticky key; neither can be told from it."""
    return hashlib.blake2b(f"{account_id}\0{key}".encode(), digest_size=8).digest()
