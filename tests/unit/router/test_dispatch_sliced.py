"""Dispatch of a request whose payer may fail to pay for its last batch."""

from contextlib import aclosing
from pathlib import Path

import pytest

from services.router.settings import RouterSettings
from tests.unit.router.scripted import Rig, content, finish, open_rig, request
from turnpike.events.v1 import events_pb2

Event = events_pb2.UsageEvent
STEPS = [content("x", completion=1), content("y", completion=2), finish(7, 3)]


async def test_answer_that_was_handed_over_whole_is_charged_whole(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [STEPS]}) as rig:
        async for batch in rig.dispatcher.run(request(is_sliced=True)):
            if batch.HasField("finish"):
                last, before = batch, rig.log.backlog_count
                rig.dispatcher.sliced.end(run_id_of(rig), 3, is_whole=True)
        (outcome,) = await rig.outcomes()

    assert 0 == before
    assert Event.OUTCOME_COMPLETED == outcome.outcome
    assert (7, 3) == (outcome.usage.prompt_token_count, outcome.usage.completion_token_count)
    assert 7 * 10 + 3 * 20 == outcome.charge_nusd == last.finish.charge_nusd


@pytest.mark.parametrize(("handed_over", "charge_nusd"), [(0, 0), (1, 90), (2, 110), (99, 110)])
async def test_answer_is_charged_as_far_as_it_was_handed_over(
    tmp_path: Path, handed_over: int, charge_nusd: int
) -> None:
    async with open_rig(tmp_path, {"a": [STEPS]}) as rig:
        async with aclosing(rig.dispatcher.run(request(is_sliced=True))) as batches:
            async for batch in batches:
                if batch.HasField("finish"):
                    break
            rig.dispatcher.sliced.end(run_id_of(rig), handed_over, is_whole=False)
        (outcome,) = await rig.outcomes()

    assert Event.OUTCOME_CLIENT_CLOSED == outcome.outcome
    assert charge_nusd == outcome.charge_nusd


async def test_caller_that_goes_without_a_word_is_charged_what_it_took(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [STEPS]}) as rig:
        async with aclosing(rig.dispatcher.run(request(is_sliced=True))) as batches:
            async for batch in batches:
                if batch.HasField("finish"):
                    break
        (outcome,) = await rig.outcomes()

    assert 2 == outcome.usage.completion_token_count


async def test_caller_that_never_says_how_it_ended_is_not_waited_for_without_end(
    tmp_path: Path,
) -> None:
    settings = RouterSettings(stream_total_s=0.05)
    async with open_rig(tmp_path, {"a": [STEPS]}, settings) as rig:
        batches = [batch async for batch in rig.dispatcher.run(request(is_sliced=True))]
        (outcome,) = await rig.outcomes()

    assert 3 == len(batches)
    assert 2 == outcome.usage.completion_token_count


async def test_word_about_a_request_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [STEPS]}) as rig:
        batches = [batch async for batch in rig.dispatcher.run(request())]
        rig.dispatcher.sliced.end(batches[0].route.request_id, 0, is_whole=False)
        (outcome,) = await rig.outcomes()

    assert 7 * 10 + 3 * 20 == outcome.charge_nusd


def run_id_of(rig: Rig) -> str:
    """Return the id of the one request that runs."""
    (run_id,) = rig.dispatcher.sliced.running()
    return run_id
