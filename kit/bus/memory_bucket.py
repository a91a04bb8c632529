"""A bucket in memory, behaving as one on JetStream does; time comes from the bus's clock."""

from typing import NamedTuple, Protocol

from kit.bus.port import Bucket, BucketSpec, BusUnavailableError, ValueTooBigError
from kit.clock import Clock


class Holder(Protocol):
    """The bus that a bucket is on."""

    clock: Clock

    @property
    def is_connected(self) -> bool:
        """Whether there is no outage being played."""


class _Kept(NamedTuple):
    value: bytes
    since_s: float


class MemoryBucket(Bucket):
    """Values by key, the oldest first; `spec` may be exchanged."""

    def __init__(self, holder: Holder, spec: BucketSpec) -> None:
        self._holder = holder
        self.spec = spec
        self._values: dict[str, _Kept] = {}
        self._bytes = 0

    async def get(self, key: str, *, timeout_s: float) -> bytes | None:
        """Return a value, None when there is none any more.

        Raises:
            BusUnavailableError: An outage is being played.
        """
        self._check()
        kept = self._values.get(key)
        return None if kept is None else kept.value

    async def put(self, key: str, value: bytes, *, timeout_s: float) -> None:
        """Keep a value in the place of an older one.

        Raises:
            BusUnavailableError: An outage is being played.
            ValueTooBigError: It is bigger than `value_bytes_max`.
        """
        if len(value) > self.spec.value_bytes_max:
            raise ValueTooBigError(key)
        self._check()
        self._drop(key)
        self._values[key] = _Kept(value, self._holder.clock.monotonic_s())
        self._bytes += len(value)
        while self._bytes > self.spec.bytes_max:
            self._drop(next(iter(self._values)))

    def _check(self) -> None:
        """Forget what is too old."""
        if not self._holder.is_connected:
            raise BusUnavailableError("The bus is not connected.")
        now_s = self._holder.clock.monotonic_s()
        while self._values:
            key, kept = next(iter(self._values.items()))
            if now_s < kept.since_s + self.spec.ttl_s:
                break
            self._drop(key)

    def _drop(self, key: str) -> None:
        kept = self._values.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept.value)
