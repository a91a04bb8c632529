"""The last one that was tried is tried once more, where that may help."""

from pathlib import Path
from typing import Any

import pytest

from kit.errors import TurnpikeError
from services.router.health import CONSECUTIVE_MAX
from services.router.providers.port import Failure, ProviderError
from services.router.retry_budget import RESERVE_COUNT
from services.router.settings import RouterSettings
from tests.unit.router.scripted import Rig, Scripts, content, finish, open_rig, request
from turnpike.router.v1 import router_pb2

DOWN = ProviderError(Failure.UNAVAILABLE, "The upstream is down.")
GOOD = [content("x"), finish()]
FORBIDDEN = router_pb2.Routing(has_no_fallback=True)


async def answered(rig: Rig, **envelope: Any) -> tuple[str, int]:
    batches = [batch async for batch in rig.dispatcher.run(request(**envelope))]
    return batches[0].route.deployment, batches[0].route.attempt_count


@pytest.mark.parametrize("failure", [Failure.CONNECT, Failure.UNAVAILABLE])
async def test_only_one_is_tried_once_more(tmp_path: Path, failure: Failure) -> None:
    async with open_rig(tmp_path, {"a": [[ProviderError(failure, "no")], GOOD]}) as rig:
        found = await answered(rig)

    assert ("a", 2) == found


async def test_last_of_several_is_tried_once_more(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[DOWN]], "b": [[DOWN], GOOD]}) as rig:
        found = await answered(rig)

    assert ("b", 3) == found


async def test_it_is_tried_no_third_time(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[DOWN]] * 3}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await answered(rig)

    assert "a:unavailable,a:unavailable" == caught.value.metadata["attempts"]


OTHERS = [f for f in Failure if f not in (Failure.CONNECT, Failure.UNAVAILABLE)]
CASES: list[tuple[Failure, dict[str, Any], RouterSettings]] = [
    *((failure, {}, RouterSettings()) for failure in OTHERS),
    (Failure.UNAVAILABLE, {"timeout_ms": 1_000}, RouterSettings()),
    (Failure.UNAVAILABLE, {"routing": FORBIDDEN}, RouterSettings()),
    (Failure.UNAVAILABLE, {}, RouterSettings(attempts_max=1)),
]


@pytest.mark.parametrize(("failure", "envelope", "settings"), CASES)
async def test_it_is_not_where_that_does_not_help_or_is_not_wanted(
    tmp_path: Path, failure: Failure, envelope: dict[str, Any], settings: RouterSettings
) -> None:
    scripts: Scripts = {"a": [[ProviderError(failure, "no")], GOOD]}

    async with open_rig(tmp_path, scripts, settings) as rig:
        with pytest.raises(TurnpikeError):
            await answered(rig, **envelope)

    assert 1 == len(rig.providers["a"].calls)


async def test_it_is_not_when_its_breaker_has_opened(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[DOWN]] * CONSECUTIVE_MAX}) as rig:
        for _ in range(CONSECUTIVE_MAX // 2 + 1):
            with pytest.raises(TurnpikeError):
                await answered(rig)

    assert CONSECUTIVE_MAX == len(rig.providers["a"].calls)


async def test_it_is_not_when_the_retry_budget_is_spent(tmp_path: Path) -> None:
    settings = RouterSettings(retry_share=0.0)
    # As many good calls as keep the breaker closed.
    scripts: Scripts = {"a": []}
    for _ in range(RESERVE_COUNT):
        scripts["a"] += [[DOWN], GOOD, GOOD]
    scripts["a"].append([DOWN])

    async with open_rig(tmp_path, scripts, settings) as rig:
        for _ in range(2 * RESERVE_COUNT):
            await answered(rig)
        with pytest.raises(TurnpikeError) as caught:
            await answered(rig)

    assert "a:unavailable" == caught.value.metadata["attempts"]
