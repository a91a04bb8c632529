"""What models want back with the next turn, kept for the clients that drop it.

It is sealed for its account and its tool call and lies on the bus for all routers; what this one
has had in hand lately is in memory. Kept off the request's path: what cannot be stored in time is
dropped and counted. Nothing of it is ever logged.
"""

import asyncio
import hashlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from kit.bus.port import Bucket, BucketSpec, Bus, BusUnavailableError, ValueTooBigError
from kit.clock import Clock
from kit.sealed import KeyRing, Sealed, SealError, context_of
from services.router.providers.port import Asked, Keep
from services.router.providers.turn_gaps import TurnId, read_gaps, turn_id
from services.router.providers.turn_state import TurnState, WantsBack, decode_state

BUCKET_NAME: Final = "TURNS"
LOOKUP_S: Final = 0.05
"""Longest wait for what other routers kept; then a request goes without."""

LOOKUPS_MAX: Final = 64
"""Messages of one request whose state is looked up, the latest ones."""

STATE_BYTES_MAX: Final = 384 * 1024
"""Longest state of one answer; a longer one is not kept."""

QUEUE_MAX: Final = 1024
QUEUE_BYTES_MAX: Final = 32 * 1024**2
"""What may wait to be stored; more is dropped."""

CACHE_BYTES_MAX: Final = 16 * 1024**2
"""What is kept in memory."""

_STORE_S: Final = 2.0
_STORES_AT_ONCE: Final = 16
_ENTRY_BYTES: Final = 256
_PURPOSE: Final = "turn"


class _Owner(NamedTuple):
    """Whose state of which turn."""

    account_id: str
    turn: TurnId

    @property
    def context(self) -> bytes:
        return context_of(_PURPOSE, self.account_id, *self.turn)

    @property
    def key(self) -> str:
        return hashlib.sha256(self.context).hexdigest()


class _Waiting(NamedTuple):
    owner: _Owner
    state: bytes


class _Cache:
    """States by key as JSON, each for a time; the longest unused goes first."""

    def __init__(self, *, ttl_s: float, clock: Clock) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        state, until_s = entry
        if self._clock.monotonic_s() >= until_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return state

    def put(self, key: str, state: bytes) -> None:
        self._drop(key)
        self._entries[key] = state, self._clock.monotonic_s() + self._ttl_s
        self._bytes += len(state) + _ENTRY_BYTES
        while self._bytes > CACHE_BYTES_MAX:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry[0]) + _ENTRY_BYTES


class TurnStates:
    """Keeps what answers said, and finds it again.

    `counts` are states by what became of them: `stored`, or `too_big`, `dropped` when the queue was
    full or NATS away; `recalled`, `missing`, `late`, or `unreadable` with the keys at hand.
    """

    def __init__(self, bus: Bus, *, spec: BucketSpec, ring: KeyRing, clock: Clock) -> None:
        self._bus = bus
        self._bucket: Bucket = bus.bucket(spec)
        self._ring = ring
        self._cache = _Cache(ttl_s=spec.ttl_s, clock=clock)
        self._queue: deque[_Waiting] = deque()
        self._queue_bytes = 0
        self._wake = asyncio.Event()
        self.counts: Counter[tuple[str, ...]] = Counter()

    async def prepared(self, account_id: str, asked: Asked, wanted: WantsBack) -> Asked:
        """Return an attempt that keeps what its answer says, with what earlier ones said put in.

        `wanted` is what its provider wants.
        """
        call, body = asked
        messages = bytes(body.get("messages", b""))
        if "tools" in body:
            call = call._replace(keep=self._keeper(account_id, messages))
        if (transcript := read_gaps(messages, wanted)) is None:
            return Asked(call, body)
        turns = dict.fromkeys(gap.turn for gap in reversed(transcript.gaps))
        states = await self._found(account_id, islice(turns, LOOKUPS_MAX))
        if (filled := transcript.filled(states)) is not None:
            body = {**body, "messages": filled}
        return Asked(call, body)

    async def run(self) -> None:
        """Store what was kept, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                taken = [self._taken() for _ in range(min(len(self._queue), _STORES_AT_ONCE))]
                async with asyncio.TaskGroup() as group:
                    for waiting in taken:
                        group.create_task(self._store(waiting))

    def _keeper(self, account_id: str, messages: bytes) -> Keep:
        return partial(self._keep, account_id, messages)

    def _keep(self, account_id: str, messages: bytes, call_id: str, state: TurnState) -> None:
        turn, encoded = turn_id(messages, call_id), state.encoded()
        if turn is None:
            return
        if len(encoded) > STATE_BYTES_MAX:
            self.counts["too_big",] += 1
            return
        owner = _Owner(account_id, turn)
        self._cache.put(owner.key, encoded)
        if len(self._queue) >= QUEUE_MAX or self._queue_bytes + len(encoded) > QUEUE_BYTES_MAX:
            self.counts["dropped",] += 1
            return
        self._queue.append(_Waiting(owner, encoded))
        self._queue_bytes += len(encoded)
        self._wake.set()

    def _taken(self) -> _Waiting:
        waiting = self._queue.popleft()
        self._queue_bytes -= len(waiting.state)
        return waiting

    async def _store(self, waiting: _Waiting) -> None:
        owner, state = waiting
        sealed = self._ring.seal(state, context=owner.context)
        try:
            await self._bucket.put(owner.key, sealed.to_bytes(), timeout_s=_STORE_S)
        except (BusUnavailableError, ValueTooBigError):
            self.counts["dropped",] += 1
        else:
            self.counts["stored",] += 1

    async def _found(self, account_id: str, turns: Iterable[TurnId]) -> dict[TurnId, TurnState]:
        found: dict[TurnId, TurnState] = {}
        async with asyncio.TaskGroup() as group:
            for turn in turns:
                owner = _Owner(account_id, turn)
                state = self._cache.get(owner.key)
                if state is not None:
                    found[turn] = decode_state(state)
                    self.counts["recalled",] += 1
                elif self._bus.is_connected:
                    group.create_task(self._look_up(owner, found))
                else:
                    self.counts["late",] += 1
        return found

    async def _look_up(self, owner: _Owner, found: dict[TurnId, TurnState]) -> None:
        try:
            data = await self._bucket.get(owner.key, timeout_s=LOOKUP_S)
        except BusUnavailableError:
            self.counts["late",] += 1
            return
        if data is None:
            self.counts["missing",] += 1
            return
        try:
            state = self._ring.open(Sealed.from_bytes(data), context=owner.context)
            found[owner.turn] = decode_state(state)
        except (SealError, msgspec.MsgspecError):
            self.counts["unreadable",] += 1
            return
        self._cache.put(owner.key, state)
        self.counts["recalled",] += 1
