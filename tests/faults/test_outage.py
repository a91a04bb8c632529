"""One of three providers fails every call for a while: what callers notice, and when it is over.

`FULL=1` lasts two minutes instead of ten seconds; `FAULTS_SEED` repeats a run's arrivals.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import pytest

from tests.fakes.openai_script import Script
from tests.fakes.openai_upstream import OpenAiUpstream, open_openai_upstream
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, migrated_rooms, open_site

__all__ = ["migrated_rooms", "open_site"]

OUTAGE_S: Final = 120.0 if os.environ.get("FULL") == "1" else 10.0
CALM_S: Final = 3.0
BACK_S: Final = 30.0
REQUESTS_PER_S: Final = 30.0
SUCCESS_MIN: Final = 0.999
EXTRA_CALLS_MAX: Final = 0.2
MODEL: Final = "acme/three"
pytestmark = pytest.mark.timeout(400)


@dataclass
class Traffic:
    """What was asked and answered; times are seconds since the start."""

    statuses: list[int] = field(default_factory=list)
    attempts: int = 0
    back_s: float | None = None


def catalogue(upstreams: dict[str, OpenAiUpstream]) -> dict[str, Any]:
    price = {"input_usd_per_million": "0.15", "output_usd_per_million": "0.60"}
    return {
        "providers": {
            name: {"kind": "openai_compat", "base_url": upstream.base_url}
            for name, upstream in upstreams.items()
        },
        "models": {
            MODEL: {
                "context_length": 8192,
                "deployments": [
                    {"name": name, "provider": name, "upstream_model": "m", "price": price}
                    for name in upstreams
                ],
            }
        },
    }


@asynccontextmanager
async def three_upstreams() -> AsyncIterator[dict[str, OpenAiUpstream]]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(open_openai_upstream())
            for name in ("one", "two", "three")
        }


def called(upstream: OpenAiUpstream) -> int:
    return sum(seen.method == "POST" for seen in upstream.seen)


async def ask(site: Site, key: Key, traffic: Traffic) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 32}
    async with site.post(key, body) as answer:
        await answer.read()
        traffic.statuses.append(answer.status)
        traffic.attempts += int(answer.headers.get("X-Turnpike-Attempts", "3"))


async def test_callers_notice_next_to_nothing_and_traffic_comes_back(
    open_site: OpenSite, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("FAULTS_SEED") or time.time_ns() % 1_000_000)
    random, traffic = Random(seed), Traffic()
    async with three_upstreams() as upstreams:
        site = await open_site(Wish(catalogue=catalogue(upstreams)))
        key = await site.key(credit_nusd=10**12, requests_per_minute=0)
        usual, victim = upstreams["one"].handler, upstreams["one"]
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        during = 0
        async with asyncio.TaskGroup() as group:
            while traffic.back_s is None:
                now_s = loop.time() - start_s
                is_out = CALM_S <= now_s < CALM_S + OUTAGE_S
                victim.handler = (lambda _seen: Script(status=500)) if is_out else usual
                if is_out:
                    during = called(victim)
                elif now_s > CALM_S + OUTAGE_S and called(victim) > during + 20:
                    traffic.back_s = now_s - CALM_S - OUTAGE_S
                assert now_s < CALM_S + OUTAGE_S + BACK_S, "traffic does not come back"
                group.create_task(ask(site, key, traffic))
                await asyncio.sleep(random.expovariate(REQUESTS_PER_S))

        count, good = len(traffic.statuses), traffic.statuses.count(200)
        extra = traffic.attempts / count - 1
        with capsys.disabled():
            print(  # noqa: T201 - result
                f"\nseed {seed}: {count} requests, {good} answered, {100 * extra:.2f} % more calls,"
                f" back after {traffic.back_s:.1f} s"
            )
        assert good >= SUCCESS_MIN * count
        assert extra <= EXTRA_CALLS_MAX
        charged = (await site.balance(key)).charged_nusd
        assert charged > 0
