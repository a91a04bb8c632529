"""A stream's spending, with a clock that stands still: slices, vouchers and how they end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.spending import Conclusion, Payer, Spending, SpendingCounts, SpendingTerms
from kit.clock import ManualClock
from kit.errors import Reason, TurnpikeError
from kit.metrics import Count
from kit.rpc.local import LocalChannel
from kit.tasks import TaskPool
from tests.fakes.machine_payments import CHANNEL, FakeMachinePayments, Purse
from tests.fixtures.gateway import until
from tests.fixtures.switchboard import Switchboard
from turnpike.payment.v1 import machine_pb2 as pb
from turnpike.payment.v1 import machine_pb2_grpc

LEASE = "lease-1"
PRICE = 1000
"""Nano-USD of a token here: one base unit."""
AWAY = TurnpikeError(Reason.UNAVAILABLE, "The room is away.")


@dataclass(slots=True)
class Rig:
    """A spending of 10 tokens a slice and at most 100, over a channel that has accepted some."""

    rail: FakeMachinePayments
    clock: ManualClock
    tasks: TaskPool
    counts: SpendingCounts
    stub: Any
    told: list[pb.NeedVoucher] = field(default_factory=list)

    def spending(self, accepted: int, **terms: Any) -> Spending:
        purse = Purse(f"tempo:{CHANNEL}", CHANNEL, accepted=accepted, leases={LEASE: 10 * PRICE})
        self.rail.purses[purse.account_id] = purse
        usual: dict[str, Any] = {
            "hold_nusd": 100 * PRICE,
            "slice_tokens": 10,
            "tariff": lambda tokens: tokens * PRICE,
            "voucher_wait_s": 60.0,
            "rpc_timeout_s": 5.0,
        }
        found = Spending(
            Payer(self.stub, self.stub, self.tasks, self.clock, self.counts),
            pb.Admitted(lease_id=LEASE, granted_nusd=10 * PRICE, challenge_id="ch"),
            SpendingTerms(**{**usual, **terms}),
        )
        found.tell_by(self.told.append)
        return found

    async def settled(self) -> None:
        """Let what runs in the background end."""
        await self.tasks.close(wait_s=5.0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rail, board = FakeMachinePayments(), Switchboard()
    machine_pb2_grpc.add_MachinePaymentServiceServicer_to_server(rail, board)  # type: ignore[arg-type]
    stub = machine_pb2_grpc.MachinePaymentServiceStub(LocalChannel(board))
    counts = SpendingCounts(Count(), Count(), Count(), Count())
    found = Rig(rail, ManualClock(), TaskPool(tasks_max=8), counts, stub)
    yield found
    await found.tasks.close(wait_s=0.0)


async def test_held_output_costs_no_call(rig: Rig) -> None:
    spending = rig.spending(1000)

    spending.look_ahead(4)
    await spending.reach(10, 10 * PRICE)

    assert [] == rig.rail.calls


async def test_next_slice_is_asked_for_when_half_is_used(rig: Rig) -> None:
    spending = rig.spending(1000)

    spending.look_ahead(5)
    spending.look_ahead(6)
    await rig.settled()

    assert [20 * PRICE] == [call.total_nusd for call in rig.rail.calls]
    assert 20 * PRICE == spending.granted_nusd


async def test_last_slice_is_no_longer_than_the_whole(rig: Rig) -> None:
    spending = rig.spending(1000, hold_nusd=13 * PRICE)

    spending.look_ahead(9)
    await rig.settled()
    spending.look_ahead(12)

    assert [13 * PRICE] == [call.total_nusd for call in rig.rail.calls]
    assert not spending.is_sliced


async def test_batch_longer_than_a_slice_is_held_whole(rig: Rig) -> None:
    spending = rig.spending(1000)

    await spending.reach(47, 47 * PRICE)

    assert [60 * PRICE] == [call.total_nusd for call in rig.rail.calls]


async def test_look_ahead_tells_of_a_voucher_once_and_ends_nothing(rig: Rig) -> None:
    spending = rig.spending(10)
    rig.rail.wait = lambda request: rig.clock.advance(request.wait_ms / 1000)

    spending.look_ahead(5)
    await until(lambda: len(rig.rail.of(pb.AwaitVoucherRequest)) > 2)
    spending.settle(None)

    assert [("20", "10")] == [
        (need.required_cumulative, need.accepted_cumulative) for need in rig.told
    ]
    assert (1, 0) == (rig.counts.waits.value, rig.counts.timeouts.value)


async def test_failure_28_no_voucher_for_60_s_ends_the_wait(rig: Rig) -> None:
    spending = rig.spending(10)
    rig.rail.wait = lambda request: rig.clock.advance(request.wait_ms / 1000)

    with pytest.raises(TurnpikeError) as refused:
        await spending.reach(11, 11 * PRICE)

    waited = rig.rail.of(pb.AwaitVoucherRequest)
    assert "VOUCHER_TIMEOUT" == refused.value.reason
    assert [(CHANNEL, "20", 60_000)] == [
        (call.channel_id, call.required_cumulative, call.wait_ms) for call in waited
    ]
    assert 60.0 == rig.clock.monotonic_s()
    assert 1 == rig.counts.timeouts.value


async def test_failure_29_voucher_at_59_9_s_is_in_time(rig: Rig) -> None:
    spending = rig.spending(10)

    def late(_request: pb.AwaitVoucherRequest) -> None:
        rig.clock.advance(59.9)
        rig.rail.channel.accepted = 20

    rig.rail.wait = late
    await spending.reach(11, 11 * PRICE)

    assert 20 * PRICE == spending.granted_nusd
    assert 0 == rig.counts.timeouts.value


async def test_wait_that_began_ahead_still_leaves_the_client_60_s(rig: Rig) -> None:
    spending = rig.spending(10)
    waits = []
    paused = asyncio.Event()

    async def slow(request: pb.AwaitVoucherRequest, context: Any) -> pb.AwaitVoucherResponse:
        waits.append(request.wait_ms)
        if len(waits) == 1:
            await paused.wait()
            rig.clock.advance(20)
        else:
            rig.clock.advance(request.wait_ms / 1000)
        return pb.AwaitVoucherResponse()

    rig.rail.AwaitVoucher = slow  # type: ignore[method-assign]
    machine = Switchboard()
    machine_pb2_grpc.add_MachinePaymentServiceServicer_to_server(rig.rail, machine)  # type: ignore[arg-type]
    rig.stub = machine_pb2_grpc.MachinePaymentServiceStub(LocalChannel(machine))
    spending = rig.spending(10)

    spending.look_ahead(5)
    await until(lambda: bool(waits))
    rig.clock.advance(40)
    reaching = asyncio.ensure_future(spending.reach(11, 11 * PRICE))
    await asyncio.sleep(0)
    paused.set()
    with pytest.raises(TurnpikeError):
        await reaching

    assert [60_000, 40_000] == waits
    assert 100.0 == rig.clock.monotonic_s()


async def test_partial_voucher_is_not_enough(rig: Rig) -> None:
    spending = rig.spending(10)

    def partial(_request: pb.AwaitVoucherRequest) -> None:
        rig.clock.advance(31)
        rig.rail.channel.accepted = 15

    rig.rail.wait = partial
    with pytest.raises(TurnpikeError) as refused:
        await spending.reach(11, 11 * PRICE)

    assert "VOUCHER_TIMEOUT" == refused.value.reason
    assert ["20"] == [need.required_cumulative for need in rig.told]


async def test_closed_channel_refuses_what_comes_next_only(rig: Rig) -> None:
    spending = rig.spending(1000)
    rig.rail.channel.is_closed = True

    spending.look_ahead(5)
    await rig.settled()
    await spending.reach(10, 10 * PRICE)
    with pytest.raises(TurnpikeError) as refused:
        await spending.reach(11, 11 * PRICE)

    assert "GONE" == refused.value.reason


async def test_payment_that_comes_back_is_not_missed(rig: Rig) -> None:
    spending = rig.spending(1000)
    rig.rail.broken["ExtendRequest"] = AWAY

    reaching = asyncio.ensure_future(spending.reach(11, 11 * PRICE))
    await until(lambda: len(rig.rail.calls) > 1)
    rig.clock.advance(4.9)
    rig.rail.broken.clear()
    await reaching

    assert 20 * PRICE == spending.granted_nusd


async def test_payment_that_stays_away_ends_the_pause_after_5_s(rig: Rig) -> None:
    spending = rig.spending(1000)
    rig.rail.broken["ExtendRequest"] = AWAY

    reaching = asyncio.ensure_future(spending.reach(11, 11 * PRICE))
    await until(lambda: bool(rig.rail.calls))
    rig.clock.advance(5)
    with pytest.raises(TurnpikeError) as refused:
        await reaching

    assert "LEDGER_UNAVAILABLE" == refused.value.reason


async def test_payment_that_loses_a_wait_is_asked_again(rig: Rig) -> None:
    spending = rig.spending(10)
    rig.rail.broken["AwaitVoucherRequest"] = AWAY

    reaching = asyncio.ensure_future(spending.reach(11, 11 * PRICE))
    await until(lambda: bool(rig.rail.of(pb.AwaitVoucherRequest)))
    rig.rail.broken.clear()
    rig.rail.channel.accepted = 20
    await reaching

    assert 20 * PRICE == spending.granted_nusd


async def test_client_that_is_gone_when_it_is_told_ends_the_pause(rig: Rig) -> None:
    spending = rig.spending(10)

    def gone(_need: pb.NeedVoucher) -> None:
        raise ConnectionResetError("The client has gone.")

    spending.tell_by(gone)

    with pytest.raises(ConnectionResetError):
        await spending.reach(11, 11 * PRICE)


async def test_bug_while_asking_does_not_hang_the_stream(rig: Rig) -> None:
    def bug(_need: pb.NeedVoucher) -> None:
        raise KeyError("bug")

    spending = rig.spending(10)
    spending.tell_by(bug)

    with pytest.raises(TurnpikeError) as refused:
        await spending.reach(11, 11 * PRICE)

    assert "INTERNAL" == refused.value.reason


async def test_pool_without_room_refuses_the_stream(rig: Rig) -> None:
    rig.tasks = TaskPool(tasks_max=0)
    spending = rig.spending(1000)

    with pytest.raises(TurnpikeError) as refused:
        await spending.reach(11, 11 * PRICE)
    concluded = await spending.conclude(Conclusion("run", 1, 1))

    assert "OVERLOADED" == refused.value.reason
    assert concluded is None


async def test_conclusion_is_said_once_and_retried(rig: Rig) -> None:
    spending = rig.spending(1000)
    rig.rail.broken["ConcludeRequest"] = AWAY

    concluding = asyncio.ensure_future(spending.conclude(Conclusion("run", 7, 3)))
    await until(lambda: bool(rig.rail.calls))
    rig.rail.broken.clear()
    first, again = await concluding, await spending.conclude(Conclusion("run", 7, 3))
    spending.settle(Conclusion("run", 7, 3))
    await rig.settled()

    assert first is not None
    assert first == again
    assert 2 == len(rig.rail.calls)
    assert (7, {}) == (rig.rail.channel.spent_nusd, rig.rail.channel.leases)
    assert 1 == rig.counts.receipts.value


async def test_client_that_leaves_while_it_is_concluded_changes_nothing(rig: Rig) -> None:
    spending = rig.spending(1000)

    waiting = asyncio.ensure_future(spending.conclude(Conclusion("run", 7, 3)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    spending.settle(Conclusion("run", 7, 3))
    await rig.settled()

    assert 1 == len(rig.rail.of(pb.ConcludeRequest))
    assert 7 == rig.rail.channel.spent_nusd


async def test_settling_stops_the_wait_for_a_voucher(rig: Rig) -> None:
    spending = rig.spending(10)
    spending.look_ahead(5)
    await until(lambda: bool(rig.told))

    spending.settle(None)
    await rig.settled()
    spending.settle(Conclusion("run", 1, 1))

    assert [] == rig.rail.of(pb.ConcludeRequest)
    assert 0 == rig.tasks.count


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 30))
def test_no_token_is_delivered_that_is_not_held(batches: list[int], slice_tokens: int) -> None:
    async def stream() -> None:
        rail, board = FakeMachinePayments(), Switchboard()
        machine_pb2_grpc.add_MachinePaymentServiceServicer_to_server(rail, board)  # type: ignore[arg-type]
        stub = machine_pb2_grpc.MachinePaymentServiceStub(LocalChannel(board))
        counts = SpendingCounts(Count(), Count(), Count(), Count())
        rig = Rig(rail, ManualClock(), TaskPool(tasks_max=8), counts, stub)
        spending = rig.spending(10_000, slice_tokens=slice_tokens, hold_nusd=2_000 * PRICE)
        tokens = 0
        for count in batches:
            tokens += count
            await spending.reach(tokens, spending.cost_nusd(tokens))
            held = rail.channel.leases[LEASE]
            assert held >= spending.granted_nusd >= spending.cost_nusd(tokens)
            spending.look_ahead(tokens)
            await asyncio.sleep(0)
            held = rail.channel.leases[LEASE]
            assert held <= spending.cost_nusd(max(10, tokens + 2 * slice_tokens))
        await rig.settled()

    asyncio.run(stream())


async def test_voucher_that_helps_nothing_is_not_asked_for_without_a_pause(rig: Rig) -> None:
    spending = rig.spending(10)

    async def never(request: pb.ExtendRequest, context: Any) -> pb.ExtendResponse:
        rig.rail.calls.append(request)
        rig.rail.channel.is_closed = True
        rig.clock.advance(21)
        need = pb.NeedVoucher(channel_id=CHANNEL, required_cumulative="20")
        return pb.ExtendResponse(need=need)

    rig.rail.Extend = never  # type: ignore[method-assign]
    board = Switchboard()
    machine_pb2_grpc.add_MachinePaymentServiceServicer_to_server(rig.rail, board)  # type: ignore[arg-type]
    rig.stub = machine_pb2_grpc.MachinePaymentServiceStub(LocalChannel(board))
    spending = rig.spending(10)

    with pytest.raises(TurnpikeError) as refused:
        await spending.reach(11, 11 * PRICE)

    assert "VOUCHER_TIMEOUT" == refused.value.reason
    assert len(rig.rail.of(pb.ExtendRequest)) <= 4
    assert 1 == len(rig.told) == rig.counts.waits.value
