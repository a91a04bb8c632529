"""The retry budget alone, and what a request gets when it is spent."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Reason, TurnpikeError
from services.router.providers.port import Failure, ProviderError
from services.router.retry_budget import (
    FREE,
    RESERVE_COUNT,
    RESERVE_S,
    SLICE_S,
    SLICES,
    RetryBudget,
)
from services.router.settings import RouterSettings
from tests.unit.router.scripted import Rig, Scripts, content, finish, open_rig, request
from turnpike.events.v1 import events_pb2

NONE = RouterSettings(retry_share=0.0)
WINDOW_S = SLICE_S * SLICES


def taken(budget: RetryBudget, now_s: float, wanted: int = 1000) -> int:
    return sum(budget.take(now_s) for _ in range(wanted))


def called(budget: RetryBudget, count: int, now_s: float) -> None:
    for _ in range(count):
        budget.called(now_s)


def test_share_of_the_calls_and_the_reserve_may_be_tried_again() -> None:
    budget = RetryBudget(0.2)

    called(budget, 100, 1000.0)

    assert 20 + RESERVE_COUNT == taken(budget, 1000.0)
    assert 1000 - 20 - RESERVE_COUNT == budget.refused_count


def test_calls_that_are_no_longer_of_late_pay_for_nothing() -> None:
    budget = RetryBudget(0.5)
    called(budget, 100, 1000.0)

    assert RESERVE_COUNT == taken(budget, 1000.0 + WINDOW_S)


def test_second_tries_that_are_no_longer_of_late_are_forgotten_with_their_calls() -> None:
    budget = RetryBudget(0.5)
    called(budget, 100, 1000.0)
    taken(budget, 1000.0)
    later_s = 1000.0 + WINDOW_S

    called(budget, 40, later_s)

    assert 20 + RESERVE_COUNT == taken(budget, later_s)


def test_reserve_fills_up_again() -> None:
    budget = RetryBudget(0.0)
    taken(budget, 1000.0)

    found = [taken(budget, 1000.0 + RESERVE_S / 2), taken(budget, 1000.0 + 10 * RESERVE_S)]

    assert [RESERVE_COUNT // 2, RESERVE_COUNT] == found


STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 30), st.integers(0, 30)), max_size=60)


@given(steps=STEPS, share=st.floats(0, 1))
def test_there_are_never_more_second_tries_than_share_and_reserve_pay_for(
    steps: list[tuple[float, int, int]], share: float
) -> None:
    budget, now_s = RetryBudget(share), 500.0
    calls = extra = refused = 0
    for wait_s, first, again in steps:
        now_s += wait_s
        called(budget, first, now_s)
        calls += first
        made = taken(budget, now_s, again)
        extra += made
        refused += again - made

    refilled = RESERVE_COUNT * (now_s - 500.0) / RESERVE_S
    assert extra <= share * calls + RESERVE_COUNT + refilled + 1e-6
    assert refused == budget.refused_count


async def ask(rig: Rig) -> None:
    async for _ in rig.dispatcher.run(request()):
        pass


def failing(error: ProviderError, count: int = 40) -> Scripts:
    return {"a": [[error]] * count, "b": [[content("x"), finish()]] * count}


async def test_spent_budget_gives_the_verdict_of_what_failed(tmp_path: Path) -> None:
    # Not for the breaker to see: the caller chose to wait less than the deployment may take.
    late = ProviderError(Failure.TIMEOUT, "late")
    impatient = request(timeout_ms=20_000)

    async with open_rig(tmp_path, failing(late), NONE) as rig:
        for _ in range(RESERVE_COUNT):
            async for _ in rig.dispatcher.run(impatient):
                pass
        with pytest.raises(TurnpikeError) as caught:
            async for _ in rig.dispatcher.run(impatient):
                pass
        *_, outcome = await rig.outcomes()

    assert Reason.TIMEOUT is caught.value.reason
    assert "a:timeout" == caught.value.metadata.get("attempts")
    assert RESERVE_COUNT == len(rig.providers["b"].calls)
    assert 1 == rig.dispatcher.retries.budget.refused_count
    assert (events_pb2.UsageEvent.OUTCOME_REFUSED, 1, 0) == (
        outcome.outcome,
        outcome.attempt_count,
        outcome.charge_nusd,
    )


async def test_last_candidates_failure_costs_the_budget_nothing(tmp_path: Path) -> None:
    limited = ProviderError(Failure.RATE_LIMITED, "Too many.")

    async with open_rig(tmp_path, {"a": [[limited]] * 4}, NONE) as rig:
        for _ in range(4):
            with pytest.raises(TurnpikeError):
                await ask(rig)

    assert 0 == rig.dispatcher.retries.budget.refused_count


@pytest.mark.parametrize("failure", sorted(FREE))
async def test_route_that_does_not_serve_a_request_is_passed_whatever_was_spent(
    tmp_path: Path, failure: Failure
) -> None:
    async with open_rig(tmp_path, failing(ProviderError(failure, "Not here.")), NONE) as rig:
        for _ in range(2 * RESERVE_COUNT):
            await ask(rig)

    assert 2 * RESERVE_COUNT == len(rig.providers["b"].calls)
    assert 0 == rig.dispatcher.retries.budget.refused_count
