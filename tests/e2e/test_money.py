"""Money end to end: the whole product as a process, a fake upstream, and the books afterwards."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.load import Ask, Seen, ask, open_session
from tests.faults.site import Json, Site, price_nusd, running_site, until
from tests.fixtures.databases import PostgresServer

PARALLEL = 200
AFFORDABLE = 10
SETTLE_S = 20.0
CREDIT_NUSD = 1_000_000_000
pytestmark = pytest.mark.timeout(180)
Databases = Callable[[], Json]


def on_sqlite() -> Json:
    """Leave every room its file in the state folder."""
    return {}


@pytest.fixture
def on_postgres(postgres_server: PostgresServer) -> Databases:
    """Give every room an empty database of a real PostgreSQL."""

    def settings() -> Json:
        return {
            room: {"database_url": postgres_server.url(postgres_server.create_database())}
            for room in ("auth", "metering", "payment")
        }

    return settings


@asynccontextmanager
async def open_site(
    folder: Path, databases: Databases, *, credit_nusd: int = CREDIT_NUSD
) -> AsyncIterator[Site]:
    async with running_site(folder, settings=databases(), credit_nusd=credit_nusd) as site:
        yield site


def full_ask(serial: int, *, is_streaming: bool = False) -> Ask:
    """Return a request whose answer uses exactly what is held for it."""
    return Ask(
        serial, is_streaming=is_streaming, is_prompt_full=True, max_tokens=40, markers="use=max"
    )


def hold_nusd(wish: Ask) -> int:
    return price_nusd(wish.prompt_tokens_max, wish.max_tokens)


async def ask_all(site: Site, wishes: Sequence[Ask]) -> list[Seen]:
    """Send all requests at once."""
    async with open_session() as session:
        return await asyncio.gather(*(ask(session, site, wish) for wish in wishes))


async def settled(site: Site, count: int) -> list[Json]:
    """Wait until both rooms know so many requests; return the records, newest first."""
    found: list[Json] = []

    def is_settled() -> bool:
        found[:] = site.usage()
        books = site.verify()
        settled_nusd = int(books["charged_nusd"]) + int(books["writeoff_nusd"])
        is_level = settled_nusd == sum(int(record["charge_nusd"]) for record in found)
        return is_level and len(found) >= count and int(books["open_hold_count"]) == 0

    await until(is_settled, f"{count} requests are settled", wait_s=SETTLE_S)
    return found


async def burst(site: Site) -> list[Seen]:
    """Send many requests at once to a site whose balance is worth few of them."""
    wishes = [full_ask(n, is_streaming=n % 2 == 0) for n in range(1, PARALLEL + 1)]
    assert 1 == len({hold_nusd(wish) for wish in wishes})
    await asyncio.to_thread(site.credit, AFFORDABLE * hold_nusd(wishes[0]))
    return await ask_all(site, wishes)


async def check_burst(site: Site, seen: Sequence[Seen]) -> None:
    records = await settled(site, AFFORDABLE)

    hold = hold_nusd(seen[0].ask)
    refused = [each for each in seen if each.status == 402]
    assert {200: AFFORDABLE, 402: PARALLEL - AFFORDABLE} == Counter(each.status for each in seen)
    assert AFFORDABLE == sum(each.is_whole for each in seen)
    assert {("insufficient_quota", "billing_error")} == {
        (each.error["code"], each.error["type"]) for each in refused if each.error
    }
    assert [str(hold)] * AFFORDABLE == [record["charge_nusd"] for record in records]
    assert {"available": 0, "held": 0, "charged": AFFORDABLE * hold} == site.balance()
    assert AFFORDABLE == len(site.upstream.told())
    verified = site.verify()
    assert verified["is_clean"], verified["findings"]


async def test_of_200_parallel_requests_a_balance_for_10_pays_exactly_10(tmp_path: Path) -> None:
    async with open_site(tmp_path, on_sqlite, credit_nusd=0) as site:
        seen = await burst(site)

        await check_burst(site, seen)


async def test_of_200_parallel_requests_a_balance_for_10_pays_exactly_10_on_postgres(
    tmp_path: Path, on_postgres: Databases
) -> None:
    async with open_site(tmp_path, on_postgres, credit_nusd=0) as site:
        seen = await burst(site)

        await check_burst(site, seen)


async def traffic(site: Site) -> list[Seen]:
    """Send one request after the other: whole, cut, refused and broken answers."""
    wishes = [
        Ask(1, chunks=7, is_streaming=False),
        Ask(2, chunks=16),
        full_ask(3),
        full_ask(4, is_streaming=True),
        Ask(5, chunks=9, markers="fake=usage:never"),
        Ask(6, chunks=12, markers="fake=cut_after:6"),
        Ask(7, markers="fake=status:400", is_streaming=False),
        Ask(8, chunks=1),
        Ask(9, chunks=40, max_tokens=10_000_000),
        Ask(10, chunks=3, is_streaming=False),
    ]
    async with open_session() as session:
        return [await ask(session, site, wish) for wish in wishes]


async def books_of(folder: Path, databases: Databases) -> tuple[Json, list[tuple[Any, ...]]]:
    """Return what the same traffic leaves: ledger balances, and every record without its id."""
    async with open_site(folder, databases) as site:
        seen = await traffic(site)
        answered = [each for each in seen if each.status in (200, 400)]
        records = await settled(site, len(answered))
        assert await site.stop() == 0
        await site.start()
        await until(lambda: site.balance()["held"] == 0, "all came back", wait_s=SETTLE_S)
        verified = site.verify()
        assert verified["is_clean"], verified["findings"]
        assert len(answered) == len(records)
        return site.ledger_balances(), [
            (
                record["model_id"],
                record["deployment"],
                record["outcome"],
                record["finish_reason"],
                record["usage"],
                record["charge_nusd"],
                record["is_streaming"],
            )
            for record in reversed(records)
        ]


async def test_same_traffic_gives_the_same_ledger_on_sqlite_and_postgres(
    tmp_path: Path, on_postgres: Databases
) -> None:
    sqlite = await books_of(tmp_path / "sqlite", on_sqlite)

    postgres = await books_of(tmp_path / "postgres", on_postgres)

    assert sqlite == postgres
    balances, rows = sqlite
    charged = sum(int(row[5]) for row in rows)
    assert charged == balances["revenue"]
    assert CREDIT_NUSD - charged == balances["customer:available"]
    assert 0 == balances.get("writeoff", 0) == balances["customer:held"]


async def test_client_that_leaves_pays_what_was_delivered_and_the_upstream_is_cancelled(
    tmp_path: Path,
) -> None:
    wish = Ask(1, chunks=1_000, delay_ms=10, max_tokens=2_000, leave_after=5)

    async with open_site(tmp_path, on_sqlite) as site:
        (seen,) = await ask_all(site, [wish])
        (record,) = await settled(site, 1)
        await until(lambda: site.upstream.told()[1].is_over, "the upstream ended", wait_s=SETTLE_S)
        told = site.upstream.told()[1]
        balance = site.balance()
        is_clean = site.verify()["is_clean"]

    delivered = int(record["usage"]["completion_token_count"])
    assert seen.has_left
    assert told.is_aborted
    assert "client_closed" == record["outcome"]
    assert wish.leave_after <= delivered <= told.chunks_sent < wish.chunks
    assert price_nusd(wish.prompt_tokens_max // 2, delivered) == int(record["charge_nusd"])
    assert int(record["charge_nusd"]) == balance["charged"] < told.figure_nusd
    assert is_clean


async def test_clients_that_leave_while_they_are_written_to_are_no_failures(
    tmp_path: Path,
) -> None:
    wishes = [Ask(n, chunks=2_000, max_tokens=4_000, leave_after=1) for n in range(1, 13)]

    async with open_site(tmp_path, on_sqlite) as site:
        for wish in wishes:
            await ask_all(site, [wish])
        records = await settled(site, len(wishes))
        assert await site.stop() == 0
        log = (site.folder / "serve.log").read_text()

    assert len(wishes) == log.count('"request_finished"')
    assert {"client_closed", "completed"} >= {record["outcome"] for record in records}
    assert 0 == log.count("request_failed") == log.count('"status":500')


async def test_every_outcome_shows_in_the_list_of_usage_with_its_charge(tmp_path: Path) -> None:
    wishes = {
        "completed": Ask(1, chunks=4),
        "client_closed": Ask(2, chunks=500, delay_ms=10, max_tokens=999, leave_after=2),
        "upstream_failed": Ask(3, chunks=12, delay_ms=5, markers="fake=cut_after:6"),
        "refused": Ask(4, markers="fake=status:400"),
    }

    async with open_site(tmp_path, on_sqlite) as site:
        listed: dict[str, Json] = {}
        for outcome, wish in wishes.items():
            await ask_all(site, [wish])
            listed[outcome] = (await settled(site, len(listed) + 1))[0]

    assert list(wishes) == [record["outcome"] for record in listed.values()]
    charges = {outcome: int(record["charge_nusd"]) for outcome, record in listed.items()}
    first = wishes["completed"]
    assert price_nusd(first.prompt_tokens, 4) == charges["completed"]
    assert price_nusd(first.prompt_tokens_max // 2, 6) == charges["upstream_failed"]
    assert 0 == charges["refused"] < charges["client_closed"]
