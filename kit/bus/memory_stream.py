"""A stream in memory with durable readers, behaving as JetStream's; time comes from a clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from kit.bus.limits import ACK_PENDING_MAX, ACK_WAIT_S
from kit.bus.port import BusUnavailableError, StreamSpec


@dataclass(frozen=True, slots=True)
class Stored:
    """A message of the stream."""

    seq: int
    subject: str
    data: bytes
    stored_s: float


@dataclass(slots=True)
class Pending:
    """A message that was handed out `count` times and is due again at `due_s`."""

    due_s: float
    count: int


@dataclass(slots=True)
class DurableState:
    """How far a durable name has come."""

    next_seq: int = 1
    pending: dict[int, Pending] = field(default_factory=dict)


class MemoryStream:
    """Messages in order, their ids, and the durables that read them."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self._messages: dict[int, Stored] = {}
        self._ids: dict[str, Stored] = {}
        self._durables: dict[str, DurableState] = {}
        self._last_seq = 0
        self._bytes = 0

    def covers(self, subject: str) -> bool:
        """Return whether the stream takes messages of a subject."""
        return any(is_match(pattern, subject) for pattern in self.spec.subjects)

    def store(self, subject: str, data: bytes, *, message_id: str, now_s: float) -> int:
        """Keep a message and return its position; a repeated id returns the first one's.

        Raises:
            BusUnavailableError: The stream is full.
        """
        self._expire(now_s)
        known = self._ids.get(message_id) if message_id else None
        if known is not None:
            return known.seq
        if self._bytes + len(data) > self.spec.bytes_max:
            raise BusUnavailableError("The stream is full: maximum bytes exceeded.")
        self._last_seq += 1
        message = Stored(self._last_seq, subject, data, now_s)
        self._messages[message.seq] = message
        self._bytes += len(data)
        if message_id:
            self._ids[message_id] = message
        return message.seq

    def durable(self, name: str) -> DurableState:
        """Return the state of a durable name, a new one at the stream's start."""
        return self._durables.setdefault(name, DurableState())

    def hand_out(
        self, state: DurableState, *, count_max: int, now_s: float
    ) -> list[tuple[Stored, int]]:
        """Return messages that are due, with how often each was handed out, and note it."""
        self._expire(now_s)
        handed: list[tuple[Stored, int]] = []
        for seq in islice(self._due(state, now_s), count_max):
            entry = state.pending.setdefault(seq, Pending(0.0, 0))
            entry.count += 1
            entry.due_s = now_s + ACK_WAIT_S
            handed.append((self._messages[seq], entry.count))
        return handed

    def _due(self, state: DurableState, now_s: float) -> Iterable[int]:
        for seq in sorted(state.pending):
            entry = state.pending[seq]
            if seq not in self._messages:
                del state.pending[seq]
            elif entry.due_s <= now_s:
                yield seq
        while state.next_seq <= self._last_seq and len(state.pending) < ACK_PENDING_MAX:
            seq = state.next_seq
            state.next_seq += 1
            if seq in self._messages:
                yield seq

    def _expire(self, now_s: float) -> None:
        while self._ids:
            message_id, message = next(iter(self._ids.items()))
            if now_s - message.stored_s <= self.spec.duplicate_window_s:
                break
            del self._ids[message_id]
        while self._messages:
            message = next(iter(self._messages.values()))
            if now_s - message.stored_s <= self.spec.age_max_s:
                break
            del self._messages[message.seq]
            self._bytes -= len(message.data)


def is_match(pattern: str, subject: str) -> bool:
    """Return whether a subject matches: `*` is one token, a last `>` one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
        del given[len(wanted) :]
    return len(wanted) == len(given) and all(
        want in ("*", have) for want, have in zip(wanted, given, strict=True)
    )
