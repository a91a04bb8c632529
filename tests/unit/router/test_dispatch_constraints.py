"""Pay only for valid output: an answer that broke its constraint, from dispatch to its outcome."""

import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from kit.errors import Reason, TurnpikeError
from services.router import fleet
from services.router.health import FAILED_OPEN_HALF_LIFE_S, FAILED_OPEN_MAX, OpenFailures
from services.router.providers.port import Batch, Failure, ProviderError
from tests.unit.router.scripted import PRICE, Rig, Scripts, open_rig, request, usage
from turnpike.events.v1 import events_pb2
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

Event = events_pb2.UsageEvent
DOWN = ProviderError(Failure.UNAVAILABLE, "The upstream is down.")
UNABLE = ProviderError(Failure.UNSUPPORTED, "Not here.", param="guided_regex")
COST = 7 * PRICE.input_pusd_per_token // 1000 + 3 * PRICE.output_pusd_per_token // 1000


def said(text: str) -> Batch:
    value = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return Batch(sse=b"data: " + json.dumps(value).encode() + b"\n\n", content_event_count=1)


def ended(*, source: Any = usage_pb2.USAGE_SOURCE_UPSTREAM) -> Batch:
    value = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    counted = usage(7, 3)
    counted.source = source
    return Batch(
        finish=router_pb2.Finish(
            finish_chunks=[json.dumps(value).encode()], usage=counted, finish_reason="stop"
        )
    )


def whole(text: str) -> Batch:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    finish = router_pb2.Finish(usage=usage(7, 3), finish_reason="stop")
    return Batch(completion=json.dumps({"choices": [choice]}).encode(), finish=finish)


def ask(*, is_streaming: bool = True, **fields: Any) -> router_pb2.RunRequest:
    asked = request(is_streaming=is_streaming)
    asked.body = json.dumps({"messages": [], **(fields or {"guided_regex": "[a-z]+"})}).encode()
    return asked


async def answers(rig: Rig, asked: router_pb2.RunRequest) -> list[Batch]:
    return [batch async for batch in rig.dispatcher.run(asked)]


async def test_broken_stream_is_charged_and_refunded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A logger keeps the configuration it was first used with, here maybe that of another test.
    monkeypatch.setattr(fleet, "_log", structlog.get_logger("router.fleet"))
    async with open_rig(tmp_path, {"a": [[said("secret 5"), ended()]]}) as rig:
        with capture_logs() as logs:
            batches = await answers(rig, ask())
        (outcome,) = await rig.outcomes()

    error = batches[-1].error
    assert Reason.UPSTREAM_INVALID_RESPONSE == error.reason
    assert "guided_regex" in error.message
    assert "refunded" in error.message
    assert [False, False] == [batch.HasField("finish") for batch in batches]
    assert 0 == error.charge_nusd
    assert (Event.OUTCOME_INVALID_OUTPUT, COST, COST, "stop") == (
        outcome.outcome,
        outcome.charge_nusd,
        outcome.refund_nusd,
        outcome.finish_reason,
    )
    assert usage(7, 3) == outcome.usage
    (line,) = [line for line in logs if line["event"] == "provider_failed_open"]
    assert ("error", "a", outcome.request_id) == (
        line["log_level"],
        line["deployment"],
        line["request_id"],
    )
    assert "secret" not in str(logs)


async def test_broken_stream_without_counts_is_refunded_by_the_same_estimate(
    tmp_path: Path,
) -> None:
    script = [said("5"), ended(source=usage_pb2.USAGE_SOURCE_ESTIMATED)]
    async with open_rig(tmp_path, {"a": [script]}) as rig:
        await answers(rig, ask())
        (outcome,) = await rig.outcomes()

    assert 0 < outcome.charge_nusd == outcome.refund_nusd
    assert 40 // 2 == outcome.usage.prompt_token_count


@pytest.mark.parametrize(
    "script",
    [[whole("5")], [Batch(sse=said("5").sse, content_event_count=1, finish=ended().finish)]],
)
async def test_broken_answer_of_which_nothing_was_shown_is_answered_by_the_next(
    tmp_path: Path, script: list[Batch]
) -> None:
    is_streaming = not script[0].completion
    good = [said("fine"), ended()] if is_streaming else [whole("fine")]
    async with open_rig(tmp_path, {"a": [script], "b": [good]}) as rig:
        batches = await answers(rig, ask(is_streaming=is_streaming))
        (outcome,) = await rig.outcomes()
        counts = dict(rig.fleet.attempt_counts)

    assert ("b", 2) == (batches[0].route.deployment, batches[0].route.attempt_count)
    assert (Event.OUTCOME_COMPLETED, COST, 0) == (
        outcome.outcome,
        outcome.charge_nusd,
        outcome.refund_nusd,
    )
    assert {("a", "invalid_output"): 1, ("b", "ok"): 1} == counts


@pytest.mark.parametrize("others", [[], [[whole("6")]], [[DOWN], [DOWN]], [[UNABLE]]])
async def test_broken_answer_without_another_route_is_a_bad_gateway_and_costs_nothing(
    tmp_path: Path, others: list[Any]
) -> None:
    scripts: Scripts = {"a": [[whole("5")]]}
    scripts |= {f"b{number}": [script] for number, script in enumerate(others)}
    async with open_rig(tmp_path, scripts) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await answers(rig, ask(is_streaming=False))
        (outcome,) = await rig.outcomes()

    error = caught.value
    assert (Reason.UPSTREAM_INVALID_RESPONSE, 502) == (error.reason, error.outward.http_status)
    assert "does not keep to guided_regex" in error.message
    assert (Event.OUTCOME_REFUSED, 0, 0) == (
        outcome.outcome,
        outcome.charge_nusd,
        outcome.refund_nusd,
    )


async def test_constraint_that_no_deployment_knows_is_the_callers_to_change(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[UNABLE]], "b": [[UNABLE]]}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await answers(rig, ask())

    assert (Reason.UNSUPPORTED_PARAMETER, "guided_regex") == (
        caught.value.reason,
        caught.value.metadata["param"],
    )


async def test_deployment_that_failed_open_is_tried_last_for_a_while_by_constrained_requests(
    tmp_path: Path,
) -> None:
    good = [[whole("fine")] for _ in range(3)]
    scripts: Scripts = {"a": [[whole("5")], good[0]], "b": [good[1], good[2]]}
    async with open_rig(tmp_path, scripts) as rig:
        first = await answers(rig, ask(is_streaming=False))
        second = await answers(rig, ask(is_streaming=False))
        plain = await answers(rig, ask(is_streaming=False, temperature=1))
        waits = rig.fleet.open_breakers()

    served = [batches[0].route.deployment for batches in (first, second, plain)]
    assert ["b", "b", "a"] == served
    assert {"a": False, "b": False} == waits
    assert {("a",): 1} == rig.fleet.invalid_output_counts


async def test_answer_too_long_to_judge_is_charged_and_counted(tmp_path: Path) -> None:
    script = [*(said("5" * 40_000) for _ in range(2)), ended()]
    async with open_rig(tmp_path, {"a": [script]}) as rig:
        batches = await answers(rig, ask())
        (outcome,) = await rig.outcomes()

    assert batches[-1].HasField("finish")
    assert (Event.OUTCOME_COMPLETED, COST) == (outcome.outcome, outcome.charge_nusd)
    assert {("a",): 1} == rig.fleet.unjudged_output_counts


async def test_caller_that_leaves_a_constrained_stream_pays_for_what_it_got(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[said("5"), said("5"), ended()]]}) as rig:
        stream = rig.dispatcher.run(ask())
        await anext(stream)
        await anext(stream)
        await stream.aclose()
        (outcome,) = await rig.outcomes()
        ends = rig.providers["a"].ends

    assert (Event.OUTCOME_CLIENT_CLOSED, 0) == (outcome.outcome, outcome.refund_nusd)
    assert outcome.charge_nusd > 0
    assert ["cut"] == ends


async def test_constraint_reaches_the_provider_as_one_value(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[said("a"), ended()], [said("b"), ended()]]}) as rig:
        await answers(rig, ask())
        await answers(rig, ask(temperature=1))
        constrained, plain = rig.providers["a"].calls

    assert constrained.constraint is not None
    assert "guided_regex" == constrained.constraint.param
    assert plain.constraint is None


async def test_constraint_that_cannot_be_read_opens_nothing(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": []}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await answers(rig, ask(guided_choice=5))
        outcomes = await rig.outcomes()

    assert Reason.INVALID_VALUE == caught.value.reason
    assert [] == outcomes


def test_failures_are_forgotten_by_halves_and_bounded() -> None:
    failures = OpenFailures()
    assert 0 == failures.weight(5.0)

    for _ in range(100):
        failures.add(10.0)

    weights = [failures.weight(10.0 + halves * FAILED_OPEN_HALF_LIFE_S) for halves in range(7)]
    assert [FAILED_OPEN_MAX, 8, 4, 2, 1, 0, 0] == weights
