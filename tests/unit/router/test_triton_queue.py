"""The queue of TensorRT-LLM, from its metrics to where a request is sent."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.router.catalog import Deployment
from services.router.fleet import Wanted, open_fleet
from services.router.pricing import PriceRow
from services.router.provider_entries import TritonEntry
from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.queue import Queue, read_queue
from services.router.providers.triton.servers import Rules, Servers

PAGE = b"""\
# HELP nv_inference_request_success Number of successful inference requests
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="ensemble",version="1"} 7
# HELP nv_trt_llm_request_metrics TRT LLM request metrics
# TYPE nv_trt_llm_request_metrics gauge
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="context",version="1"} 1
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 3
nv_trt_llm_request_metrics{request_type="active",model="tensorrt_llm",version="1"} 12.000000
nv_trt_llm_request_metrics{model="other",request_type="waiting",version="1"} 1
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 9
"""


def test_queue_is_that_of_the_model_by_its_name_or_of_all_engines() -> None:
    assert Queue(waiting=3, active=12) == read_queue(PAGE, "tensorrt_llm")
    assert Queue(waiting=1, active=0) == read_queue(PAGE, "other")
    assert Queue(waiting=4, active=12) == read_queue(PAGE, "ensemble")


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"nv_inference_request_success 7",
        b'nv_trt_llm_request_metrics{request_type="waiting"} NaN',
        b'x nv_trt_llm_request_metrics{request_type="waiting"} 3',
        b'nv_trt_llm_request_metrics{request_type="waiting"} -3',
        b"\xff\xfe",
    ],
)
def test_page_without_a_queue_tells_nothing(page: bytes) -> None:
    assert read_queue(page, "m") is None


class Way:
    async def is_ready(self, _deadline_s: float) -> bool:
        return True

    async def version(self, _deadline_s: float) -> str:
        return "2.51.0"


class Reader:
    """Tells what it is given, once for each time it is asked, and then the last again."""

    def __init__(self, *queues: Queue | ProviderError | None) -> None:
        self.queues = list(queues)
        self.read_count = 0

    async def read(self, _deadline_s: float) -> Queue | None:
        self.read_count += 1
        queue = self.queues.pop(0) if len(self.queues) > 1 else self.queues[0]
        if isinstance(queue, ProviderError):
            raise queue
        return queue


async def watched_until(servers: Servers[Way, str], reader: Reader, count: int) -> None:
    async with servers.watched(), asyncio.timeout(30):
        while reader.read_count < count:
            await asyncio.sleep(0)


def pool(*readers: Reader) -> Servers[Way, str]:
    ways = {f"s{number}": Way() for number in range(len(readers))}
    queues = {f"s{number}": reader for number, reader in enumerate(readers)}
    return Servers(ways, Rules(interval_s=0.001), queues=queues)


async def test_requests_go_to_the_server_with_the_shorter_queue() -> None:
    long, short = Reader(Queue(waiting=9, active=4)), Reader(Queue())
    servers = pool(long, short)
    await watched_until(servers, short, 2)

    names = {servers.lease(set()).server.name for _ in range(20)}

    assert {"s1"} == names
    assert 13 == servers.backlog_count


async def test_what_runs_there_for_us_is_not_counted_twice() -> None:
    reader = Reader(Queue(waiting=1, active=3))
    servers = pool(reader)
    await watched_until(servers, reader, 2)

    with servers.lease(set()), servers.lease(set()) as lease:
        assert 2 == servers.backlog_count
        assert 4 == lease.server.load


@pytest.mark.parametrize("lost", [None, ProviderError(Failure.TIMEOUT, "Late.")])
async def test_queue_that_is_no_longer_told_is_forgotten(
    lost: ProviderError | None,
) -> None:
    reader = Reader(Queue(waiting=5), lost)
    servers = pool(reader)

    await watched_until(servers, reader, 4)

    assert 0 == servers.backlog_count


@pytest.mark.parametrize(
    ("slow_s", "fast_s", "asked"), [(0.5, 0.1, {"s1"}), (0.15, 0.1, {"s0", "s1"})]
)
async def test_of_two_idle_servers_the_one_that_begins_much_later_is_avoided(
    slow_s: float, fast_s: float, asked: set[str]
) -> None:
    servers = pool(Reader(Queue()), Reader(Queue()))
    servers.all[0].ttft_s = slow_s
    servers.all[1].ttft_s = fast_s

    names = {servers.lease(set()).server.name for _ in range(40)}
    with servers.lease(set()) as lease:
        next_one = servers.lease(set()).server.name

    assert asked == names
    assert lease.server.name != next_one


async def test_lease_measures_how_long_an_answer_takes_to_begin() -> None:
    servers = pool(Reader(Queue()))
    server = servers.all[0]

    with servers.lease(set()) as lease:
        lease.began()
        first_s = server.ttft_s
        lease.began()
        lease.succeeded()
    server.ttft_s = 100.0
    with servers.lease(set()) as lease:
        lease.began()

    assert 0 <= first_s < 30
    assert 80 <= server.ttft_s < 90


class Provider:
    """An adapter that is opened and never called."""

    async def probe(self) -> bool:
        return True

    def stream(self, *_args: Any, **_options: Any) -> Any:
        raise AssertionError("Nothing was to be asked.")


class BusyProvider(Provider):
    def backlog_count(self) -> int:
        return 5


@pytest.mark.parametrize(("provider", "load"), [(Provider(), 1), (BusyProvider(), 6)])
async def test_fleet_sees_the_queue_of_a_deployment(provider: Any, load: int) -> None:
    deployment = Deployment("d", "id", "p", "triton", "b", "m", PriceRow("r", 0, 0, 0))
    wanted = Wanted(deployment, TritonEntry.model_validate({"kind": "triton"}), "print")

    @asynccontextmanager
    async def opened(_wanted: Wanted) -> Any:
        yield provider

    async with open_fleet(opened) as fleet:
        await fleet.adopt([wanted])
        with fleet.attempt(deployment):
            assert load == fleet.load("d")
