"""The open payment room: events from a bus in, money asked for at its border."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from kit.bus.memory import MemoryBus
from kit.bus.port import Bus
from kit.clock import ManualClock
from kit.db import Database, open_database, upgrade
from kit.errors import Reason, TurnpikeError
from kit.tasks import background
from services.payment.leases import LEASE_RECALL
from services.payment.room import MIGRATIONS, open_payment
from services.payment.servicer import PaymentServicer
from services.payment.settings import PaymentSettings
from services.payment.settlement import usage_stream
from services.payment.store_tables import METADATA, dead_letters
from tests.fixtures.databases import running_postgres
from tests.unit.payment.rig import ROUTER, FakeMetering, intent, outcome
from turnpike.events.v1.events_pb2 import LeaseRecall, UsageBatch, UsageEvent
from turnpike.payment.v1 import payment_pb2 as pb

CONTEXT: Any = None  # the servicer never looks at its context
QUICK = PaymentSettings(
    fetch_wait_s=0.05,
    settle_linger_s=0.0,
    retry_s=0.05,
    sweep_s=0.02,
    hold_ttl_s=10.0,
    router_gone_s=60.0,
)


@dataclass
class Room:
    """An open room and what it is connected to."""

    servicer: PaymentServicer
    bus: Bus
    clock: ManualClock
    database: Database
    metering: FakeMetering
    sent_count: int = 0

    async def publish(self, *events: UsageEvent) -> None:
        batch = UsageBatch(router_id=ROUTER, watermark_unix_ms=self.clock.unix_ms(), events=events)
        await self.publish_bytes(batch.SerializeToString())

    async def publish_bytes(self, data: bytes) -> None:
        self.sent_count += 1
        name = f"m{self.sent_count}"
        await self.bus.publish_durable("usage.v1.router", data, message_id=name)

    async def credit(self, amount_nusd: int) -> pb.Balance:
        request = pb.CreditAccountRequest(
            account_id="a", amount_nusd=amount_nusd, source="manual", request_id="credit"
        )
        return (await self.servicer.CreditAccount(request, CONTEXT)).balance

    async def lease(self, need_nusd: int, request_id: str = "lease") -> pb.LeaseCreditResponse:
        request = pb.LeaseCreditRequest(
            account_id="a",
            key_id="k",
            need_nusd=need_nusd,
            holder_id="gateway",
            request_id=request_id,
        )
        return await self.servicer.LeaseCredit(request, CONTEXT)

    async def give_back(self, lease_id: str, undrawn_nusd: int) -> None:
        request = pb.ReturnCreditRequest(
            lease_id=lease_id, undrawn_nusd=undrawn_nusd, request_id=f"return-{lease_id}"
        )
        await self.servicer.ReturnCredit(request, CONTEXT)

    async def balance(self) -> tuple[int, int, int]:
        request = pb.GetBalanceRequest(account_id="a")
        found = (await self.servicer.GetBalance(request, CONTEXT)).balance
        return found.available_nusd, found.held_nusd, found.charged_nusd

    async def becomes(self, *balance: int) -> None:
        await eventually(self.balance, balance)


async def eventually(
    probe: Callable[[], Awaitable[object]], expected: object, *, within_s: float = 20.0
) -> None:
    """Look again and again until a probe gives what is expected."""
    try:
        async with asyncio.timeout(within_s):
            while await probe() != expected:
                await asyncio.sleep(0.01)
    except TimeoutError:
        assert expected == await probe()


@asynccontextmanager
async def open_room(url: str, settings: PaymentSettings = QUICK) -> AsyncIterator[Room]:
    await upgrade(url, MIGRATIONS, METADATA)
    clock, bus, metering = ManualClock(), MemoryBus(), FakeMetering()
    await bus.ensure_stream(usage_stream(settings))
    stub: Any = metering
    async with (
        open_database(url) as database,
        open_payment(settings, database=database, bus=bus, clock=clock, metering=stub) as served,
    ):
        yield Room(served.ledger, bus, clock, database, metering)


@pytest.fixture
async def room(database_url: str) -> AsyncIterator[Room]:
    async with open_room(database_url) as opened:
        yield opened


@pytest.fixture
async def small_room(sqlite_url: str) -> AsyncIterator[Room]:
    async with open_room(sqlite_url) as opened:
        yield opened


async def test_published_usage_is_charged(room: Room) -> None:
    await room.credit(100)
    lease = await room.lease(60)

    await room.publish(
        intent("r1", lease.lease_id, 60),
        outcome("r1", lease.lease_id, hold_nusd=60, charge_nusd=25),
    )

    await room.becomes(40, 35, 25)


async def test_lease_names_its_duration(small_room: Room) -> None:
    await small_room.credit(100)

    lease = await small_room.lease(60)

    assert (60, 30) == (lease.granted_nusd, lease.duration.seconds)


async def test_poison_is_kept_aside_and_the_rest_keeps_flowing(room: Room) -> None:
    await room.credit(100)
    lease = await room.lease(60)

    await room.publish_bytes(b"\xff\xff junk")
    unusable = outcome("r0", lease.lease_id, hold_nusd=60, charge_nusd=1)
    unusable.model_id = "nul \0 is no text on PostgreSQL"
    await room.publish(unusable)
    await room.publish(outcome("r1", lease.lease_id, hold_nusd=60, charge_nusd=25))

    is_text = room.database.is_sqlite
    await room.becomes(40, 34 if is_text else 35, 26 if is_text else 25)
    async with room.database.read() as connection:
        letters = (await connection.execute(select(dead_letters.c.stream_seq))).scalars().all()
    assert ([1] if is_text else [1, 2]) == sorted(letters)


async def test_ended_leases_are_released_without_being_asked(room: Room) -> None:
    await room.credit(100)
    await room.lease(60)
    room.clock.advance(3600.0)

    await room.publish()

    await room.becomes(100, 0, 0)


async def test_short_request_calls_unspent_leases_back_and_is_granted(small_room: Room) -> None:
    await small_room.credit(100)
    lease = await small_room.lease(70)
    holder = _Holder(small_room, lease.lease_id, 70)
    patient = PaymentSettings(recall_wait_s=20.0)
    small_room.servicer._leases._wait_s = patient.recall_wait_s

    async with background(holder.run, name="holder"):
        await holder.is_listening.wait()
        granted = await small_room.lease(90, "second")

    assert 90 == granted.granted_nusd
    assert (10, 90, 0) == await small_room.balance()


async def test_refusal_says_what_is_there_and_what_is_needed(small_room: Room) -> None:
    await small_room.credit(100)
    await small_room.lease(70)

    with pytest.raises(TurnpikeError) as refused:
        await small_room.lease(90, "second")

    assert Reason.INSUFFICIENT_QUOTA == refused.value.reason
    assert "Balance is 0.00000003 USD; 0.00000009 USD needed." == refused.value.message
    assert {
        "available_nusd": "30",
        "need_nusd": "90",
        "missing_nusd": "60",
        "missing_usd": "0.00000006",
        "limit_source": "balance",
    } == refused.value.metadata
    assert {} == small_room.servicer._leases._waiters


async def test_refusal_does_not_wait_when_nothing_could_come_back(sqlite_url: str) -> None:
    async with open_room(sqlite_url, QUICK.model_copy(update={"recall_wait_s": 3600.0})) as room:
        await room.credit(100)

        with pytest.raises(TurnpikeError):
            await room.lease(101)


async def test_balances_are_listed_in_pages_by_name(small_room: Room) -> None:
    await small_room.credit(100)
    await small_room.lease(10)

    names: list[str] = []
    token = ""
    while True:
        request = pb.ListBalancesRequest(page_size=2, page_token=token)
        page = await small_room.servicer.ListBalances(request, CONTEXT)
        names += [balance.ledger_account for balance in page.balances]
        token = page.next_page_token
        if not token:
            break

    assert ["customer:a:available", "customer:a:held", "funding:manual"] == names


async def test_ledger_is_verified_and_rebuilt_over_the_border(small_room: Room) -> None:
    await small_room.credit(100)

    proof = await small_room.servicer.VerifyLedger(pb.VerifyLedgerRequest(), CONTEXT)
    rebuilt = await small_room.servicer.RebuildLedger(pb.RebuildLedgerRequest(), CONTEXT)

    assert (True, 1) == (proof.is_clean, proof.transaction_count)
    assert (0, 2) == (rebuilt.corrected_count, rebuilt.ledger_account_count)


async def test_verification_without_metering_is_unavailable(small_room: Room) -> None:
    await small_room.credit(100)
    lease = await small_room.lease(60)
    await small_room.publish(outcome("r1", lease.lease_id, hold_nusd=60, charge_nusd=25))
    await small_room.becomes(40, 35, 25)
    small_room.servicer._verifier._metering = _AwayMetering()  # type: ignore[assignment]

    with pytest.raises(TurnpikeError) as refused:
        await small_room.servicer.VerifyLedger(pb.VerifyLedgerRequest(), CONTEXT)

    assert Reason.UNAVAILABLE == refused.value.reason


@pytest.mark.parametrize(
    ("method", "request_", "param"),
    [
        ("LeaseCredit", pb.LeaseCreditRequest(), "account_id"),
        ("LeaseCredit", pb.LeaseCreditRequest(account_id="a"), "key_id"),
        ("LeaseCredit", pb.LeaseCreditRequest(account_id="a", key_id="k"), "need_nusd"),
        ("LeaseCredit", pb.LeaseCreditRequest(account_id="a", key_id="k", need_nusd=1),
         "request_id"),
        ("LeaseCredit", pb.LeaseCreditRequest(account_id="a\0"), "account_id"),
        ("LeaseCredit", pb.LeaseCreditRequest(account_id="a" * 129), "account_id"),
        ("ReturnCredit", pb.ReturnCreditRequest(), "lease_id"),
        ("ReturnCredit", pb.ReturnCreditRequest(lease_id="l"), "request_id"),
        ("ReturnCredit", pb.ReturnCreditRequest(lease_id="l", undrawn_nusd=-1), "undrawn_nusd"),
        ("CreditAccount", pb.CreditAccountRequest(source="gift"), "source"),
        ("CreditAccount", pb.CreditAccountRequest(source="promo", account_id="a"), "amount_nusd"),
        ("CreditAccount",
         pb.CreditAccountRequest(source="promo", account_id="a", amount_nusd=2**62),
         "amount_nusd"),
        ("GetBalance", pb.GetBalanceRequest(), "account_id"),
        ("ListBalances", pb.ListBalancesRequest(page_size=10_001), "page_size"),
    ],
)  # fmt: skip
async def test_border_refuses_what_is_missing_or_out_of_range(
    small_room: Room, method: str, request_: object, param: str
) -> None:
    with pytest.raises(TurnpikeError) as refused:
        await getattr(small_room.servicer, method)(request_, CONTEXT)

    assert param == refused.value.metadata["param"]


async def test_usage_published_while_postgres_is_down_is_charged_when_it_is_back() -> None:
    with running_postgres() as server:
        async with open_room(server.url(server.create_database())) as room:
            await room.credit(100)
            lease = await room.lease(60)

            server.stop()
            await room.publish(outcome("r1", lease.lease_id, hold_nusd=60, charge_nusd=25))
            with pytest.raises(TurnpikeError) as refused:
                await room.lease(10, "second")
            server.start()

            await room.becomes(40, 35, 25)
            assert Reason.LEDGER_UNAVAILABLE == refused.value.reason


class _Holder:
    """A gateway that returns its lease when it is asked to."""

    def __init__(self, room: Room, lease_id: str, undrawn_nusd: int) -> None:
        self._room = room
        self._lease_id = lease_id
        self._undrawn_nusd = undrawn_nusd
        self.is_listening = asyncio.Event()

    async def run(self) -> None:
        async with self._room.bus.subscribe(LEASE_RECALL) as recalls:
            self.is_listening.set()
            async for data in recalls:
                assert "a" == LeaseRecall.FromString(data).account_id
                await self._room.give_back(self._lease_id, self._undrawn_nusd)
                return


class _AwayMetering:
    """Metering that cannot be reached."""

    async def ListCharges(self, _request: object, *, timeout: float) -> object:
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()
        )
