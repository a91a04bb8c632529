"""Several servers of one model: who is asked, who is left alone, and which are too old."""

import asyncio
from random import Random

import pytest
from structlog.testing import capture_logs

from services.router.health import CONSECUTIVE_MAX, OPEN_MAX_S
from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.servers import Lease, Rules, Server, Servers

TELLING = [
    Failure.CONNECT,
    Failure.UNAVAILABLE,
    Failure.INVALID_RESPONSE,
    Failure.INCOMPLETE,
    Failure.NOT_FOUND,
]


class Way:
    """A server that says what it is told to; a number among it is how often it was asked."""

    def __init__(self, version: str | ProviderError = "2.51.0") -> None:
        self.answers: str | ProviderError = version
        self.ready: bool | ProviderError = True
        self.version_count = 0
        self.ready_count = 0

    async def is_ready(self, _deadline_s: float) -> bool:
        self.ready_count += 1
        if isinstance(self.ready, ProviderError):
            raise self.ready
        return self.ready

    async def version(self, _deadline_s: float) -> str:
        self.version_count += 1
        if isinstance(self.answers, ProviderError):
            raise self.answers
        return self.answers


Memo = str
Pool = Servers[Way, Memo]


def a_pool(count: int = 2, *, rules: Rules | None = None) -> tuple[Pool, list[Way]]:
    ways = [Way() for _ in range(count)]
    named = {f"s{number}": way for number, way in enumerate(ways)}
    return Pool(named, rules or Rules(), random=Random(1)), ways


def an_error(failure: Failure, *, retry_after_s: float = 0.0) -> ProviderError:
    return ProviderError(failure, "No.", retry_after_s=retry_after_s)


def asked(pool: Pool, error: ProviderError | None = None) -> str:
    """Ask the next server once and return its name."""
    with pool.lease(set()) as lease:
        if error is None:
            lease.succeeded()
        else:
            lease.failed(error, has_read=False)
        return lease.server.name


def named(pool: Pool, name: str) -> Server[Way, Memo]:
    while (lease := pool.lease(set())).server.name != name:
        pass
    return lease.server


async def test_less_busy_of_two_servers_is_asked() -> None:
    pool, _ = a_pool()

    with pool.lease(set()) as first, pool.lease(set()) as second:
        names = {first.server.name, second.server.name}
        loads = [lease.server.in_flight_count for lease in (first, second)]

    assert {"s0", "s1"} == names
    assert [1, 1] == loads
    assert 0 == first.server.in_flight_count == second.server.in_flight_count


async def test_load_is_spread_over_many_servers() -> None:
    pool, _ = a_pool(5)
    leases: list[Lease[Way, Memo]] = []

    for _ in range(50):
        leases.append(pool.lease(set()))
        leases[-1].__enter__()

    counts = {lease.server.name: lease.server.in_flight_count for lease in leases}
    assert 5 == len(counts)
    assert 8 <= min(counts.values()) <= max(counts.values()) <= 12


@pytest.mark.parametrize("failure", TELLING)
async def test_server_that_fails_is_left_alone_and_the_other_one_serves(failure: Failure) -> None:
    pool, _ = a_pool()
    server = named(pool, "s1")
    for _ in range(CONSECUTIVE_MAX):
        Lease(server).failed(an_error(failure), has_read=False)

    names = {asked(pool) for _ in range(20)}

    assert {"s0"} == names


async def test_server_that_asks_for_a_rest_gets_it() -> None:
    pool, _ = a_pool()

    tired = asked(pool, an_error(Failure.UNAVAILABLE, retry_after_s=60))
    names = {asked(pool) for _ in range(20)}

    assert {tired} == {"s0", "s1"} - names


async def test_server_that_is_well_again_is_tried_once_and_then_serves() -> None:
    pool, _ = a_pool()
    server = named(pool, "s1")
    for _ in range(CONSECUTIVE_MAX):
        Lease(server).failed(an_error(Failure.CONNECT), has_read=False)

    await pool.probe()
    with Lease(server) as trial:
        during = {asked(pool) for _ in range(10)}
        trial.succeeded()
    after = {asked(pool) for _ in range(20)}

    assert {"s0"} == during
    assert {"s0", "s1"} == after


@pytest.mark.parametrize("failure", TELLING)
@pytest.mark.parametrize("has_read", [False, True])
async def test_another_server_may_be_tried_only_before_anything_came(
    failure: Failure, has_read: bool
) -> None:
    pool, _ = a_pool()

    with pool.lease(set()) as lease:
        may_go_on = lease.failed(an_error(failure), has_read=has_read)

    assert may_go_on is not has_read


@pytest.mark.parametrize(
    "failure",
    [Failure.REJECTED, Failure.UNSUPPORTED, Failure.CONTEXT_LENGTH, Failure.CONTENT_POLICY],
)
async def test_fault_of_the_request_says_nothing_of_the_server(failure: Failure) -> None:
    pool, _ = a_pool()
    server = named(pool, "s1")
    server.memo = "known"

    found = [Lease(server).failed(an_error(failure), has_read=False) for _ in range(9)]

    assert [False] * 9 == found
    assert "known" == server.memo
    assert server.breaker.is_closed


async def test_silence_counts_only_in_the_middle_of_an_answer() -> None:
    pool, _ = a_pool()
    one, other = named(pool, "s0"), named(pool, "s1")

    for _ in range(CONSECUTIVE_MAX):
        assert not Lease(one).failed(an_error(Failure.TIMEOUT), has_read=False)
        assert not Lease(other).failed(an_error(Failure.TIMEOUT), has_read=True)

    assert (True, False) == (one.breaker.is_closed, other.breaker.is_closed)


async def test_every_server_is_tried_at_most_once_and_then_the_last_failure_is_told() -> None:
    pool, _ = a_pool(3)
    tried: set[Server[Way, Memo]] = set()
    failure = an_error(Failure.CONNECT)

    names = [pool.lease(tried).server.name for _ in range(3)]
    with pytest.raises(ProviderError) as caught:
        pool.lease(tried, after=failure)

    assert {"s0", "s1", "s2"} == set(names)
    assert failure is caught.value


async def test_when_no_server_is_well_the_deployment_is_not_available() -> None:
    pool, _ = a_pool()
    for name in ("s0", "s1"):
        server = named(pool, name)
        server.breaker.failed(asyncio.get_running_loop().time(), cool_s=OPEN_MAX_S)
        if name == "s0":
            continue
        with pytest.raises(ProviderError) as caught:
            pool.lease(set())

    assert Failure.UNAVAILABLE is caught.value.failure


async def test_single_server_is_asked_whatever_happened() -> None:
    pool, ways = a_pool(1)
    ways[0].ready = False

    for _ in range(9):
        asked(pool, an_error(Failure.CONNECT))
    is_ready = await pool.probe()

    assert (False, "s0") == (is_ready, asked(pool))


# Readiness.


async def test_server_whose_model_is_not_ready_is_left_alone_until_it_is() -> None:
    pool, ways = a_pool()
    ways[0].ready = False

    is_ready = await pool.probe()
    during = {asked(pool) for _ in range(20)}
    ways[0].ready = True
    await pool.probe()
    after = {asked(pool) for _ in range(20)}

    assert is_ready
    assert {"s1"} == during
    assert {"s0", "s1"} == after


async def test_readiness_that_nobody_tells_keeps_nobody_away() -> None:
    pool, ways = a_pool()
    for way in ways:
        way.ready = an_error(Failure.CREDENTIALS)

    is_ready = await pool.probe()

    assert not is_ready
    assert {"s0", "s1"} == {asked(pool) for _ in range(20)}


async def test_several_servers_are_asked_on_an_interval_and_a_single_one_never() -> None:
    pool, ways = a_pool(rules=Rules(interval_s=0.001))
    single, (lonely,) = a_pool(1, rules=Rules(interval_s=0.001))

    async with pool.watched(), single.watched(), asyncio.timeout(30):
        while ways[1].ready_count < 5:
            await asyncio.sleep(0)

    assert ways[0].ready_count >= 4
    assert 0 == lonely.ready_count


# What is known of the model, and the version.


async def test_model_is_described_once_for_all_that_wait_and_again_after_a_failure() -> None:
    pool, _ = a_pool(1)
    server = pool.lease(set()).server
    reads: list[Way] = []

    async def read(way: Way) -> str:
        await asyncio.sleep(0)
        reads.append(way)
        return "memo"

    until_s = asyncio.get_running_loop().time() + 30
    found = await asyncio.gather(*(pool.memo(server, read, until_s) for _ in range(5)))
    Lease(server).failed(an_error(Failure.NOT_FOUND), has_read=False)
    await pool.memo(server, read, until_s)

    assert ["memo"] * 5 == found
    assert 2 == len(reads) == server.way.version_count


@pytest.mark.parametrize(
    ("version", "wanted", "is_used"),
    [
        ("2.51.0", "2.39", True),
        ("2.39.0", "2.39", True),
        ("2.39", "2.39.0", True),
        ("2.9.1", "2.39", False),
        ("3.0", "2.39", True),
        ("2.73.0dev", "2.73", True),
        ("nightly", "2.39", True),
        ("", "2.39", True),
        (an_error(Failure.UNAVAILABLE), "2.39", True),
    ],
)
async def test_server_that_is_too_old_is_not_used_and_the_log_says_so(
    version: str | ProviderError, wanted: str, is_used: bool
) -> None:
    pool, (way,) = a_pool(1, rules=Rules(version_min=wanted))
    way.answers = version
    server = pool.lease(set()).server

    async def read(_way: Way) -> str:
        return "memo"

    error = None
    with capture_logs() as logs:
        try:
            await pool.memo(server, read, asyncio.get_running_loop().time() + 30)
        except ProviderError as caught:
            error = caught

    told = {log["event"]: log for log in logs}
    assert is_used is (error is None)
    if error is not None:
        assert Failure.UNAVAILABLE is error.failure
        assert f"The Triton server has version {version}; {wanted} is needed." == error.message
        assert (version, wanted) == (
            told["triton_too_old"]["version"],
            told["triton_too_old"]["version_min"],
        )


async def test_server_that_cannot_be_asked_for_its_version_is_not_there() -> None:
    pool, (way,) = a_pool(1)
    way.answers = an_error(Failure.CONNECT)

    async def read(_way: Way) -> str:
        return "memo"

    with pytest.raises(ProviderError) as caught:
        await pool.memo(pool.lease(set()).server, read, asyncio.get_running_loop().time() + 30)

    assert Failure.CONNECT is caught.value.failure


async def test_model_that_is_not_described_in_time_is_a_timeout() -> None:
    pool, _ = a_pool(1)

    async def read(_way: Way) -> str:
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(ProviderError) as caught:
        await pool.memo(pool.lease(set()).server, read, asyncio.get_running_loop().time() + 0.01)

    assert Failure.TIMEOUT is caught.value.failure
