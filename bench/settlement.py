"""How many events a second settlement applies, on SQLite and PostgreSQL: `make bench-micro`.

    python bench/settlement.py                   groups as large as settlement takes them

Time is that of the clock, from the bytes of the deliveries to the commit, with both engines as
durable as they are by default. Beside plain outcomes there are those that a supplier earns a share
of, those that a provider is owed for, and plain ones of an account that has promotional credit.
The better of two rounds counts.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos" / "gen")]

from bench.ledger import ACCOUNT, CLOCK, IDS, KEY, LEASES, outcome  # noqa: E402
from kit.db import open_database, upgrade  # noqa: E402
from services.payment import store_tables  # noqa: E402
from services.payment.batch import Parcel  # noqa: E402
from services.payment.promos.store import PromoTerms  # noqa: E402
from services.payment.room import MIGRATIONS  # noqa: E402
from services.payment.settings import PaymentSettings  # noqa: E402
from services.payment.store import PaymentStore  # noqa: E402
from services.payment.store_engine import open_transactions  # noqa: E402
from services.payment.store_leases import LeaseTerms  # noqa: E402
from tests.fixtures.databases import running_postgres  # noqa: E402
from turnpike.events.v1.events_pb2 import Supply, UsageBatch, UsageEvent  # noqa: E402
from turnpike.type.v1.usage_pb2 import Price  # noqa: E402

GROUPS = 12
ROUNDS = 2
EVENTS = PaymentSettings().settle_events_max
BARS = {"sqlite": 2_000, "postgres": 5_000}
COST = Price(price_id="c", input_pusd_per_token=200_000, output_pusd_per_token=1_600_000)


def plain(event: UsageEvent) -> None:
    """Leave an outcome as it is."""


def shared(event: UsageEvent) -> None:
    """Let a supplier earn a share."""
    event.supply.CopyFrom(Supply(supplier_id="acme", provider="lent", fee_bps=500))


def costly(event: UsageEvent) -> None:
    """Let a provider be owed the cost."""
    event.supply.CopyFrom(Supply(provider="bought", cost=COST, cost_nusd=107_800))


Kind = Callable[[UsageEvent], None]
KINDS: dict[str, tuple[Kind, int]] = {
    "plain": (plain, 0),
    "supplier's share": (shared, 0),
    "provider's cost": (costly, 0),
    "with a gift": (plain, 10**14),
}


def parcel(leases: Sequence[str], kind: Kind, seq: int) -> Parcel:
    """Return a delivery as settlement takes it."""
    events = [outcome(leases[number % len(leases)]) for number in range(EVENTS)]
    for event in events:
        kind(event)
    data = UsageBatch(router_id="router-1", events=events).SerializeToString()
    return Parcel(seq, data, UsageBatch.FromString(data))


async def per_second(url: str, kind: Kind, gift_nusd: int) -> float:
    """Return the events a second that a new database takes."""
    settings = PaymentSettings(lease_max_nusd=10**13)
    await upgrade(url, MIGRATIONS, store_tables.METADATA)
    async with (
        open_database(url) as database,
        open_transactions(database, settings=settings) as transactions,
    ):
        store = PaymentStore(transactions, settings, clock=CLOCK, new_id=IDS.new)
        await store.credit(
            account_id=ACCOUNT, amount_nusd=10**15, source="manual", request_id="credit"
        )
        if gift_nusd:
            await store.give(PromoTerms(ACCOUNT, gift_nusd, 0, "gift"))
        leases = []
        for number in range(LEASES):
            granted = await store.lease(
                LeaseTerms(ACCOUNT, KEY, "gateway", 1, 10**13, f"lease-{number}")
            )
            assert isinstance(granted, tuple)
            leases.append(granted[0])
        seqs = count(1)
        parcels = [parcel(leases, kind, next(seqs)) for _ in range(GROUPS + 1)]
        await store.settle(parcels[:1], stream="USAGE")
        begin = time.perf_counter()
        for each in parcels[1:]:
            await store.settle([each], stream="USAGE")
        return GROUPS * EVENTS / (time.perf_counter() - begin)


def main() -> None:
    """Print a table; exit 1 below a bar."""
    found = {name: [0.0] * len(BARS) for name in KINDS}
    with (
        running_postgres(is_fsync=True) as server,
        tempfile.TemporaryDirectory(dir=ROOT / "bench") as folder,
    ):
        for round_ in range(ROUNDS):
            for name, (kind, gift_nusd) in KINDS.items():
                sqlite = f"sqlite+aiosqlite:///{folder}/{name}-{round_}.db"
                postgres = server.url(server.create_database())
                for engine, url in enumerate((sqlite, postgres)):
                    rate = asyncio.run(per_second(url, kind, gift_nusd))
                    found[name][engine] = max(rate, found[name][engine])
    print(f"| outcomes, {EVENTS} to a transaction | SQLite events/s | PostgreSQL events/s |")
    print("|---|---|---|")
    for name, (on_sqlite, on_postgres) in found.items():
        print(f"| {name} | {on_sqlite:,.0f} | {on_postgres:,.0f} |")
    slowest = [min(column) for column in zip(*found.values(), strict=True)]
    if any(rate < bar for rate, bar in zip(slowest, BARS.values(), strict=True)):
        sys.exit(1)


if __name__ == "__main__":
    main()
