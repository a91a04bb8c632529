"""What is kept between turns: for whom, how long, how much, and what is done without it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from kit.bus.memory import MemoryBus
from kit.bus.port import BucketSpec
from kit.clock import ManualClock
from kit.sealed import KeyRing, ring_of
from kit.tasks import background
from services.router import turn_states
from services.router.providers.port import Asked, Body, Call
from services.router.providers.turn_gaps import turn_id
from services.router.providers.turn_state import TurnState, WantsBack
from services.router.turn_states import TurnStates
from tests.fixtures.gateway import until

SPEC = BucketSpec("TURNS", ttl_s=3600.0)
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
RING = KeyRing({"one": OLD}, key_id="one")
WANTED = WantsBack(frozenset({"reasoning_content"}))
CALL = Call("r", "a", 7, "m", "up", False, 10, b"", 1.0)
CANARY = "reasoning-canary-5512"
STATE = TurnState(reasoning=CANARY)


def follow_up(*call_ids: str, words: str = "Hi", **fields: Any) -> Asked:
    messages: list[Any] = [{"role": "user", "content": words}]
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [{"id": call_id}]}
        for call_id in call_ids
    ]
    body = {"messages": messages, "tools": [], **fields}
    return Asked(CALL, {n: msgspec.Raw(json.dumps(v).encode()) for n, v in body.items()})


def thoughts(body: Body) -> list[str | None]:
    return [one.get("reasoning_content") for one in json.loads(bytes(body["messages"]))[1:]]


class Rig:
    """Routers that share a bus; `open` starts one more."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(clock=self.clock)

    @asynccontextmanager
    async def router(self, ring: KeyRing = RING) -> AsyncIterator[TurnStates]:
        turns = TurnStates(self.bus, spec=SPEC, ring=ring, clock=self.clock)
        async with background(turns.run, name="turns"):
            yield turns

    def idle(self) -> TurnStates:
        """Return one that stores nothing, since it does not run."""
        return TurnStates(self.bus, spec=SPEC, ring=RING, clock=self.clock)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def key(account: str, call_id: str = "c1") -> str:
    """Return the key of a state in the bucket."""
    turn = turn_id(bytes(follow_up().body["messages"]), call_id)
    assert turn is not None
    return turn_states._Owner(account, turn).key


async def keep(
    turns: TurnStates, *, account: str = "a1", call_id: str = "c1", words: str = "Hi"
) -> None:
    asked = await turns.prepared(account, follow_up(words=words), WANTED)
    assert asked.call.keep is not None
    asked.call.keep(call_id, STATE)


async def stored(turns: TurnStates, count: int = 1) -> None:
    await until(lambda: turns.counts["stored",] == count)


async def recall(turns: TurnStates, *call_ids: str, account: str = "a1") -> list[str | None]:
    asked = await turns.prepared(account, follow_up(*(call_ids or ("c1",))), WANTED)
    return thoughts(asked.body)


async def test_other_router_finds_what_one_kept(rig: Rig) -> None:
    async with rig.router() as one, rig.router() as other:
        await keep(one)
        await stored(one)

        assert [CANARY, None] == await recall(other, "c1", "c2")
        assert (1, 1) == (other.counts["recalled",], other.counts["missing",])


async def test_router_finds_what_it_kept_itself_without_asking(rig: Rig) -> None:
    turns = rig.idle()
    await keep(turns)
    rig.bus.disconnect()

    assert [CANARY] == await recall(turns)


async def test_what_was_found_once_is_not_asked_for_again(rig: Rig) -> None:
    async with rig.router() as one, rig.router() as other:
        await keep(one)
        await stored(one)
        await recall(other)
        rig.bus.disconnect()

        assert [CANARY] == await recall(other)


async def test_state_of_another_account_is_never_found(rig: Rig) -> None:
    async with rig.router() as one, rig.router() as other:
        await keep(one, account="a1")
        await stored(one)

        assert [None] == await recall(one, account="a2")
        assert [None] == await recall(other, account="a2")


async def test_same_id_in_another_conversation_finds_nothing(rig: Rig) -> None:
    async with rig.router() as turns:
        await keep(turns, call_id="functions.f:0", words="Mine")
        asked = follow_up("functions.f:0", words="Yours")

        assert asked.body == (await turns.prepared("a1", asked, WANTED)).body


async def test_state_does_not_open_under_another_accounts_key(rig: Rig) -> None:
    async with rig.router() as one, rig.router() as other:
        await keep(one, account="a1")
        await stored(one)
        bucket = rig.bus.bucket(SPEC)
        data = await bucket.get(key("a1"), timeout_s=1.0)
        assert data is not None
        await bucket.put(key("a2"), data, timeout_s=1.0)

        assert [None] == await recall(other, account="a2")
        assert 1 == other.counts["unreadable",]


async def test_nothing_on_the_bus_can_be_read(rig: Rig) -> None:
    async with rig.router() as turns:
        await keep(turns, account="account-canary", call_id="call-canary")
        await stored(turns)

    kept = rig.bus._buckets[SPEC.name]._values
    written = b"".join(key.encode() + entry.value for key, entry in kept.items())
    assert written
    assert b"canary" not in written


async def test_state_is_gone_after_its_time_everywhere(rig: Rig) -> None:
    async with rig.router() as one, rig.router() as other:
        await keep(one)
        await stored(one)
        rig.clock.advance(SPEC.ttl_s - 1)
        before = await recall(one)
        rig.clock.advance(1)

        assert [CANARY] == before
        assert [None] == await recall(one)
        assert [None] == await recall(other)


async def test_keys_can_be_exchanged_while_states_live(rig: Rig) -> None:
    new = KeyRing({"one": OLD, "two": NEW}, key_id="two")
    async with rig.router() as one, rig.router(new) as other:
        await keep(one, call_id="c1")
        await keep(other, call_id="c2")
        await stored(one)
        await stored(other)

        assert [CANARY] == await recall(other, "c1")
        assert [None] == await recall(one, "c2")
        assert 1 == one.counts["unreadable",]


async def test_request_goes_without_while_the_bus_is_away(rig: Rig) -> None:
    turns = rig.idle()
    rig.bus.disconnect()

    assert [None] == await recall(turns)
    assert 1 == turns.counts["late",]


async def test_state_that_cannot_be_stored_is_dropped_and_counted(rig: Rig) -> None:
    async with rig.router() as turns:
        rig.bus.disconnect()
        await keep(turns)

        await until(lambda: turns.counts["dropped",] == 1)


async def test_full_queue_drops_what_comes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_states, "QUEUE_MAX", 3)
    turns = rig.idle()

    for number in range(5):
        await keep(turns, call_id=f"c{number}")

    assert 2 == turns.counts["dropped",]


async def test_queue_is_bounded_in_bytes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_states, "QUEUE_BYTES_MAX", 2 * len(STATE.encoded()))
    turns = rig.idle()

    for number in range(3):
        await keep(turns, call_id=f"c{number}")

    assert 1 == turns.counts["dropped",]


async def test_state_that_is_too_big_is_not_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_states, "STATE_BYTES_MAX", len(STATE.encoded()) - 1)
    turns = rig.idle()

    await keep(turns)

    assert [None] == await recall(turns)
    assert 1 == turns.counts["too_big",]


async def test_memory_is_bounded_and_drops_what_was_used_longest_ago(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = len(STATE.encoded()) + turn_states._ENTRY_BYTES
    monkeypatch.setattr(turn_states, "CACHE_BYTES_MAX", 2 * entry)
    turns = rig.idle()
    await keep(turns, call_id="c1")
    await keep(turns, call_id="c2")
    await recall(turns, "c1")
    await keep(turns, call_id="c3")
    rig.bus.disconnect()

    assert [CANARY, None, CANARY] == await recall(turns, "c1", "c2", "c3")


async def test_only_the_latest_messages_of_a_request_are_looked_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_states, "LOOKUPS_MAX", 2)
    turns = rig.idle()
    for number in range(3):
        await keep(turns, call_id=f"c{number}")

    assert [None, CANARY, CANARY] == await recall(turns, "c0", "c1", "c2")


async def test_request_without_tools_keeps_nothing(rig: Rig) -> None:
    asked = follow_up()
    del asked.body["tools"]

    assert asked == await rig.idle().prepared("a1", asked, WANTED)


async def test_request_is_not_changed_in_place(rig: Rig) -> None:
    turns = rig.idle()
    await keep(turns)
    asked = follow_up("c1")
    before = dict(asked.body)

    await turns.prepared("a1", asked, WANTED)

    assert before == asked.body


async def test_many_states_are_stored_at_once(rig: Rig) -> None:
    async with rig.router() as one, rig.router() as other:
        for number in range(50):
            await keep(one, call_id=f"c{number}")
        await stored(one, 50)

        found = await recall(other, *(f"c{number}" for number in range(50)))

    assert [CANARY] * 50 == found


async def test_answer_of_the_bus_that_makes_no_sense_is_as_none(rig: Rig) -> None:
    turns = rig.idle()
    await rig.bus.bucket(SPEC).put(key("a1"), b"junk", timeout_s=1.0)

    assert [None] == await recall(turns)
    assert 1 == turns.counts["unreadable",]


def test_ring_of_a_process_of_its_own_is_random() -> None:
    from kit.sealed import new_key

    sealed = ring_of(new_key()).seal(b"x", context=b"c")

    assert sealed.key_id != ring_of(new_key()).key_id
