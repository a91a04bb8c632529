"""Dispatch: attempts, fallback, what is charged, and that everything ends in one outcome."""

from contextlib import aclosing
from pathlib import Path

import pytest

from kit.errors import Reason, TurnpikeError
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.settings import RouterSettings
from tests.unit.router.scripted import Scripts, content, finish, open_rig, request
from turnpike.events.v1 import events_pb2
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

Event = events_pb2.UsageEvent
DOWN = ProviderError(Failure.UNAVAILABLE, "The upstream is down.")


async def read_all(stream: object) -> list[Batch]:
    return [batch async for batch in stream]  # type: ignore[attr-defined]


async def test_finished_answer_is_charged_by_the_upstreams_usage(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[content("x"), content("y"), finish(7, 3)]]}) as rig:
        batches = await read_all(rig.dispatcher.run(request()))
        (outcome,) = await rig.outcomes()

    assert "a" == batches[0].route.deployment
    assert outcome.request_id == batches[0].route.request_id
    assert Event.OUTCOME_COMPLETED == outcome.outcome
    assert 7 * 10 + 3 * 20 == outcome.charge_nusd
    assert outcome.charge_nusd == batches[-1].finish.charge_nusd
    assert f"{outcome.request_id}:outcome" == outcome.event_id


async def test_episode_of_the_caller_is_in_its_outcome(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[content("x"), finish()]] * 2}) as rig:
        await read_all(rig.dispatcher.run(request(episode_id="episode-1")))
        await read_all(rig.dispatcher.run(request()))
        outcomes = await rig.outcomes()

    assert ["episode-1", ""] == [outcome.episode_id for outcome in outcomes]


async def test_outcome_is_journalled_before_the_last_batch_is_handed_over(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[content("x"), finish()]]}) as rig:
        backlogs = [
            (batch.HasField("finish"), rig.log.backlog_count)
            async for batch in rig.dispatcher.run(request())
        ]

    assert [(False, 0), (True, 1)] == backlogs


async def test_upstream_that_fails_before_content_is_followed_by_the_next(tmp_path: Path) -> None:
    scripts: Scripts = {"a": [[DOWN]], "b": [[content("x"), finish()]]}

    async with open_rig(tmp_path, scripts) as rig:
        batches = await read_all(rig.dispatcher.run(request()))
        (outcome,) = await rig.outcomes()

    assert ("b", 2) == (batches[0].route.deployment, batches[0].route.attempt_count)
    assert ("b", 2) == (outcome.deployment, outcome.attempt_count)


async def test_chunks_without_content_do_not_commit_to_an_upstream(tmp_path: Path) -> None:
    role = Batch(sse=b"data: role\n\n")
    scripts: Scripts = {"a": [[role, DOWN]], "b": [[role, content("x"), finish()]]}

    async with open_rig(tmp_path, scripts) as rig:
        batches = await read_all(rig.dispatcher.run(request()))

    assert b"data: role\n\ndata: x\n\n" == b"".join(batch.sse for batch in batches)


async def test_answer_that_breaks_after_content_is_an_error_and_charged_as_far_as_it_came(
    tmp_path: Path,
) -> None:
    broken = ProviderError(Failure.INCOMPLETE, "cut")
    scripts: Scripts = {
        "a": [[content("x", completion=1), content("y", completion=2), broken]],
        "b": [],
    }

    async with open_rig(tmp_path, scripts) as rig:
        batches = await read_all(rig.dispatcher.run(request()))
        (outcome,) = await rig.outcomes()

    assert "UPSTREAM_INCOMPLETE" == batches[-1].error.reason
    assert Event.OUTCOME_UPSTREAM_FAILED == outcome.outcome
    assert 7 * 10 + 2 * 20 == outcome.charge_nusd == batches[-1].error.charge_nusd
    assert [] == rig.providers["b"].calls


async def test_client_that_leaves_is_charged_for_what_was_handed_over(tmp_path: Path) -> None:
    steps = [content(str(n), completion=n) for n in range(1, 50)]

    async with open_rig(tmp_path, {"a": [steps]}) as rig:
        async with aclosing(rig.dispatcher.run(request())) as batches:
            for _ in range(4):
                await anext(batches)
        (outcome,) = await rig.outcomes()

    assert Event.OUTCOME_CLIENT_CLOSED == outcome.outcome
    assert 3 == outcome.usage.completion_token_count
    assert ["cut"] == rig.providers["a"].ends


async def test_client_that_leaves_an_uncounted_answer_is_charged_an_estimate(
    tmp_path: Path,
) -> None:
    async with open_rig(tmp_path, {"a": [[content("x"), content("y"), content("z")]]}) as rig:
        async with aclosing(rig.dispatcher.run(request())) as batches:
            for _ in range(3):
                await anext(batches)
        (outcome,) = await rig.outcomes()

    assert usage_pb2.USAGE_SOURCE_ESTIMATED == outcome.usage.source
    assert (20, 2) == (
        outcome.usage.prompt_token_count,
        outcome.usage.completion_token_count,
    )


BOUNDS: list[tuple[dict[str, int], int]] = [
    ({"max_tokens": 2}, 2),
    ({"max_tokens": 2, "completion_tokens_max": 4}, 4),
    ({"max_tokens": 50}, 6),
]


@pytest.mark.parametrize(("bounds", "count"), BOUNDS)
@pytest.mark.parametrize("is_whole", [True, False])
async def test_estimate_stays_within_what_was_asked_for(
    tmp_path: Path, bounds: dict[str, int], count: int, is_whole: bool
) -> None:
    estimate = usage_pb2.TokenUsage(
        completion_token_count=6, source=usage_pb2.USAGE_SOURCE_ESTIMATED
    )
    end = Batch(finish=router_pb2.Finish(usage=estimate, finish_reason="stop"))

    async with open_rig(tmp_path, {"a": [[content("x") for _ in range(7)] + [end]]}) as rig:
        async with aclosing(rig.dispatcher.run(request(**bounds))) as batches:
            for _ in range(8 if is_whole else 7):
                await anext(batches)
        (outcome,) = await rig.outcomes()

    assert count == outcome.usage.completion_token_count


async def test_who_could_cost_more_than_the_hold_for_all_choices_is_not_asked(
    tmp_path: Path,
) -> None:
    one = 40 * 10 + 100 * 20

    async with open_rig(tmp_path, {"a": [[content("x"), finish()]] * 2}) as rig:
        await read_all(rig.dispatcher.run(request(hold_nusd=one)))
        with pytest.raises(TurnpikeError) as caught:
            await read_all(rig.dispatcher.run(request(hold_nusd=one, completion_tokens_max=200)))

    assert Reason.NO_PROVIDERS_AVAILABLE is caught.value.reason
    assert "price=1" == caught.value.metadata["excluded"]


async def test_client_that_leaves_before_content_pays_nothing(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[content("x"), finish()]]}) as rig:
        async with aclosing(rig.dispatcher.run(request())) as batches:
            await anext(batches)
        (outcome,) = await rig.outcomes()

    assert 0 == outcome.charge_nusd


async def test_all_failed_is_a_bad_gateway_and_costs_nothing(tmp_path: Path) -> None:
    limits = RouterSettings(attempts_max=2)

    async with open_rig(tmp_path, {"a": [[DOWN]], "b": [[DOWN]]}, limits) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read_all(rig.dispatcher.run(request()))
        (outcome,) = await rig.outcomes()

    assert Reason.ALL_PROVIDERS_FAILED == caught.value.reason
    assert "a:unavailable,b:unavailable" == caught.value.metadata["attempts"]
    assert outcome.request_id == caught.value.metadata["request_id"]
    assert (Event.OUTCOME_REFUSED, 0) == (outcome.outcome, outcome.charge_nusd)


async def test_only_timeouts_are_a_gateway_timeout(tmp_path: Path) -> None:
    late = ProviderError(Failure.TIMEOUT, "late")

    async with open_rig(tmp_path, {"a": [[late]], "b": [[late]]}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read_all(rig.dispatcher.run(request()))

    assert Reason.TIMEOUT == caught.value.reason


async def test_clients_own_mistake_is_not_tried_elsewhere(tmp_path: Path) -> None:
    refused = ProviderError(Failure.CONTEXT_LENGTH, "Too long.")

    async with open_rig(tmp_path, {"a": [[refused]], "b": [[finish()]]}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read_all(rig.dispatcher.run(request()))

    assert Reason.CONTEXT_LENGTH_EXCEEDED == caught.value.reason
    assert [] == rig.providers["b"].calls


async def test_parameter_that_only_some_can_honour_is_tried_elsewhere(tmp_path: Path) -> None:
    unable = ProviderError(Failure.UNSUPPORTED, "No tools.", param="tools")

    async with open_rig(tmp_path, {"a": [[unable]], "b": [[content("x"), finish()]]}) as rig:
        batches = await read_all(rig.dispatcher.run(request()))

    assert "b" == batches[0].route.deployment


async def test_parameter_that_nobody_can_honour_is_named(tmp_path: Path) -> None:
    unable = ProviderError(Failure.UNSUPPORTED, "No tools.", param="tools")

    async with open_rig(tmp_path, {"a": [[unable]], "b": [[unable]]}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read_all(rig.dispatcher.run(request()))

    assert Reason.UNSUPPORTED_PARAMETER == caught.value.reason
    assert "tools" == caught.value.metadata["param"]


async def test_upstream_that_ends_without_an_answer_failed(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[]], "b": [[content("x"), finish()]]}) as rig:
        batches = await read_all(rig.dispatcher.run(request()))

    assert "b" == batches[0].route.deployment


async def test_unknown_model_is_not_found_and_leaves_no_trace(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": []}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read_all(rig.dispatcher.run(request(model_id="nobody")))

    assert Reason.MODEL_NOT_FOUND == caught.value.reason
    assert 0 == rig.log.backlog_count


async def test_route_dearer_than_the_hold_is_excluded(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": []}) as rig:
        with pytest.raises(TurnpikeError) as caught:
            await read_all(rig.dispatcher.run(request(hold_nusd=2399)))

    assert Reason.NO_PROVIDERS_AVAILABLE == caught.value.reason
    assert "price=1" == caught.value.metadata["excluded"]


async def test_broken_deployment_rests_and_the_caller_is_told_how_long(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[DOWN]] * 5}) as rig:
        for _ in range(5):
            with pytest.raises(TurnpikeError):
                await read_all(rig.dispatcher.run(request()))
        with pytest.raises(TurnpikeError) as caught:
            await read_all(rig.dispatcher.run(request()))

    assert Reason.NO_PROVIDERS_AVAILABLE == caught.value.reason
    assert "5" == caught.value.metadata["retry_after_s"]


async def test_impatient_caller_does_not_hurt_a_deployments_health(tmp_path: Path) -> None:
    late = ProviderError(Failure.TIMEOUT, "late")

    async with open_rig(tmp_path, {"a": [[late]] * 6}) as rig:
        for _ in range(6):
            with pytest.raises(TurnpikeError) as caught:
                await read_all(rig.dispatcher.run(request(timeout_ms=10)))

    assert Reason.TIMEOUT == caught.value.reason


async def test_no_more_upstreams_are_tried_than_allowed(tmp_path: Path) -> None:
    scripts: Scripts = {name: [[DOWN]] for name in "abcd"}

    async with open_rig(tmp_path, scripts, RouterSettings(attempts_max=2)) as rig:
        with pytest.raises(TurnpikeError):
            await read_all(rig.dispatcher.run(request()))

    assert [1, 1, 0, 0] == [len(p.calls) for p in rig.providers.values()]


async def test_uncounted_finished_answer_is_estimated_from_its_content(tmp_path: Path) -> None:
    unknown = Batch(
        finish=router_pb2.Finish(
            finish_chunks=[b"{}"],
            usage=usage_pb2.TokenUsage(
                completion_token_count=2, source=usage_pb2.USAGE_SOURCE_ESTIMATED
            ),
            finish_reason="stop",
        )
    )

    async with open_rig(tmp_path, {"a": [[content("x"), content("y"), unknown]]}) as rig:
        batches = await read_all(rig.dispatcher.run(request()))
        (outcome,) = await rig.outcomes()

    assert 2 == outcome.usage.completion_token_count
    assert b'"completion_tokens":2' in batches[-1].finish.usage_json


async def test_chunk_head_and_answer_id_come_from_the_request(tmp_path: Path) -> None:
    async with open_rig(tmp_path, {"a": [[content("x"), finish()]]}) as rig:
        batches = await read_all(rig.dispatcher.run(request(has_null_usage=True)))

    call = rig.providers["a"].calls[0]
    assert f"chatcmpl-{batches[0].route.request_id}" == call.answer_id
    assert call.chunk_head.endswith(b'"model":"model-1","usage":null,')
