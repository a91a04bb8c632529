"""What tests of second calls have in common: rigs whose next request may be called twice."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from kit.ids import OPERATOR_ID
from services.router.providers.port import Batch
from services.router.settings import RouterSettings
from services.router.speed import SAMPLES_MIN, FirstTokens, Kind
from tests.unit.router.scripted import Rig, Scripts, Step, content, finish, open_rig, request, usage
from turnpike.events.v1 import events_pb2
from turnpike.router.v1 import router_pb2

SHARE = 0.05
ON = RouterSettings(hedge_share=SHARE)
STREAMED = Kind(operation=0, is_streaming=True, size=0)
QUICK = [content("x"), finish()]
NEEDED = round(1 / SHARE)
"""Requests that pay for one second call."""


def whole(text: str = "x") -> Batch:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    end = router_pb2.Finish(usage=usage(7, 3), finish_reason="stop")
    return Batch(completion=json.dumps({"choices": [choice]}).encode(), finish=end)


def slow(*answer: Step) -> list[Step]:
    """Return a script that gives others many turns first."""
    return [*[lambda: None] * 50, *answer]


def limit(rig: Rig, late_s: float, *, is_streaming: bool = True) -> None:
    """Let first tokens be late after so long."""
    for name in rig.providers:
        rig.member(name).first_tokens = seen = FirstTokens()
        for _ in range(SAMPLES_MIN):
            seen.add(STREAMED._replace(is_streaming=is_streaming), late_s)


async def read(rig: Rig, asked: router_pb2.RunRequest | None = None) -> list[Batch]:
    return [batch async for batch in rig.dispatcher.run(asked or request())]


@asynccontextmanager
async def ready(
    tmp_path: Path,
    scripts: dict[str, Sequence[Step]],
    settings: RouterSettings = ON,
    *,
    late_s: float = 0.0,
    is_streaming: bool = True,
    external: Sequence[str] = (),
) -> AsyncIterator[Rig]:
    """A rig whose next request may be called twice; its first deployment has answered others."""
    first, *_ = scripts
    quick: Sequence[Step] = QUICK if is_streaming else [whole()]
    all_scripts: Scripts = {name: [script] for name, script in scripts.items()}
    all_scripts[first] = [*[quick] * NEEDED, scripts[first]]
    async with open_rig(tmp_path, all_scripts, settings, external=external) as rig:
        for _ in range(NEEDED):
            await read(rig, request(is_streaming=is_streaming))
        limit(rig, late_s, is_streaming=is_streaming)
        await rig.outcomes()
        for provider in rig.providers.values():
            provider.ends.clear()
            provider.calls.clear()
        yield rig


async def ended(rig: Rig) -> tuple[events_pb2.UsageEvent, list[events_pb2.UsageEvent]]:
    """Return the outcome of the last request, and those that are the operator's."""
    found = (await rig.outcomes())[NEEDED:]
    (mine,) = [event for event in found if event.account_id != OPERATOR_ID]
    assert set(rig.fleet.in_flight().values()) == {0}
    return mine, [event for event in found if event.account_id == OPERATOR_ID]


def counts(rig: Rig) -> dict[tuple[str, ...], int]:
    assert rig.dispatcher.hedging is not None
    return dict(rig.dispatcher.hedging.counts)
