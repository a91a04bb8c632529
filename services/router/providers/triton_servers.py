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
from types import TracebackType
from typing import Final, Generic, NamedTuple, Protocol, Self, TypeVar

import structlog

from kit.tasks import background
from services.router.health import Breaker
from services.router.providers.port import Failure, ProviderError

VERSION_MIN: Final = "2.39"
"""The first release that has the vLLM backend, of October 2023."""

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


class Rules(NamedTuple):
    """How servers are watched; `description_s` bounds the wait for a model's description."""

    version_min: str = VERSION_MIN
    interval_s: float = 2.0
    probe_s: float = 2.0
    description_s: float = 5.0


ANY_RULES: Final = Rules()
"""The usual ones."""


class Server(Generic[WayT, MemoT]):
    """One server; `memo` is what was found out about the model there."""

    __slots__ = ("breaker", "in_flight_count", "is_ready", "lock", "memo", "name", "way")

    def __init__(self, name: str, way: WayT) -> None:
        self.name = name
        self.way = way
        self.breaker = Breaker()
        self.in_flight_count = 0
        self.is_ready = True
        self.memo: MemoT | None = None
        self.lock = asyncio.Lock()

    @property
    def load(self) -> float:
        """How busy it is."""
        return self.in_flight_count


class Lease(Generic[WayT, MemoT]):
    """One request at one server."""

    __slots__ = ("_is_told", "server")

    def __init__(self, server: Server[WayT, MemoT]) -> None:
        self.server = server
        self._is_told = False

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
        self, ways: Mapping[str, WayT], rules: Rules, *, random: Random | None = None
    ) -> None:
        """Take the ways to the model by the address of the server."""
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

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Ask on an interval whether the model is ready, where there are several servers."""
        if len(self.all) == 1:
            yield
            return
        async with background(self._watch, name="triton-readiness"):
            yield

    async def _watch(self) -> None:
        while True:
            await self.probe()
            await asyncio.sleep(self._rules.interval_s)

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
        return one if one.load <= other.load else other

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
