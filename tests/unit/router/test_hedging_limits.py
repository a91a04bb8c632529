"""When no second call is made: where nobody is late, nobody may be asked, or enough were made."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from services.router.hedging import SAVED_MAX
from services.router.retry_budget import RESERVE_COUNT
from services.router.settings import RouterSettings
from tests.unit.router.hedged import (
    ON,
    QUICK,
    SHARE,
    STREAMED,
    counts,
    ended,
    limit,
    read,
    ready,
    slow,
)
from tests.unit.router.scripted import Scripts, Step, content, finish, open_rig, request
from turnpike.router.v1 import router_pb2

NOT_TWICE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"late_s": 60.0}, {}, "in time"),
    ({"external": ["b"]}, {}, "second is external"),
    ({"external": ["a", "b"]}, {}, "first is external"),
    ({}, {"routing": router_pb2.Routing(has_no_fallback=True)}, "fallback is forbidden"),
    ({}, {"routing": router_pb2.Routing(only=["a"])}, "second is not meant"),
    ({"settings": RouterSettings(hedge_share=SHARE, attempts_max=1)}, {}, "one attempt only"),
    ({"settings": RouterSettings()}, {}, "off"),
    ({}, {"prompt_tokens_max": 9_000, "hold_nusd": 1_000_000}, "long prompts were not measured"),
]


@pytest.mark.parametrize(
    ("wish", "envelope"), [case[:2] for case in NOT_TWICE], ids=[case[2] for case in NOT_TWICE]
)
async def test_some_requests_are_not_called_twice(
    tmp_path: Path, wish: dict[str, Any], envelope: dict[str, Any]
) -> None:
    scripts: dict[str, Sequence[Step]] = {"a": slow(content("a"), finish()), "b": QUICK}

    async with ready(tmp_path, scripts, **wish) as rig:
        batches = await read(rig, request(**envelope))
        _, lost = await ended(rig)

    assert ("a", 1, []) == (batches[0].route.deployment, batches[0].route.attempt_count, lost)
    assert [] == rig.providers["b"].calls


async def test_who_is_down_is_not_called_as_the_second(tmp_path: Path) -> None:
    scripts: dict[str, Sequence[Step]] = {"a": slow(content("a"), finish()), "b": [], "c": QUICK}

    async with ready(tmp_path, scripts) as rig:
        stream = rig.dispatcher.run(request())
        member = rig.member("b")
        rig.providers["a"].scripts[0] = [lambda: member.breaker.cool(1e12), asyncio.Event()]
        limit(rig, 0.0)
        batches = [batch async for batch in stream]

    assert "c" == batches[0].route.deployment
    assert [] == rig.providers["b"].calls


async def test_spent_retry_budget_allows_no_second_call(tmp_path: Path) -> None:
    settings = RouterSettings(hedge_share=SHARE, retry_share=0.0)
    scripts: dict[str, Sequence[Step]] = {"a": slow(content("a"), finish()), "b": QUICK}

    async with ready(tmp_path, scripts, settings) as rig:
        now_s = asyncio.get_running_loop().time()
        for _ in range(RESERVE_COUNT):
            rig.dispatcher.retries.budget.take(now_s)
        await read(rig)

    assert [] == rig.providers["b"].calls


async def test_second_calls_keep_to_their_share_of_the_requests(tmp_path: Path) -> None:
    count = 130
    scripts: Scripts = {"a": [slow(*QUICK)] * count, "b": [QUICK] * count}

    async with open_rig(tmp_path, scripts, RouterSettings(hedge_share=SHARE)) as rig:
        made: list[int] = []
        for _ in range(count):
            limit(rig, 0.0)
            await read(rig)
            made.append(sum(counts(rig).values()))

    assert all(second <= SHARE * number + 1e-9 for number, second in enumerate(made, 1))
    assert made[-1] >= SHARE * count - 1


async def test_quiet_times_do_not_save_up_for_ever(tmp_path: Path) -> None:
    count = round(3 * SAVED_MAX / SHARE)
    scripts: Scripts = {"a": [*[QUICK] * count, *[slow(*QUICK)] * 30], "b": [QUICK] * 30}

    async with open_rig(tmp_path, scripts, ON) as rig:
        limit(rig, 60.0)
        for _ in range(count):
            await read(rig)
        for _ in range(30):
            limit(rig, 0.0)
            await read(rig)

    assert SAVED_MAX <= sum(counts(rig).values()) <= SAVED_MAX + 2


async def test_call_that_lost_counts_as_taking_at_least_so_long(tmp_path: Path) -> None:
    scripts: dict[str, Sequence[Step]] = {"a": [asyncio.Event()], "b": QUICK}

    async with ready(tmp_path, scripts) as rig:
        seen = rig.member("a").first_tokens
        await read(rig)
        seen.add(STREAMED, 99.0)
        late_s = seen.late_s(STREAMED)

    assert late_s is not None
    assert 0.0 < late_s < 99.0
