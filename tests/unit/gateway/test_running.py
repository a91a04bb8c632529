"""Running requests are counted, swept, ended from outside and waited for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.running import Running, RunningRequests
from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from tests.fakes.openai_calls import eventually

SWEEP_S = 0.001


class Answer:
    """An answer that counts its signs of life and then does what the test wants."""

    def __init__(self, then: Callable[[], Awaitable[object]] | None = None) -> None:
        self.asked_count = 0
        self._then = then

    async def stay_alive(self, now_s: float) -> None:
        assert now_s >= 0
        self.asked_count += 1
        if self._then is not None:
            await self._then()


class Desk:
    """Requests that wait for ever, each in a task of its own."""

    def __init__(self, group: asyncio.TaskGroup, requests_max: int = 10) -> None:
        self.clock = ManualClock()
        self.clock.advance(100)
        self.requests = RunningRequests(
            clock=self.clock, requests_max=requests_max, write_timeout_s=30
        )
        self.reasons: list[Reason | None] = []
        self._group = group

    async def start(self, key_id: str = "key", answer: Answer | None = None) -> Running:
        entered: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        self._group.create_task(self._serve(key_id, answer, entered))
        return await entered

    async def _serve(
        self, key_id: str, answer: Answer | None, entered: asyncio.Future[Running]
    ) -> None:
        running = self.requests.enter(key_id)
        running.answer = answer
        entered.set_result(running)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.reasons.append(running.ended_by.reason if running.ended_by else None)
        finally:
            self.requests.leave(running)


@asynccontextmanager
async def desk(*, requests_max: int = 10, is_swept: bool = False) -> AsyncIterator[Desk]:
    async with asyncio.TaskGroup() as group:
        opened = Desk(group, requests_max)
        sweep = group.create_task(opened.requests.sweep(SWEEP_S)) if is_swept else None
        yield opened
        if sweep is not None:
            sweep.cancel()
        await opened.requests.drained(wait_s=0)


async def test_requests_are_counted_and_too_many_are_refused() -> None:
    async with desk(requests_max=2) as here:
        await here.start()
        second = await here.start()

        with pytest.raises(TurnpikeError) as caught:
            here.requests.enter("key")
        second.answer = Answer()
        here.requests.leave(second)
        # Nothing of an ended request may wait for the collector of cycles.
        assert second.answer is None
        after_one_left = here.requests.count

        assert Reason.OVERLOADED is caught.value.reason
        assert {"retry_after_s": "1"} == caught.value.metadata
        assert 1 == after_one_left
        second.task.cancel()


async def test_revoked_key_ends_its_own_requests_only() -> None:
    async with desk() as here:
        for key_id in ("revoked", "revoked", "other"):
            await here.start(key_id)

        here.requests.end_key("revoked")
        await eventually(lambda: here.requests.count == 1)

        assert [Reason.KEY_REVOKED] * 2 == here.reasons


async def test_first_reason_to_end_a_request_stays() -> None:
    async with desk() as here:
        running = await here.start("revoked")

        here.requests.end_key("revoked")
        running.end(TurnpikeError(Reason.UNAVAILABLE, "Too late."))
        await eventually(lambda: here.requests.count == 0)

        assert [Reason.KEY_REVOKED] == here.reasons
        assert 0 == running.task.cancelling() - 1


async def test_client_that_does_not_read_is_cut_after_the_write_timeout() -> None:
    async with desk() as here:
        slow, idle = await here.start(), await here.start()
        slow.writing_since_s = here.clock.monotonic_s()

        here.clock.advance(30)
        here.requests.sweep_once()
        in_time = slow.ended_by
        here.clock.advance(1)
        here.requests.sweep_once()

        assert in_time is None
        assert slow.ended_by is not None
        assert Reason.CLIENT_CLOSED_REQUEST is slow.ended_by.reason
        assert idle.ended_by is None


async def test_sweep_asks_silent_answers_and_none_that_is_being_written() -> None:
    async with desk(is_swept=True) as here:
        silent, writing = Answer(), Answer()
        await here.start(answer=silent)
        (await here.start(answer=writing)).writing_since_s = here.clock.monotonic_s()
        asked_before = writing.asked_count

        await eventually(lambda: silent.asked_count > asked_before + 3)

        assert writing.asked_count <= asked_before + 1


async def test_client_that_blocks_its_sign_of_life_delays_no_other() -> None:
    async with desk(is_swept=True) as here:
        blocked, healthy = Answer(asyncio.Event().wait), Answer()
        await here.start(answer=blocked)
        await here.start(answer=healthy)

        await eventually(lambda: blocked.asked_count > 0 and healthy.asked_count > 3)

        assert 1 == blocked.asked_count


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), ValueError("a bug")])
async def test_sign_of_life_that_fails_stops_no_other(error: Exception) -> None:
    async def fail() -> None:
        raise error

    async with desk(is_swept=True) as here:
        failing, healthy = Answer(fail), Answer()
        await here.start(answer=failing)
        await here.start(answer=healthy)

        await eventually(lambda: failing.asked_count > 1 and healthy.asked_count > 3)

        assert 2 == here.requests.count


async def test_draining_waits_for_what_runs() -> None:
    async with desk() as here:
        running = await here.start()
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(here.requests.drained(wait_s=60))
            await asyncio.sleep(0)
            is_early = drained.done()
            here.requests.leave(running)

        assert not is_early
        assert running.ended_by is None
        running.task.cancel()


async def test_draining_ends_what_is_left_after_the_wait() -> None:
    async with desk() as here:
        await here.start()

        await here.requests.drained(wait_s=0)
        await eventually(lambda: here.requests.count == 0)

        assert [Reason.UNAVAILABLE] == here.reasons
