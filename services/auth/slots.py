"""Slots: a key's limit of requests at once, held in parts by gateway workers.

Pure. A slot is a holder's from the moment it was granted until the holder gives it up or is dead.
A holder counts its time from before it showed a sign of life, whoever judges it from when that
sign was first seen, each by a monotonic clock of its own: so nobody's slots are granted anew while
it may still use them, whatever the clocks say, and over any number of grantors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from services.auth.limits import share_of


@dataclass(frozen=True, slots=True)
class SlotsAsk:
    """What a holder keeps of its slots and needs beyond them.

    Of two asks the one with the greater `sequence` is the newer one.
    """

    holder_id: str
    sequence: int
    kept: int
    needed: int


@dataclass(frozen=True, slots=True)
class SlotTerms:
    """The limit, 0 for none, and the gateway replicas among which what is free is divided."""

    limit: int
    replicas: int


class HolderStep(Enum):
    """What a holder says of itself: that it begins, goes on or ends."""

    BEGIN = auto()
    RENEW = auto()
    END = auto()


class Slots(NamedTuple):
    """All that a holder has after its ask, and what nobody has; `given_up` are free since."""

    held: int
    free: int
    given_up: int = 0


def divide(terms: SlotTerms, ask: SlotsAsk, *, own: int, others: int) -> Slots:
    """Answer an ask of a holder that has `own` slots, while all others have `others`.

    A holder keeps what it has even when the limit has become smaller. Part of what it needs is
    better than nothing; a share of what is free saves it from asking for each request.
    """
    if not terms.limit:
        return Slots(ask.kept + ask.needed, 0)
    kept = min(ask.kept, own)
    free = max(0, terms.limit - others - kept)
    more = 0
    if ask.needed:
        more = min(free, share_of(free, needed=ask.needed, replicas=terms.replicas))
    return Slots(kept + more, free - more, max(0, own - kept))


class Sign(NamedTuple):
    """A holder's sign of life: a number that grows, and the time it was promised for it."""

    beat: int
    lease_ms: int


class Sightings:
    """When each holder's newest sign of life was first seen here, monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Sign, float]] = {}

    def see(self, signs: Mapping[str, Sign], now_s: float) -> None:
        """Note the sign of life of every holder there is; all others are forgotten."""
        self._seen = {
            holder_id: self._older(holder_id, sign) or (sign, now_s)
            for holder_id, sign in signs.items()
        }

    def note(self, holder_id: str, sign: Sign, now_s: float) -> None:
        """Note one holder's sign of life."""
        self._seen[holder_id] = self._older(holder_id, sign) or (sign, now_s)

    def dead(self, now_s: float) -> list[str]:
        """Return the holders that have shown no newer sign for as long as they were promised."""
        return [
            holder_id
            for holder_id, (sign, seen_s) in self._seen.items()
            if now_s - seen_s >= sign.lease_ms / 1000
        ]

    def _older(self, holder_id: str, sign: Sign) -> tuple[Sign, float] | None:
        known = self._seen.get(holder_id)
        return known if known is not None and known[0] == sign else None
