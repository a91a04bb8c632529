"""Second calls beside late ones: who answers, who pays, and that the loser ends at once."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from kit.errors import Reason, TurnpikeError
from services.router.providers.port import Batch, Failure, ProviderError
from tests.unit.router.hedged import ON, QUICK, counts, ended, read, ready, slow, whole
from tests.unit.router.scripted import Step, content, finish, request, usage
from turnpike.events.v1 import events_pb2
from turnpike.type.v1 import usage_pb2

Event = events_pb2.UsageEvent
DOWN = ProviderError(Failure.UNAVAILABLE, "The upstream is down.")
ROLE = Batch(sse=b"data: role\n\n")
COST = 7 * 10 + 3 * 20


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_second_answers_when_the_first_is_late(tmp_path: Path, is_streaming: bool) -> None:
    answer = [ROLE, content("b"), finish()] if is_streaming else [whole("b")]
    scripts: dict[str, Sequence[Step]] = {"a": [asyncio.Event()], "b": answer}

    async with ready(tmp_path, scripts, is_streaming=is_streaming) as rig:
        batches = await read(rig, request(is_streaming=is_streaming))
        mine, (lost,) = await ended(rig)

    sse = b"data: role\n\ndata: b\n\n" if is_streaming else b""
    assert sse == b"".join(batch.sse for batch in batches)
    assert ("b", 2) == (batches[0].route.deployment, batches[0].route.attempt_count)
    assert ("b", 2, COST, Event.OUTCOME_COMPLETED) == (
        mine.deployment,
        mine.attempt_count,
        mine.charge_nusd,
        mine.outcome,
    )
    assert (["cut"], ["whole"]) == (rig.providers["a"].ends, rig.providers["b"].ends)
    assert ("a", Event.OUTCOME_HEDGED, 0) == (lost.deployment, lost.outcome, lost.charge_nusd)
    assert f"{mine.request_id}:hedge:outcome" == lost.event_id
    assert (20, 0, usage_pb2.USAGE_SOURCE_ESTIMATED) == (
        lost.usage.prompt_token_count,
        lost.usage.completion_token_count,
        lost.usage.source,
    )
    assert {("b", "won"): 1} == counts(rig)


async def test_first_may_still_win(tmp_path: Path) -> None:
    go = asyncio.Event()
    scripts: dict[str, Sequence[Step]] = {
        "a": [go, content("a"), content("a"), finish()],
        "b": [go.set, ROLE, asyncio.Event()],
    }

    async with ready(tmp_path, scripts) as rig:
        batches = await read(rig)
        mine, (lost,) = await ended(rig)

    assert b"data: a\n\ndata: a\n\n" == b"".join(batch.sse for batch in batches)
    assert ("a", 2, COST) == (mine.deployment, mine.attempt_count, mine.charge_nusd)
    assert ("b", "", 0) == (lost.deployment, lost.key_id, lost.charge_nusd)
    assert (["whole"], ["cut"]) == (rig.providers["a"].ends, rig.providers["b"].ends)
    assert {("b", "lost"): 1} == counts(rig)


async def test_loser_is_closed_before_the_winner_is_heard(tmp_path: Path) -> None:
    scripts: dict[str, Sequence[Step]] = {"a": [asyncio.Event()], "b": QUICK}

    async with ready(tmp_path, scripts) as rig:
        batches = rig.dispatcher.run(request())
        await anext(batches)
        ends = list(rig.providers["a"].ends)
        running = rig.fleet.in_flight()
        await batches.aclose()

    assert ["cut"] == ends
    assert {"a": 0, "b": 1} == running


async def test_loser_with_running_totals_is_written_down_by_them(tmp_path: Path) -> None:
    counting = Batch(sse=b"data: role\n\n", running_usage=usage(9, 0))
    scripts: dict[str, Sequence[Step]] = {"a": [counting, asyncio.Event()], "b": QUICK}

    async with ready(tmp_path, scripts) as rig:
        await read(rig)
        _, (lost,) = await ended(rig)

    assert (9, usage_pb2.USAGE_SOURCE_UPSTREAM) == (
        lost.usage.prompt_token_count,
        lost.usage.source,
    )


async def test_first_that_fails_leaves_it_to_the_second(tmp_path: Path) -> None:
    failed, go = asyncio.Event(), asyncio.Event()
    scripts: dict[str, Sequence[Step]] = {
        "a": [failed, go.set, DOWN],
        "b": [failed.set, go, *slow(content("b"), finish())],
    }

    async with ready(tmp_path, scripts) as rig:
        batches = await read(rig)
        mine, lost = await ended(rig)

    assert "b" == batches[0].route.deployment == mine.deployment
    assert [] == lost
    assert (1, 1) == (
        rig.fleet.attempt_counts["a", "unavailable"],
        rig.fleet.attempt_counts["b", "ok"],
    )
    assert {("b", "won"): 1} == counts(rig)


async def test_second_that_fails_leaves_it_to_the_first(tmp_path: Path) -> None:
    go = asyncio.Event()
    scripts: dict[str, Sequence[Step]] = {
        "a": [go, *slow(content("a"), finish())],
        "b": [go.set, DOWN],
    }

    async with ready(tmp_path, scripts) as rig:
        batches = await read(rig)
        mine, lost = await ended(rig)

    assert ("a", 2) == (batches[0].route.deployment, mine.attempt_count)
    assert [] == lost
    assert 1 == rig.fleet.attempt_counts["b", "unavailable"]
    assert {("b", "failed"): 1} == counts(rig)


@pytest.mark.parametrize("is_same_time", [True, False])
async def test_both_fail_and_the_third_answers(tmp_path: Path, is_same_time: bool) -> None:
    go = asyncio.Event()
    scripts: dict[str, Sequence[Step]] = {
        "a": [go, DOWN] if is_same_time else [go, *slow(DOWN)],
        "b": [go.set, DOWN],
        "c": QUICK,
    }

    async with ready(tmp_path, scripts) as rig:
        batches = await read(rig)
        mine, lost = await ended(rig)

    assert ("c", 3) == (batches[0].route.deployment, mine.attempt_count)
    assert [] == lost
    assert [1, 1, 1] == [len(each.calls) for each in rig.providers.values()]


async def test_both_fail_and_nobody_is_left(tmp_path: Path) -> None:
    go = asyncio.Event()
    scripts: dict[str, Sequence[Step]] = {"a": [go, *slow(DOWN)], "b": [go.set, DOWN]}
    limits = ON.model_copy(update={"attempts_max": 2})

    async with ready(tmp_path, scripts, limits) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read(rig)
        mine, lost = await ended(rig)

    assert Reason.ALL_PROVIDERS_FAILED is caught.value.reason
    assert "b:unavailable,a:unavailable" == caught.value.metadata["attempts"]
    assert (Event.OUTCOME_REFUSED, 0, []) == (mine.outcome, mine.charge_nusd, lost)


async def test_refusal_that_stands_ends_both(tmp_path: Path) -> None:
    policy = ProviderError(Failure.CONTENT_POLICY, "Refused.")
    scripts: dict[str, Sequence[Step]] = {"a": [asyncio.Event()], "b": [policy], "c": QUICK}

    async with ready(tmp_path, scripts) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read(rig)
        mine, (lost,) = await ended(rig)

    assert Reason.CONTENT_POLICY_VIOLATION is caught.value.reason
    assert (0, "a") == (mine.charge_nusd, lost.deployment)
    assert (["cut"], []) == (rig.providers["a"].ends, rig.providers["c"].calls)


async def test_error_that_is_no_providers_is_passed_on(tmp_path: Path) -> None:
    def overloaded() -> None:
        raise TurnpikeError(Reason.OVERLOADED, "Too much.")

    scripts: dict[str, Sequence[Step]] = {"a": [asyncio.Event()], "b": [overloaded]}

    async with ready(tmp_path, scripts) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read(rig)
        mine, _ = await ended(rig)

    assert Reason.OVERLOADED is caught.value.reason
    assert 0 == mine.charge_nusd


async def test_client_that_leaves_meanwhile_ends_both(tmp_path: Path) -> None:
    me = asyncio.current_task()
    assert me is not None
    leave: Callable[[], Any] = me.cancel
    scripts: dict[str, Sequence[Step]] = {
        "a": [asyncio.Event()],
        "b": [leave, asyncio.Event()],
    }

    async with ready(tmp_path, scripts) as rig:
        with pytest.raises(asyncio.CancelledError):
            await read(rig)
        me.uncancel()
        mine, (lost,) = await ended(rig)

    assert (Event.OUTCOME_CLIENT_CLOSED, 0) == (mine.outcome, mine.charge_nusd)
    assert ("b", 0) == (lost.deployment, lost.charge_nusd)
    assert [["cut"], ["cut"]] == [each.ends for each in rig.providers.values()]
    assert {("b", "abandoned"): 1} == counts(rig)


async def test_client_that_leaves_later_is_charged_for_the_winner(tmp_path: Path) -> None:
    steps = [content(str(n), completion=n) for n in range(1, 9)]
    scripts: dict[str, Sequence[Step]] = {"a": [asyncio.Event()], "b": steps}

    async with ready(tmp_path, scripts) as rig:
        async with aclosing(rig.dispatcher.run(request())) as batches:
            for _ in range(3):
                await anext(batches)
        mine, (lost,) = await ended(rig)

    assert (Event.OUTCOME_CLIENT_CLOSED, "b", 2) == (
        mine.outcome,
        mine.deployment,
        mine.usage.completion_token_count,
    )
    assert 0 == lost.charge_nusd


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_answer_that_breaks_its_constraint_does_not_win(
    tmp_path: Path, is_streaming: bool
) -> None:
    asked = request(is_streaming=is_streaming)
    asked.body = b'{"messages":[],"guided_regex":"[a-z]+"}'
    go = asyncio.Event()
    bad = Batch(sse=said("5").sse, content_event_count=1, finish=ended_stream().finish)
    good = [said("fine"), ended_stream()] if is_streaming else [whole("fine")]
    scripts: dict[str, Sequence[Step]] = {
        "a": [go, *slow(*good)],
        "b": [go.set, bad if is_streaming else whole("5")],
    }

    async with ready(tmp_path, scripts, is_streaming=is_streaming) as rig:
        batches = await read(rig, asked)
        mine, lost = await ended(rig)

    assert "a" == batches[0].route.deployment
    assert (COST, 0, []) == (mine.charge_nusd, mine.refund_nusd, lost)
    assert {("b",): 1} == rig.fleet.invalid_output_counts


def ended_stream() -> Batch:
    value = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    batch = finish()
    batch.finish.finish_chunks[:] = [json.dumps(value).encode()]
    return batch


def said(text: str) -> Batch:
    value = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return Batch(sse=b"data: " + json.dumps(value).encode() + b"\n\n", content_event_count=1)
