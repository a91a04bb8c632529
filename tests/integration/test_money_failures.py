"""What went wrong with money elsewhere and must not here, at the ledger, on both engines.

The numbers are those of the list of known failures; rows that need a gateway stand in the files of
that name one folder down.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection

from kit.bus.memory import MemoryBus
from kit.bus.port import Consumer, Delivery, StreamSpec
from kit.clock import ManualClock
from kit.db import open_database, upgrade
from services.payment import store_settlement
from services.payment.batch import Parcel
from services.payment.room import MIGRATIONS, PaymentServicers, open_payment
from services.payment.settlement import USAGE, usage_stream
from services.payment.store_settlement import SettlementRules
from services.payment.store_tables import METADATA
from services.payment.suppliers.earnings import earned, payable
from tests.fixtures.databases import running_postgres
from tests.integration.test_payment_room import QUICK, eventually, open_room
from tests.unit.payment.rig import (
    ROUTER,
    FakeMetering,
    Rig,
    costly,
    intent,
    open_rig,
    outcome,
    refunded,
    shared,
)
from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent
from turnpike.payment.v1 import payment_pb2 as pb

CONTEXT: Any = None  # the servicer never looks at its context


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        await opened.credit("a", 10_000)
        yield opened


def sales(lease_id: str, count: int) -> list[UsageEvent]:
    """Return outcomes of every kind that the books know."""
    kinds = (
        lambda name: outcome(name, lease_id, hold_nusd=20, charge_nusd=10),
        lambda name: shared(outcome(name, lease_id, hold_nusd=20, charge_nusd=10)),
        lambda name: costly(outcome(name, lease_id, hold_nusd=20, charge_nusd=10), 4),
        lambda name: refunded(name, lease_id, hold_nusd=20, charge_nusd=10),
    )
    return [kinds[number % len(kinds)](f"r{number:03d}") for number in range(count)]


async def test_6_database_that_is_killed_while_usage_is_flushed_loses_and_doubles_nothing() -> None:
    with running_postgres(is_fsync=True) as server:
        async with open_room(server.url(server.create_database())) as room:
            await room.credit(10_000)
            lease = await room.lease(1_000)
            events = sales(lease.lease_id, 48)
            for event in events[:24]:
                await room.publish(event)

            server.kill()
            for event in events[24:]:
                await room.publish(event)
            server.start()

            await room.becomes(9_000 + 120, 1_000 - 480, 480 - 120)
            request = pb.ListBalancesRequest()
            found = (await room.servicer.ListBalances(request, CONTEXT)).balances
            balances = {row.ledger_account: row.balance_nusd for row in found}

    assert (12 * 9, 12 * 4) == (balances[earned("acme")], balances[payable("bought")])
    assert 0 == sum(balances.values())


@pytest.mark.parametrize("seed", range(4))
async def test_14_event_that_comes_up_to_five_times_in_any_order_is_applied_once(
    rig: Rig, seed: int
) -> None:
    source = random.Random(seed)
    lease_id, _ = await rig.lease("a", 1_000)
    events = sales(lease_id, 40)
    await rig.give("a", 100)
    parcels = [rig.parcel(intent(e.request_id, lease_id, 20), e) for e in events]
    coming = [parcel for parcel in parcels for _ in range(source.randint(1, 5))]
    source.shuffle(coming)

    charged = 0
    while coming:
        size = source.randint(1, 7)
        group, coming = coming[:size], coming[size:]
        charged += (await rig.deliver(*group)).charge_count

    balances = await rig.balances()
    assert 40 == charged
    assert (10 * 9, 10 * 4) == (balances[earned("acme")], balances[payable("bought")])
    assert (300, 0) == ((await rig.balance("a"))[2], (await rig.store.balance("a"))["promo_nusd"])
    assert [] == list((await rig.verify()).findings)


class _Deaf(Delivery):
    """A delivery whose acknowledgement is under way for ever: its consumer is killed in it."""

    def __init__(self, inner: Delivery, bus: "_LosesAcks") -> None:
        self._inner = inner
        self._bus = bus

    @property
    def subject(self) -> str:
        return self._inner.subject

    @property
    def data(self) -> bytes:
        return self._inner.data

    @property
    def stream_seq(self) -> int:
        return self._inner.stream_seq

    @property
    def delivery_count(self) -> int:
        return self._inner.delivery_count

    async def ack(self) -> None:
        self._bus.reached.set()
        if self._bus.is_deaf:
            await asyncio.Event().wait()
        await self._inner.ack()
        self._bus.acks.append(self.delivery_count)

    async def nak(self, delay_s: float) -> None:
        await self._inner.nak(delay_s)

    async def term(self) -> None:
        await self._inner.term()


class _DeafConsumer(Consumer):
    def __init__(self, inner: Consumer, bus: "_LosesAcks") -> None:
        self._inner = inner
        self._bus = bus

    async def fetch(self, *, count_max: int, wait_s: float) -> Sequence[Delivery]:
        found = await self._inner.fetch(count_max=count_max, wait_s=wait_s)
        return [_Deaf(each, self._bus) for each in found]


class _LosesAcks(MemoryBus):
    """A bus on which acknowledgements are lost while `is_deaf`; `acks` are those that arrived."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.is_deaf = True
        self.reached = asyncio.Event()
        self.acks: list[int] = []

    @asynccontextmanager
    async def consume(self, stream: StreamSpec, *, durable: str) -> AsyncIterator[Consumer]:
        async with super().consume(stream, durable=durable) as inner:
            yield _DeafConsumer(inner, self)


async def test_14_consumer_that_is_killed_between_commit_and_ack_applies_nothing_twice(
    database_url: str,
) -> None:
    await upgrade(database_url, MIGRATIONS, METADATA)
    clock, metering = ManualClock(), FakeMetering()
    stub: Any = metering
    bus = _LosesAcks(clock)
    await bus.ensure_stream(usage_stream(QUICK))
    async with open_database(database_url) as database:

        def room() -> AbstractAsyncContextManager[PaymentServicers]:
            return open_payment(QUICK, database=database, bus=bus, clock=clock, metering=stub)

        async with room() as served:
            ledger = served.ledger
            credit = pb.CreditAccountRequest(
                account_id="a", amount_nusd=1_000, source="manual", request_id="credit"
            )
            await ledger.CreditAccount(credit, CONTEXT)
            terms = pb.LeaseCreditRequest(
                account_id="a", key_id="k", need_nusd=100, holder_id="g", request_id="lease"
            )
            lease = await ledger.LeaseCredit(terms, CONTEXT)
            data = UsageBatch(router_id=ROUTER, events=sales(lease.lease_id, 4)).SerializeToString()
            await bus.publish_durable("usage.v1.router", data, message_id="m")
            async with asyncio.timeout(20.0):
                await bus.reached.wait()

        bus.is_deaf = False
        clock.advance(3_600.0)
        async with room() as served:
            ledger = served.ledger

            async def state() -> tuple[int, list[int]]:
                found = await ledger.GetBalance(pb.GetBalanceRequest(account_id="a"), CONTEXT)
                return found.balance.charged_nusd, bus.acks

            await eventually(state, (30, [2]))


async def test_15_crash_after_an_event_was_claimed_and_before_it_was_written_loses_nothing(
    rig: Rig,
) -> None:
    lease_id, _ = await rig.lease("a", 1_000)
    parcel = rig.parcel(*sales(lease_id, 8))
    before = await rig.balances()

    with pytest.raises(_CrashError):
        await rig.transactions.write(lambda connection: _crash(connection, rig, [parcel]))

    assert before == await rig.balances()
    applied = await rig.deliver(parcel)
    assert (8, 0) == (applied.charge_count, applied.duplicate_count)
    assert [] == list((await rig.verify()).findings)


class _CrashError(Exception):
    """The process dies here."""


def _crash(connection: Connection, rig: Rig, parcels: Sequence[Parcel]) -> None:
    rules = SettlementRules(hold_ttl_ms=1_000, refunds_per_hour_max=10)
    applied = store_settlement.settle(
        connection, parcels, stream=USAGE, now_ms=rig.clock.unix_ms(), rules=rules
    )
    assert 8 == applied.charge_count
    raise _CrashError
