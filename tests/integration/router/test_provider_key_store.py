"""Accounts' keys on both engines: stored sealed, rotated, listed, deleted, and read by a ring."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import inspect, text, update

from kit.bus.memory import MemoryBus
from kit.clock import ManualClock
from kit.db import Database, downgrade, open_database, upgrade
from kit.errors import Reason, TurnpikeError
from kit.sealed import Sealed
from services.router.own_keys import OwnKeyRing
from services.router.room import MIGRATIONS
from services.router.sealed import SealingRing
from services.router.settings import RouterSettings
from services.router.store import METADATA, KeptKey, ProviderKeyStore
from services.router.store_tables import PROVIDER_KEYS
from tests.fixtures.migrated import migrate
from tests.unit.router.key_rigs import MASTER, used

SEALED = Sealed("m", b"nonce-of-it\x00", b"\x00\xffciphertext")
CANARY = "sk-own-canary-0123456789"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    await migrate(database_url, MIGRATIONS, METADATA)
    async with open_database(database_url) as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(database: Database, clock: ManualClock) -> ProviderKeyStore:
    return ProviderKeyStore(database, clock=clock)


def ring_on(store: ProviderKeyStore, current: str = "m") -> OwnKeyRing:
    return OwnKeyRing(
        store,
        SealingRing(MASTER, current),
        bus=MemoryBus(),
        settings=RouterSettings(),
        clock=ManualClock(),
    )


async def put(store: ProviderKeyStore, account_id: str, provider: str) -> KeptKey:
    return await store.put(account_id, provider, SEALED, hint="1234", has_fallback=True)


async def test_key_is_read_as_it_was_stored(store: ProviderKeyStore) -> None:
    kept = await put(store, "a", "openai")

    assert [kept] == await store.page(count_max=9)
    assert ("a", "openai", SEALED, "1234", True) == kept[:5]


async def test_another_key_takes_its_place_and_keeps_the_day_of_the_first(
    store: ProviderKeyStore, clock: ManualClock
) -> None:
    first = await put(store, "a", "openai")
    clock.advance(60)
    other = Sealed("n", b"other-nonce!", b"other")

    second = await store.put("a", "openai", other, hint="", has_fallback=False)

    assert [second] == await store.page(count_max=9)
    assert (other, "", False) == second[2:5]
    assert first.create_unix_ms == second.create_unix_ms == second.rotate_unix_ms - 60_000


async def test_pages_have_one_order_and_every_key_once(store: ProviderKeyStore) -> None:
    places = [(a, p) for a in ("A", "a", "b", "_") for p in ("x", "Y", "z-1")]
    for account_id, provider in places:
        await put(store, account_id, provider)

    found: list[tuple[str, str]] = []
    while page := await store.page(after=found[-1] if found else ("", ""), count_max=5):
        found += [(key.account_id, key.provider) for key in page]

    assert sorted(places) == found
    assert ["Y", "x", "z-1"] == [
        key.provider for key in await store.page(account_id="a", count_max=9)
    ]


async def test_deleted_key_is_gone(store: ProviderKeyStore) -> None:
    await put(store, "a", "openai")
    await put(store, "b", "openai")

    assert await store.delete("a", "openai")
    assert not await store.delete("a", "openai")
    assert ["b"] == [key.account_id for key in await store.page(count_max=9)]


async def test_seal_is_changed_only_where_nothing_else_was(store: ProviderKeyStore) -> None:
    kept = await put(store, "a", "openai")
    anew = Sealed("n", b"other-nonce!", b"other")

    await store.reseal(kept, anew)
    await store.reseal(kept, Sealed("x", b"late-nonce!!", b"late"))

    (found,) = await store.page(count_max=9)
    assert kept._replace(sealed=anew) == found


async def test_ring_keeps_no_secret_in_the_database(
    store: ProviderKeyStore, database_url: str
) -> None:
    ring = ring_on(store)
    await ring.put("a", "openai", SecretStr(CANARY), has_fallback=False)

    (row,) = await store.page(count_max=9)
    assert CANARY not in str(row)
    assert CANARY.encode() not in row.sealed.ciphertext
    if database_url.startswith("sqlite"):
        path = Path(database_url.partition(":///")[2])
        written = [p.read_bytes() for p in path.parent.glob(f"{path.name}*")]
        assert CANARY.encode() not in b"".join(written)
    assert {"openai": CANARY} == await used(ring, "a")


async def test_next_start_reads_every_key_and_seals_with_the_new_master_key(
    store: ProviderKeyStore,
) -> None:
    first = ring_on(store)
    for name in ("a", "b"):
        await first.put(name, "openai", SecretStr(CANARY + name), has_fallback=False)

    second = ring_on(store, "n")
    await second.load()

    assert {"n"} == {key.sealed.key_id for key in await store.page(count_max=9)}
    for name in ("a", "b"):
        assert {"openai": CANARY + name} == await used(second, name)


async def test_row_that_was_moved_to_another_account_is_not_opened(
    store: ProviderKeyStore, database: Database
) -> None:
    ring = ring_on(store)
    await ring.put("a", "openai", SecretStr(CANARY), has_fallback=False)
    async with database.write() as connection:
        await connection.execute(update(PROVIDER_KEYS).values(account_id="thief"))

    await ring.load()

    keys = ring.known("thief")
    assert keys is not None
    assert keys["openai"].secret is None


async def test_database_that_is_away_is_told_as_such(
    store: ProviderKeyStore, database: Database
) -> None:
    async with database.write() as connection:
        await connection.execute(text("DROP TABLE provider_keys"))

    for work in (store.page(count_max=1), put(store, "a", "b"), store.delete("a", "b")):
        with pytest.raises(TurnpikeError) as caught:
            await work
        assert Reason.UNAVAILABLE is caught.value.reason


async def test_migration_can_be_taken_back(database_url: str) -> None:
    await upgrade(database_url, MIGRATIONS, METADATA)

    await downgrade(database_url, MIGRATIONS, METADATA, "base")

    async with open_database(database_url) as database, database.read() as connection:
        names = await connection.run_sync(lambda c: inspect(c).get_table_names())
    assert ["alembic_version"] == names
