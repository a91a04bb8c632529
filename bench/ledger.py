"""What a usage event costs metering and payment on SQLite files: `make bench-micro`.

    python bench/ledger.py                       groups of 1, 50 and 400 outcomes, each room alone

CPU is the user and system time of this process from the bytes of the deliveries to the commit. The
second table runs beside an event loop that is busy all the time, as under load, and takes off what
that loop costs alone: what is left holds the handing over of the interpreter too. The third one is
how many outcomes payment settles in a second of the clock, each with its receipt, on either engine.
"""

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos" / "gen")]

import uvloop  # noqa: E402

from kit.clock import SystemClock  # noqa: E402
from kit.db import open_database, upgrade  # noqa: E402
from kit.db_writer import open_writer  # noqa: E402
from kit.ids import Uuid7Source  # noqa: E402
from services.metering import records  # noqa: E402
from services.metering import store as metering  # noqa: E402
from services.metering.room import MIGRATIONS as METERING_MIGRATIONS  # noqa: E402
from services.metering.settings import MeteringSettings  # noqa: E402
from services.payment import batch, store_tables  # noqa: E402
from services.payment.room import MIGRATIONS as PAYMENT_MIGRATIONS  # noqa: E402
from services.payment.settings import PaymentSettings  # noqa: E402
from services.payment.store import PaymentStore  # noqa: E402
from services.payment.store_engine import open_transactions  # noqa: E402
from services.payment.store_leases import LeaseTerms  # noqa: E402
from tests.fixtures.databases import running_postgres  # noqa: E402
from turnpike.events.v1.events_pb2 import UsageBatch, UsageEvent  # noqa: E402
from turnpike.type.v1.usage_pb2 import Price, TokenUsage  # noqa: E402

SIZES = (1, 50, 400)
EVENTS = {1: 300, 50: 6_000, 400: 16_000, 1_536: 15_360}
SETTLED_SIZES = (400, 1_536)
BARS = {"SQLite": 2_000, "PostgreSQL": 5_000}
DELIVERY_EVENTS_MAX = 50
LEASES = 8
GC_THRESHOLDS = (20_000, 20, 50)  # as app/lifecycle.py has them
ACCOUNT = "01996f0a-6c40-7aaa-8f00-0123456789ab"
KEY = "01996f0a-6c41-7bbb-8f00-0123456789ab"
CLOCK = SystemClock()
IDS = Uuid7Source()

Deliveries = list[tuple[int, bytes]]
Apply = Callable[[Deliveries], Awaitable[object]]


def outcome(lease_id: str) -> UsageEvent:
    """Return one finished request as the router writes it."""
    now_ms = CLOCK.unix_ms()
    request_id = IDS.new(now_ms)
    return UsageEvent(
        event_id=f"{request_id}:outcome",
        kind=UsageEvent.KIND_OUTCOME,
        request_id=request_id,
        account_id=ACCOUNT,
        key_id=KEY,
        lease_id=lease_id,
        hold_nusd=190_000,
        model_id="openai/gpt-5-mini",
        deployment="openai-gpt-5-mini",
        provider="openai_compat",
        price=Price(
            price_id="2026-01", input_pusd_per_token=250_000, output_pusd_per_token=2_000_000
        ),
        usage=TokenUsage(prompt_token_count=27, completion_token_count=64, source=1),
        charge_nusd=134_750,
        outcome=UsageEvent.OUTCOME_COMPLETED,
        finish_reason="stop",
        start_unix_ms=now_ms - 412,
        end_unix_ms=now_ms,
        ttft_ms=35,
        attempt_count=1,
        is_streaming=True,
    )


def groups(leases: Sequence[str], size: int) -> list[Deliveries]:
    """Return groups of deliveries of `size` events each, in stream order."""
    seqs, found = count(1), []
    for _ in range(EVENTS[size] // size):
        events = [outcome(leases[number % len(leases)]) for number in range(size)]
        parts = [
            events[at : at + DELIVERY_EVENTS_MAX] for at in range(0, size, DELIVERY_EVENTS_MAX)
        ]
        found.append(
            [
                (
                    next(seqs),
                    UsageBatch(router_id="router-1", events=part).SerializeToString(),
                )
                for part in parts
            ]
        )
    return found


@asynccontextmanager
async def open_metering(folder: Path) -> AsyncIterator[tuple[Apply, list[str]]]:
    url = f"sqlite+aiosqlite:///{folder}/metering.db"
    await upgrade(url, METERING_MIGRATIONS, metering.METADATA)
    async with open_database(url) as database, open_writer(database, name="metering") as write:
        store = metering.MeteringStore(
            database, write, stream="USAGE", settings=MeteringSettings(), clock=CLOCK
        )

        async def apply(deliveries: Deliveries) -> object:
            return await store.apply([records.Parcel(seq, data) for seq, data in deliveries])

        yield apply, [IDS.new(CLOCK.unix_ms()) for _ in range(LEASES)]


@asynccontextmanager
async def open_payment(folder: Path, url: str = "") -> AsyncIterator[tuple[Apply, list[str]]]:
    url = url or f"sqlite+aiosqlite:///{folder}/payment.db"
    settings = PaymentSettings(lease_max_nusd=10**12)
    await upgrade(url, PAYMENT_MIGRATIONS, store_tables.METADATA)
    async with (
        open_database(url) as database,
        open_transactions(database, settings=settings) as transactions,
    ):
        store = PaymentStore(transactions, settings, clock=CLOCK, new_id=IDS.new)
        await store.credit(
            account_id=ACCOUNT, amount_nusd=10**15, source="manual", request_id="credit"
        )
        leases = []
        for number in range(LEASES):
            terms = LeaseTerms(ACCOUNT, KEY, "gateway", 1, 10**12, f"lease-{number}")
            granted = await store.lease(terms)
            assert isinstance(granted, tuple)
            leases.append(granted[0])

        async def apply(deliveries: Deliveries) -> object:
            parcels = [
                batch.Parcel(seq, data, UsageBatch.FromString(data)) for seq, data in deliveries
            ]
            return await store.settle(parcels, stream="USAGE")

        yield apply, leases


class BusyLoop:
    """Keeps the event loop busy and counts its turns."""

    def __init__(self) -> None:
        self.turns = 0
        self._is_over = False

    async def run(self) -> None:
        while not self._is_over:
            self.turns += 1
            for _ in range(1_000):
                pass
            await asyncio.sleep(0)

    def end(self) -> None:
        self._is_over = True


async def turn_cost_s() -> float:
    loop, begin = BusyLoop(), time.process_time()
    asyncio.get_running_loop().call_later(0.5, loop.end)
    await loop.run()
    return (time.process_time() - begin) / loop.turns


async def measure(open_room: Callable[..., object], size: int, *, is_busy: bool) -> float:
    """Return microseconds of CPU for each event."""
    with tempfile.TemporaryDirectory(dir=ROOT / "bench") as folder:
        async with open_room(Path(folder)) as (apply, leases):  # type: ignore[attr-defined]
            waiting = groups(leases, size)
            await apply(waiting.pop(0))
            gc.collect()
            gc.freeze()
            cost_s = await turn_cost_s() if is_busy else 0.0
            busy = BusyLoop()
            begin = time.process_time()
            task = asyncio.ensure_future(busy.run()) if is_busy else None
            for deliveries in waiting:
                await apply(deliveries)
            busy.end()
            if task is not None:
                await task
            spent_s = time.process_time() - begin - busy.turns * cost_s
            return spent_s * 1e6 / (len(waiting) * size)


async def settled(size: int, url: str) -> float:
    """Return how many outcomes payment settles in a second of the clock."""
    with tempfile.TemporaryDirectory(dir=ROOT / "bench") as folder:
        async with open_payment(Path(folder), url) as (apply, leases):
            waiting = groups(leases, size)
            await apply(waiting.pop(0))
            begin = time.perf_counter()
            for deliveries in waiting:
                await apply(deliveries)
            return len(waiting) * size / (time.perf_counter() - begin)


def settlement_rates() -> None:
    print("settled events in a second\n| events | SQLite | PostgreSQL |\n|---|---|---|")
    slowest = dict.fromkeys(BARS, float("inf"))
    with running_postgres(is_fsync=True) as server:
        for size in SETTLED_SIZES:
            urls = {"SQLite": "", "PostgreSQL": server.url(server.create_database())}
            rates = {name: uvloop.run(settled(size, url)) for name, url in urls.items()}
            slowest = {name: min(slowest[name], rate) for name, rate in rates.items()}
            print(f"| {size} | {rates['SQLite']:,.0f} | {rates['PostgreSQL']:,.0f} |", flush=True)
    for name, bar in BARS.items():
        verdict = "holds" if slowest[name] >= bar else "IS MISSED"
        print(f"{name}: {slowest[name]:,.0f} at the least; the bar of {bar:,} {verdict}")


def main() -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    for is_busy in (False, True):
        print("beside a busy loop" if is_busy else "alone")
        print("| events | metering µs/event | payment µs/event | both |\n|---|---|---|---|")
        for size in SIZES:
            ours, theirs = (
                uvloop.run(measure(room, size, is_busy=is_busy))
                for room in (open_metering, open_payment)
            )
            print(f"| {size} | {ours:.1f} | {theirs:.1f} | {ours + theirs:.1f} |", flush=True)
    settlement_rates()


if __name__ == "__main__":
    main()
