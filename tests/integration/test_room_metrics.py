"""What Prometheus reads of rooms and bus, over a real database and a real nats-server."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from app.readings import watch_access_log, watch_bus
from kit.bus.memory import MemoryBus
from kit.bus.nats import open_nats_bus
from kit.clock import ManualClock
from kit.db import open_database, upgrade
from kit.logs import AccessLog
from kit.telemetry import Telemetry
from services.metering import room as metering_room
from services.metering.settings import MeteringSettings
from services.metering.store import METADATA as METERING_TABLES
from services.payment import room as payment_room
from services.payment.servicer import PaymentServicer
from services.payment.settings import PaymentSettings
from services.payment.settlement import usage_stream
from services.payment.store_tables import METADATA as PAYMENT_TABLES
from tests.unit.payment.rig import ROUTER, FakeMetering, costly, outcome
from turnpike.events.v1.events_pb2 import UsageBatch
from turnpike.payment.v1 import payment_pb2 as pb

CONTEXT: Any = None  # the servicers never look at their context
PAYMENT = PaymentSettings(fetch_wait_s=0.05, settle_linger_s=0.0, sweep_s=0.02)
METERING = MeteringSettings(fetch_wait_s=0.05, linger_s=0.0)


async def reads(registry: CollectorRegistry, expected: dict[str, float]) -> None:
    """Look again and again until a page shows what is expected."""

    def found() -> dict[str, float | None]:
        return {name: registry.get_sample_value(name) for name in expected}

    try:
        async with asyncio.timeout(20.0):
            while found() != expected:
                await asyncio.sleep(0.01)
    except TimeoutError:
        assert expected == found()


async def lease(servicer: PaymentServicer, need_nusd: int) -> str:
    request = pb.LeaseCreditRequest(
        account_id="a",
        key_id="k",
        need_nusd=need_nusd,
        holder_id="gateway",
        request_id=f"lease-{need_nusd}",
    )
    answer = await servicer.LeaseCredit(request, CONTEXT)
    return str(answer.lease_id)


async def test_payment_shows_losses_dead_letters_and_open_leases(sqlite_url: str) -> None:
    await upgrade(sqlite_url, payment_room.MIGRATIONS, PAYMENT_TABLES)
    telemetry, bus, clock, stub = Telemetry(), MemoryBus(), ManualClock(), FakeMetering()
    metering: Any = stub
    await bus.ensure_stream(usage_stream(PAYMENT))
    async with (
        open_database(sqlite_url) as database,
        payment_room.open_payment(
            PAYMENT,
            database=database,
            bus=bus,
            clock=clock,
            metering=metering,
            telemetry=telemetry,
        ) as served,
    ):
        servicer = served.ledger
        credit = pb.CreditAccountRequest(
            account_id="a", amount_nusd=100, source="manual", request_id="credit"
        )
        await servicer.CreditAccount(credit, CONTEXT)
        first = await lease(servicer, 60)
        await lease(servicer, 20)
        batch = UsageBatch(
            router_id=ROUTER,
            watermark_unix_ms=clock.unix_ms(),
            events=[
                outcome("r1", first, hold_nusd=60, charge_nusd=90),
                outcome("r2", "gone", hold_nusd=10, charge_nusd=10),
                costly(outcome("r3", first, hold_nusd=0, charge_nusd=0), 7),
            ],
        )

        await bus.publish_durable("usage.v1.r", batch.SerializeToString(), message_id="1")
        await bus.publish_durable("usage.v1.r", b"\xff", message_id="2")

        expected = {
            "turnpike_payment_writeoff_nusd_total": 30.0,
            "turnpike_payment_late_outcomes_total": 1.0,
            "turnpike_payment_unlent_outcomes_total": 1.0,
            "turnpike_payment_dead_letters_total": 1.0,
            "turnpike_payment_earned_nusd_total": 7.0,
            "turnpike_payment_open_leases": 1.0,
            "turnpike_payment_lost_nusd": 30.0,
            "turnpike_payment_debt_nusd": 0.0,
            "turnpike_payment_debtor_accounts": 0.0,
        }
        await reads(telemetry.registry, expected)


async def test_metering_shows_dead_letters_and_how_long_it_heard_nothing(sqlite_url: str) -> None:
    await upgrade(sqlite_url, metering_room.MIGRATIONS, METERING_TABLES)
    telemetry, bus = Telemetry(), MemoryBus()
    await bus.ensure_stream(usage_stream(PAYMENT))
    async with (
        open_database(sqlite_url) as database,
        metering_room.open_metering(
            METERING, database=database, bus=bus, clock=ManualClock(), telemetry=telemetry
        ),
    ):
        await bus.publish_durable("usage.v1.r", b"\xff", message_id="1")

        await reads(telemetry.registry, {"turnpike_metering_dead_letters_total": 1.0})
        silence_s = telemetry.registry.get_sample_value("turnpike_metering_silence_seconds")

    assert silence_s is not None
    assert 0.0 <= silence_s < 60.0


async def test_bus_shows_what_a_slow_subscriber_missed(nats_url: str) -> None:
    registry = CollectorRegistry()
    async with open_nats_bus(nats_url, name="test", pending_messages_max=2) as bus:
        watch_bus(registry, bus)

        async with bus.subscribe("slow.x"):
            for index in range(5):
                await bus.publish("slow.x", b"%d" % index)
            async with asyncio.timeout(20.0):
                while _lost(registry, "received") != 3.0:
                    await asyncio.sleep(0.01)

    assert (3.0, 0.0) == (_lost(registry, "received"), _lost(registry, "sent"))


async def test_bus_that_is_away_shows_what_could_not_be_sent() -> None:
    registry = CollectorRegistry()
    async with open_nats_bus("nats://127.0.0.1:1", name="test", connect_timeout_s=0.05) as bus:
        watch_bus(registry, bus)

        await bus.publish("x", b"lost")

        connections = registry.get_sample_value("turnpike_bus_connections")
        found = _lost(registry, "sent")

    assert (0.0, 1.0) == (connections, found)


async def test_access_log_shows_the_lines_it_lost() -> None:
    registry = CollectorRegistry()
    log = AccessLog(lambda _: None, later=lambda _s, _call: None, lines_max=2)
    watch_access_log(registry, log)

    for number in range(5):
        log.add({"number": number})

    assert 3.0 == registry.get_sample_value("turnpike_access_log_lost_lines_total")


def _lost(registry: CollectorRegistry, direction: str) -> float | None:
    name = "turnpike_bus_lost_messages_total"
    return registry.get_sample_value(name, {"direction": direction})
