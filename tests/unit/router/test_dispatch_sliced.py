"""Dispatch of a request whose payer may fail to pay for its last batch."""

from contextlib import aclosing
from pathlib import Path

from tests.unit.router.scripted import content, finish, open_rig, request
from turnpike.events.v1 import events_pb2

Event = events_pb2.UsageEvent
STEPS = [content("x", completion=1), content("y", completion=2), finish(7, 3)]


async def test_last_batch_that_is_asked_past_is_charged_whole(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [STEPS]}) as rig:
        batches = [batch async for batch in rig.dispatcher.run(request(is_sliced=True))]
        (outcome,) = await rig.outcomes()

    assert Event.OUTCOME_COMPLETED == outcome.outcome
    assert (7, 3) == (outcome.usage.prompt_token_count, outcome.usage.completion_token_count)
    assert 7 * 10 + 3 * 20 == outcome.charge_nusd == batches[-1].finish.charge_nusd


async def test_last_batch_is_not_settled_before_it_is_asked_past(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [STEPS]}) as rig:
        backlogs = [
            (batch.HasField("finish"), rig.log.backlog_count)
            async for batch in rig.dispatcher.run(request(is_sliced=True))
        ]
        settled = rig.log.backlog_count

    assert [(False, 0), (False, 0), (True, 0)] == backlogs
    assert 1 == settled


async def test_last_batch_that_is_not_paid_for_is_not_charged(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [STEPS]}) as rig:
        async with aclosing(rig.dispatcher.run(request(is_sliced=True))) as batches:
            async for batch in batches:
                if batch.HasField("finish"):
                    break
        (outcome,) = await rig.outcomes()

    assert Event.OUTCOME_CLIENT_CLOSED == outcome.outcome
    assert 2 == outcome.usage.completion_token_count
    assert 7 * 10 + 2 * 20 == outcome.charge_nusd
