"""Accounts' keys in memory: read once, forgotten when they change, never those of somebody else."""

import asyncio

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from kit.errors import Reason, TurnpikeError
from kit.tasks import background
from services.router.own_keys import OwnKeyRing
from services.router.sealed import SealingRing
from services.router.settings import RouterSettings
from tests.fakes.openai_calls import eventually
from tests.unit.router.key_rigs import KeyRig, shown, used

SECRET = "sk-own-canary-0123456789"


async def test_nobody_has_a_key_and_nothing_is_read_for_a_request() -> None:
    rig = KeyRig()
    ring = rig.ring()
    await ring.load()
    reads = rig.store.read_count

    assert {} == await used(ring, "anyone")
    assert reads == rig.store.read_count


async def test_keys_are_there_from_the_start_and_nobody_else_has_any() -> None:
    rig = KeyRig()
    await rig.put(rig.ring(), "a", "openai", SECRET)
    await rig.put(rig.ring(), "a", "other", "sk-other")
    ring = rig.ring()
    await ring.load()
    reads = rig.store.read_count

    assert {"openai": SECRET, "other": "sk-other"} == await used(ring, "a")
    assert {} == await used(ring, "b")
    assert reads == rig.store.read_count


async def test_key_counts_from_the_moment_it_is_stored_and_until_it_is_deleted() -> None:
    rig = KeyRig()
    ring = rig.ring()
    await ring.load()

    found = [await used(ring, "a")]
    for secret in ("sk-first-key", "sk-second-key"):
        await rig.put(ring, "a", "openai", secret)
        found.append(await used(ring, "a"))
    assert await ring.delete("a", "openai")
    found.append(await used(ring, "a"))

    assert [{}, {"openai": "sk-first-key"}, {"openai": "sk-second-key"}, {}] == found
    assert not await ring.delete("a", "openai")


async def test_every_router_follows_a_change_that_one_made() -> None:
    rig = KeyRig()
    here, there = rig.ring(), rig.ring()
    await here.load()
    await there.load()

    async with background(there.listen, name="there"):
        await asyncio.sleep(0)
        await rig.put(here, "a", "openai", "sk-first-key")
        await eventually(lambda: there.known("a") is None)
        first = await used(there, "a")
        await rig.put(here, "a", "openai", "sk-second-key")
        await eventually(lambda: there.known("a") is None)
        second = await used(there, "a")

    assert ({"openai": "sk-first-key"}, {"openai": "sk-second-key"}) == (first, second)


async def test_junk_on_the_bus_changes_nothing() -> None:
    rig = KeyRig()
    ring = rig.ring()
    await ring.load()

    async with background(ring.listen, name="ring"):
        await asyncio.sleep(0)
        await rig.bus.publish("router.provider_key_changed.v1", b"\xff\xff")
        await rig.put(rig.ring(), "a", "openai", SECRET)
        await eventually(lambda: ring.known("a") is None)

    assert {"openai": SECRET} == await used(ring, "a")


async def test_change_that_comes_while_keys_are_read_is_not_lost() -> None:
    rig = KeyRig()
    ring = rig.ring()
    await rig.put(ring, "a", "openai", "sk-first-key")
    sealed = rig.store.rows.copy()
    await rig.put(ring, "a", "openai", "sk-second-key")
    later, rig.store.rows = rig.store.rows, sealed

    def change() -> None:
        rig.store.on_read = lambda: None
        rig.store.rows = later
        ring._forget("a")

    rig.store.on_read = change

    assert {"openai": "sk-second-key"} == await used(ring, "a")


async def test_lost_push_is_made_up_for_by_the_next_reading() -> None:
    rig = KeyRig()
    ring = rig.ring()
    await ring.load()
    await rig.put(rig.ring(), "a", "openai", SECRET)

    before = await used(ring, "a")
    await ring._reload()

    assert ({}, {"openai": SECRET}) == (before, await used(ring, "a"))


async def test_more_keys_than_memory_holds_are_read_when_they_are_used() -> None:
    rig = KeyRig()
    for number in range(5):
        await rig.put(rig.ring(), f"a{number}", "openai", f"sk-of-account-{number}")
    ring = rig.ring(byok_keys_max=2)
    with capture_logs() as logs:
        await ring.load()

    for _ in range(2):
        for number in range(5):
            assert {"openai": f"sk-of-account-{number}"} == await used(ring, f"a{number}")
    assert {} == await used(ring, "nobody")
    assert len(ring._accounts) <= 2
    assert "provider_keys_do_not_fit" in {entry["event"] for entry in logs}


async def test_account_that_is_pushed_out_of_memory_keeps_its_keys() -> None:
    rig = KeyRig()
    for name in ("a", "b"):
        await rig.put(rig.ring(), name, "openai", f"sk-of-account-{name}")
    ring = rig.ring(byok_keys_max=2)
    await ring.load()

    await rig.put(ring, "c", "openai", "sk-of-account-c")

    for name in ("a", "b", "c"):
        assert {"openai": f"sk-of-account-{name}"} == await used(ring, name)


async def test_none_is_remembered_too_and_not_for_ever() -> None:
    rig = KeyRig()
    for number in range(3):
        await rig.put(rig.ring(), f"a{number}", "openai", SECRET)
    ring = rig.ring(byok_keys_max=2, byok_refresh_s=30)
    await ring.load()
    await used(ring, "nobody")
    reads = rig.store.read_count

    assert {} == await used(ring, "nobody")
    assert reads == rig.store.read_count
    rig.clock.advance(31)
    assert ring.known("nobody") is None


async def test_what_was_read_holds_for_a_while_when_the_database_is_away() -> None:
    rig = KeyRig()
    await rig.put(rig.ring(), "a", "openai", SECRET)
    ring = rig.ring(byok_stale_max_s=900)
    await ring.load()
    rig.store.is_away = True

    rig.clock.advance(899)
    assert ({"openai": SECRET}, {}) == (await used(ring, "a"), await used(ring, "b"))
    rig.clock.advance(2)
    for name in ("a", "b"):
        with pytest.raises(TurnpikeError) as caught:
            await used(ring, name)
        assert Reason.UNAVAILABLE is caught.value.reason


async def test_another_master_key_seals_anew_at_the_next_start() -> None:
    rig = KeyRig()
    await rig.put(rig.ring("m"), "a", "openai", SECRET)

    ring = rig.ring("n")
    await ring.load()

    (row,) = rig.store.rows.values()
    assert "n" == row.sealed.key_id
    assert {"openai": SECRET} == await used(ring, "a")


async def test_key_that_cannot_be_opened_is_known_as_such_and_told() -> None:
    rig = KeyRig()
    await rig.put(rig.ring(), "a", "openai", SECRET)
    empty = OwnKeyRing(
        rig.store, SealingRing({}, ""), bus=rig.bus, settings=RouterSettings(), clock=rig.clock
    )

    with capture_logs() as logs:
        await empty.load()

    keys = empty.known("a")
    assert keys is not None
    assert keys["openai"].secret is None
    assert {} == shown(keys)
    assert "provider_key_not_opened" in {entry["event"] for entry in logs}
    with pytest.raises(TurnpikeError, match=r"router\.byok_keys"):
        await rig.put(empty, "a", "openai", SECRET)


@pytest.mark.parametrize(
    ("secret", "hint"), [("sk-own-key-12345", "2345"), ("sk-own-key-1234", "")]
)
async def test_hint_gives_little_away(secret: str, hint: str) -> None:
    rig = KeyRig()

    assert hint == (await rig.put(rig.ring(), "a", "openai", secret)).hint


async def test_no_log_line_and_no_message_holds_a_key() -> None:
    rig = KeyRig()
    told: list[bytes] = []
    with capture_logs() as logs:
        async with rig.bus.subscribe("router.provider_key_changed.v1") as messages:
            ring = rig.ring()
            await rig.put(ring, "a", "openai", SECRET)
            told.append(await anext(messages))
        await ring.load()
        await used(ring, "a")
        await ring.delete("a", "openai")

    assert 2 <= len(logs)
    assert SECRET not in str(logs) + str(told) + repr(ring.__dict__) + repr(SecretStr(SECRET))
