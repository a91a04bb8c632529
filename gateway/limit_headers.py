"""The X-RateLimit headers: what the limit that is nearest to its end says; pure.

Of several limits the tightest is the one with the smallest part left. `Remaining` is what this
gateway knows: its own share and what nobody held when auth was last asked. A limit of requests at
once has no window; its `Reset` is the earliest moment at which a repeat makes sense.
"""

from typing import NamedTuple


class Reading(NamedTuple):
    """One limit, what is left of it, and when it is whole again, Unix seconds."""

    limit: int
    left: int
    reset_unix_s: int

    def is_tighter_than(self, other: "Reading") -> bool:
        """Whether a smaller part of this limit is left."""
        return self.left * other.limit < other.left * self.limit


def tightest(one: Reading | None, other: Reading | None) -> Reading | None:
    """Return the tighter reading, the first one of equals."""
    if one is None or other is None:
        return one or other
    return other if other.is_tighter_than(one) else one


def limit_headers(reading: Reading) -> dict[str, str]:
    """Return the headers that a reading gives."""
    return {
        "X-RateLimit-Limit": str(reading.limit),
        "X-RateLimit-Remaining": str(reading.left),
        "X-RateLimit-Reset": str(reading.reset_unix_s),
    }
