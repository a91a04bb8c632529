"""The servers of one model on Triton: who is asked, and who is left alone for a while.

The less busy of two that are well is asked. Each has a breaker of its own, and where there are
several they are asked on an interval whether the model is ready, never for a request. A server
older than the wanted version is not used.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from types import MappingProxyType, TracebackType
from typing import Final, Generic, NamedTuple, Protocol, Self, TypeVar

import structlog

from kit.tasks import background
from services.router.health import Breaker
from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.queue import Queue

VERSION_MIN: Final = "2.39"
"""The first release that has the vLLM backend, of October 2023."""

WEIGHT: Final = 0.2
"""How much the newest answer counts in an average."""

SLOWER_RATIO: Final = 2.0
SLOWER_S: Final = 0.05
"""Of two equally busy servers one is avoided when it takes this much longer to begin."""

_ELSEWHERE: Final = frozenset(
    {Failure.CONNECT, Failure.UNAVAILABLE, Failure.INVALID_RESPONSE, Failure.INCOMPLETE}
    | {Failure.CREDENTIALS, Failure.RATE_LIMITED, Failure.NOT_FOUND}
)
"""Failures that say something about one server: another one may do better."""

_HIDDEN: Final = frozenset({Failure.CREDENTIALS, Failure.UNAVAILABLE, Failure.INVALID_RESPONSE})
"""How a server refuses to tell its version."""

_NUMBERS: Final = re.compile(r"\d+(?:\.\d+)*")
_log = structlog.get_logger("router.triton")


class Way(Protocol):
    """A way to one model on one server."""

    async def is_ready(self, deadline_s: float) -> bool:
        """Return whether the model is ready.

        Raises:
            ProviderError: The server cannot be asked.
        """

    async def version(self, deadline_s: float) -> str:
        """Return the version of the server, such as 2.51.0.

        Raises:
            ProviderError: The server cannot be asked, or does not tell.
        """


WayT = TypeVar("WayT", bound=Way)
MemoT = TypeVar("MemoT")


class QueueReader(Protocol):
    """Reads how long the queue at one server is."""

    async def read(self, deadline_s: float) -> Queue | None:
        """Return the queue, None when the server tells nothing of one.

        Raises:
            ProviderError: The server cannot be asked.
        """


class Rules(NamedTuple):
    """How servers are watched; `description_s` bounds the wait for a model's description."""

    version_min: str = VERSION_MIN
    interval_s: float = 2.0
    probe_s: float = 2.0
    description_s: float = 5.0


ANY_RULES: Final = Rules()
"""The usual ones."""


class Server(Generic[WayT, MemoT]):
    """One server; `memo` is what was found out about the model there.

    `queue` is what it last told of its queue, `ttft_s` how long answers took to begin, a moving
    average in seconds.
    """

    __slots__ = (
        "breaker",
        "in_flight_count",
        "is_ready",
        "lock",
        "memo",
        "name",
        "queue",
        "ttft_s",
        "way",
    )

    def __init__(self, name: str, way: WayT) -> None:
        self.name = name
        self.way = way
        self.breaker = Breaker()
        self.in_flight_count = 0
        self.is_ready = True
        self.memo: MemoT | None = None
        self.lock = asyncio.Lock()
        self.queue = Queue()
        self.ttft_s = 0.0

    @property
    def backlog_count(self) -> int:
        """How many requests wait or run there that are not known to be our own."""
        return self.queue.waiting + max(0, self.queue.active - self.in_flight_count)

    @property
    def load(self) -> int:
        """How many requests wait or run there."""
        return self.in_flight_count + self.backlog_count

    def is_worse_than(self, other: "Server[WayT, MemoT]") -> bool:
        """Return whether it is busier, or as busy and lately much slower to begin."""
        if self.load != other.load:
            return self.load > other.load
        return self.ttft_s > SLOWER_RATIO * other.ttft_s + SLOWER_S


class Lease(Generic[WayT, MemoT]):
    """One request at one server."""

    __slots__ = ("_has_begun", "_is_told", "_start_s", "server")

    def __init__(self, server: Server[WayT, MemoT]) -> None:
        self.server = server
        self._is_told = False
        self._has_begun = False
        self._start_s = asyncio.get_running_loop().time()

    def began(self) -> None:
        """Tell that something of an answer came; the first time counts."""
        if not self._has_begun:
            self._has_begun = True
            ttft_s = asyncio.get_running_loop().time() - self._start_s
            known_s = self.server.ttft_s
            self.server.ttft_s = known_s + WEIGHT * (ttft_s - known_s) if known_s else ttft_s

    def succeeded(self) -> None:
        """Tell that the server gave a whole answer."""
        self._is_told = True
        self.server.breaker.succeeded(asyncio.get_running_loop().time())

    def failed(self, error: ProviderError, *, has_read: bool) -> bool:
        """Take a failure; whether another server may be tried, since nothing came from this one.

        A silence before anything came is the caller's deadline, and says nothing.
        """
        is_telling = error.failure in _ELSEWHERE
        if is_telling:
            self.server.memo = None
        if is_telling or (has_read and error.failure is Failure.TIMEOUT):
            self._is_told = True
            now_s = asyncio.get_running_loop().time()
            self.server.breaker.failed(now_s, cool_s=error.retry_after_s)
        return is_telling and not has_read

    def __enter__(self) -> Self:
        self.server.in_flight_count += 1
        self.server.breaker.claim()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.server.in_flight_count -= 1
        if not self._is_told:
            self.server.breaker.abandoned()


class Servers(Generic[WayT, MemoT]):
    """`all` servers of one model."""

    def __init__(
        self,
        ways: Mapping[str, WayT],
        rules: Rules,
        *,
        queues: Mapping[str, QueueReader] = MappingProxyType({}),
        random: Random | None = None,
    ) -> None:
        """Take the ways to the model, and to its queue, by the address of the server."""
        self._queues = queues
        self.all = [Server[WayT, MemoT](name, way) for name, way in ways.items()]
        self._rules = rules
        self._random = random or Random()  # noqa: S311 - no secret

    def lease(
        self, tried: set[Server[WayT, MemoT]], *, after: ProviderError | None = None
    ) -> Lease[WayT, MemoT]:
        """Return a lease of the server to ask next, which joins those that were tried.

        Raises:
            ProviderError: `after`, if there is one, or UNAVAILABLE: no server is left.
        """
        server = self._chosen([each for each in self.all if each not in tried])
        if server is None:
            raise after or ProviderError(
                Failure.UNAVAILABLE, "No Triton server of the model is well."
            )
        tried.add(server)
        return Lease(server)

    async def memo(
        self,
        server: Server[WayT, MemoT],
        read: Callable[[WayT], Awaitable[MemoT]],
        deadline_s: float,
    ) -> MemoT:
        """Return what is known of the model at a server; read once for all requests that wait.

        Raises:
            ProviderError: It cannot be read, or not in time, or the server is too old.
        """
        if server.memo is not None:
            return server.memo
        until_s = min(deadline_s, asyncio.get_running_loop().time() + self._rules.description_s)
        try:
            async with asyncio.timeout_at(until_s), server.lock:
                if server.memo is None:
                    await self._check_version(server, until_s)
                    server.memo = await read(server.way)
                return server.memo
        except TimeoutError as error:
            raise ProviderError(
                Failure.TIMEOUT, "The Triton server did not describe its model in time."
            ) from error

    async def probe(self) -> bool:
        """Return whether the model is ready anywhere."""
        await asyncio.gather(*(self._look(server) for server in self.all))
        return any(server.is_ready for server in self.all)

    @property
    def backlog_count(self) -> int:
        """How many requests wait or run at all servers that are not known to be our own."""
        return sum(server.backlog_count for server in self.all)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Ask on an interval whether the model is ready, and how long queues are.

        A single server is not asked whether it is ready: the deployment's own breaker is.
        """
        if len(self.all) == 1 and not self._queues:
            yield
            return
        async with background(self._watch, name="triton-watch"):
            yield

    async def _watch(self) -> None:
        while True:
            looks = [self._look_at_queue(server) for server in self.all]
            if len(self.all) > 1:
                looks += [self._look(server) for server in self.all]
            await asyncio.gather(*looks)
            await asyncio.sleep(self._rules.interval_s)

    async def _look_at_queue(self, server: Server[WayT, MemoT]) -> None:
        """Ask a server for its queue; one that does not tell has none."""
        reader = self._queues.get(server.name)
        if reader is None:
            return
        deadline_s = asyncio.get_running_loop().time() + self._rules.probe_s
        try:
            server.queue = await reader.read(deadline_s) or Queue()
        except ProviderError:
            server.queue = Queue()

    def _chosen(self, left: list[Server[WayT, MemoT]]) -> Server[WayT, MemoT] | None:
        """Return the less busy of two that are well, or of those that may be called at all."""
        if len(self.all) == 1:
            # The deployment's own breaker is all that it needs.
            return left[0] if left else None
        now_s = asyncio.get_running_loop().time()
        left = [server for server in left if server.breaker.may_call(now_s)]
        pool = [server for server in left if server.is_ready] or left
        if len(pool) < 2:
            return pool[0] if pool else None
        one, other = self._random.sample(pool, 2)
        return other if one.is_worse_than(other) else one

    async def _look(self, server: Server[WayT, MemoT]) -> None:
        loop = asyncio.get_running_loop()
        try:
            is_ready = await server.way.is_ready(loop.time() + self._rules.probe_s)
        except ProviderError:
            is_ready = False
        if is_ready:
            server.breaker.probed(loop.time())
        if is_ready is not server.is_ready and len(self.all) > 1:
            _log.warning("triton_server_readiness", server=server.name, is_ready=is_ready)
        server.is_ready = is_ready

    async def _check_version(self, server: Server[WayT, MemoT], deadline_s: float) -> None:
        try:
            version = await server.way.version(deadline_s)
        except ProviderError as error:
            if error.failure not in _HIDDEN:
                raise
            version = ""
        wanted = self._rules.version_min
        if not _numbers(version):
            _log.warning("triton_version_unknown", server=server.name, version_min=wanted)
        elif _numbers(version) < _numbers(wanted):
            _log.error("triton_too_old", server=server.name, version=version, version_min=wanted)
            raise ProviderError(
                Failure.UNAVAILABLE,
                f"The Triton server has version {_shown(version)}; {wanted} is needed.",
            )


def _numbers(version: str) -> list[int]:
    """Return the numbers that a version begins with, without zeros at the end."""
    found = [int(part) for part in _shown(version).split(".") if part]
    while found and not found[-1]:
        found.pop()
    return found


def _shown(version: str) -> str:
    """Return a version without what does not belong to it."""
    found = _NUMBERS.match(version)
    return found[0][:32] if found else ""
