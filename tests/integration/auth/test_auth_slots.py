"""Slots for requests at once, on both engines and over two replicas of auth."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from kit.clock import ManualClock
from kit.db import downgrade, upgrade
from kit.errors import Reason
from kit.ids import Uuid7Source
from services.auth.room import MIGRATIONS
from services.auth.settings import AuthSettings
from services.auth.store import METADATA
from services.auth.subjects import SLOT_RECALL
from tests.integration.auth.rooms import NOBODY, SETTINGS, Room, opened, reason_of
from turnpike.auth.v1 import auth_pb2 as pb
from turnpike.events.v1 import events_pb2

Step = pb.RenewHolderRequest
LEASE_S = 30
QUICK = AuthSettings.model_validate(
    {
        **SETTINGS.model_dump(),
        "pepper": "canary-pepper-4711",
        "slot_recall_wait_s": 0.0,
        "tiers": {"default": {}, "five": {"concurrent_requests": 5}},
    }
)


class Holder:
    """A gateway worker as auth sees it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.holder_id = Uuid7Source().new(1_700_000_000_000)
        self.sequence = itertools.count(1)

    async def say(self, step: "pb.RenewHolderRequest.Step.ValueType") -> pb.RenewHolderResponse:
        return await self.room.auth.RenewHolder(Step(holder_id=self.holder_id, step=step), None)

    async def lease(
        self, key_id: str, kept: int, needed: int, *, sequence: int = 0
    ) -> pb.LeaseSlotsResponse:
        request = pb.LeaseSlotsRequest(
            key_id=key_id,
            holder_id=self.holder_id,
            sequence=sequence or next(self.sequence),
            kept_slot_count=kept,
            needed_slot_count=needed,
        )
        return await self.room.auth.LeaseSlots(request, None)


async def begun(room: Room) -> Holder:
    holder = Holder(room)
    await holder.say(Step.STEP_BEGIN)
    return holder


@pytest.fixture
async def quick(migrated_url: str, clock: ManualClock) -> AsyncIterator[Room]:
    async with opened(migrated_url, clock, QUICK) as room:
        yield room


async def test_holders_of_two_replicas_never_get_more_than_the_limit(
    migrated_url: str, clock: ManualClock
) -> None:
    async with (
        opened(migrated_url, clock, QUICK) as one,
        opened(migrated_url, clock, QUICK) as other,
    ):
        key_id, _ = await one.key(concurrent_requests=12)
        holders = [await begun(room) for room in (one, other) for _ in range(4)]

        answers = await asyncio.gather(*(holder.lease(key_id, 0, 5) for holder in holders))
        again = await asyncio.gather(
            *(h.lease(key_id, a.slot_count, 5) for h, a in zip(holders, answers, strict=True))
        )

    assert 12 == sum(answer.slot_count for answer in answers)
    assert [a.slot_count for a in answers] == [a.slot_count for a in again]
    assert {(12, 0)} == {(a.concurrent_requests, a.free_slot_count) for a in again}


async def test_holder_gets_part_of_what_it_needs_and_a_share_beyond_it(quick: Room) -> None:
    small, _ = await quick.key(concurrent_requests=3)
    large, _ = await quick.key(concurrent_requests=160)
    holder = await begun(quick)

    part = await holder.lease(small, 0, 5)
    share = await holder.lease(large, 0, 1)

    assert (3, 0) == (part.slot_count, part.free_slot_count)
    assert (20, 140) == (share.slot_count, share.free_slot_count)


async def test_slots_that_are_given_up_are_free_for_others(quick: Room) -> None:
    key_id, _ = await quick.key(concurrent_requests=4)
    one, other = await begun(quick), await begun(quick)
    await one.lease(key_id, 0, 4)
    before = await other.lease(key_id, 0, 2)

    kept = await one.lease(key_id, 1, 0)
    after = await other.lease(key_id, 0, 9)

    assert [0, 1, 3] == [before.slot_count, kept.slot_count, after.slot_count]
    assert 3 == kept.free_slot_count


async def test_shortage_calls_unused_slots_back_and_waits_for_them(
    migrated_url: str, clock: ManualClock
) -> None:
    settings = QUICK.model_copy(update={"slot_recall_wait_s": 10.0})
    async with opened(migrated_url, clock, settings) as room:
        key_id, _ = await room.key(concurrent_requests=4)
        one, other = await begun(room), await begun(room)
        await one.lease(key_id, 0, 4)

        async with room.bus.subscribe(SLOT_RECALL) as recalls, asyncio.TaskGroup() as tasks:
            short = tasks.create_task(other.lease(key_id, 0, 1))
            async for data in recalls:
                assert key_id == events_pb2.SlotRecall.FromString(data).key_id
                await one.lease(key_id, 2, 0)
                break

    assert 1 == short.result().slot_count


async def test_holder_that_has_every_slot_calls_nobody(quick: Room) -> None:
    key_id, _ = await quick.key(concurrent_requests=2)
    holder = await begun(quick)
    await holder.lease(key_id, 0, 2)

    refused = await holder.lease(key_id, 2, 1)

    assert 2 == refused.slot_count
    assert SLOT_RECALL not in {subject for subject, _ in quick.bus.published}


async def test_slots_of_a_dead_holder_come_back_after_a_lease_and_not_before(
    quick: Room, clock: ManualClock
) -> None:
    key_id, _ = await quick.key(concurrent_requests=3)
    dead, alive = await begun(quick), await begun(quick)
    await dead.lease(key_id, 0, 3)

    clock.advance(LEASE_S - 1)
    await alive.say(Step.STEP_RENEW)
    before = await alive.lease(key_id, 0, 1)
    clock.advance(1)
    after = await alive.lease(key_id, 0, 3)
    late = await dead.lease(key_id, 3, 0)
    renewed = await dead.say(Step.STEP_RENEW)

    assert (0, 3) == (before.slot_count, after.slot_count)
    assert (True, True) == (late.is_lost, renewed.is_lost)
    assert 0 == late.slot_count


async def test_another_replica_waits_a_whole_lease_from_when_it_first_looked(
    migrated_url: str, clock: ManualClock
) -> None:
    async with opened(migrated_url, clock, QUICK) as one:
        key_id, _ = await one.key(concurrent_requests=1)
        await (await begun(one)).lease(key_id, 0, 1)
    clock.advance(10 * LEASE_S)

    async with opened(migrated_url, clock, QUICK) as other:
        holder = await begun(other)
        first = await holder.lease(key_id, 0, 1)
        clock.advance(LEASE_S - 1)
        await holder.say(Step.STEP_RENEW)
        before = await holder.lease(key_id, 0, 1)
        clock.advance(1)
        after = await holder.lease(key_id, 0, 1)

    assert [0, 0, 1] == [first.slot_count, before.slot_count, after.slot_count]


async def test_holder_that_renews_keeps_its_slots_for_ever(quick: Room, clock: ManualClock) -> None:
    key_id, _ = await quick.key(concurrent_requests=1)
    one, other = await begun(quick), await begun(quick)
    await one.lease(key_id, 0, 1)

    found = []
    for _ in range(5):
        clock.advance(LEASE_S - 1)
        found.append((await one.say(Step.STEP_RENEW)).is_lost)
        found.append((await other.say(Step.STEP_RENEW)).is_lost)
        found.append((await other.lease(key_id, 0, 1)).slot_count > 0)

    assert {False} == set(found)


async def test_holder_that_ends_frees_everything_at_once(quick: Room) -> None:
    key_id, _ = await quick.key(concurrent_requests=3)
    one, other = await begun(quick), await begun(quick)
    await one.lease(key_id, 0, 3)

    ended = await one.say(Step.STEP_END)
    twice = await one.say(Step.STEP_END)
    freed = await other.lease(key_id, 0, 3)

    assert (False, False, 3) == (ended.is_lost, twice.is_lost, freed.slot_count)


async def test_older_ask_that_comes_late_changes_nothing(quick: Room) -> None:
    key_id, _ = await quick.key(concurrent_requests=5)
    one, other = await begun(quick), await begun(quick)
    await one.lease(key_id, 0, 2, sequence=1)
    await one.lease(key_id, 2, 3, sequence=3)

    await one.lease(key_id, 0, 0, sequence=2)
    free = await other.lease(key_id, 0, 5)

    assert 0 == free.slot_count


async def test_unknown_holder_is_lost_and_an_unknown_key_not_found(quick: Room) -> None:
    key_id, _ = await quick.key(concurrent_requests=5)

    stranger = await Holder(quick).lease(key_id, 4, 1)
    no_key = (await begun(quick)).lease(NOBODY, 0, 1)

    assert (True, 0) == (stranger.is_lost, stranger.slot_count)
    assert (Reason.NOT_FOUND, "key_id") == await reason_of(no_key)


async def test_revoked_key_gets_no_slot_and_gives_back_what_it_has(quick: Room) -> None:
    key_id, _ = await quick.key(concurrent_requests=2)
    holder = await begun(quick)
    await holder.lease(key_id, 0, 2)
    await quick.auth.RevokeKey(pb.RevokeKeyRequest(key_id=key_id), None)

    more = holder.lease(key_id, 2, 1)
    assert (Reason.KEY_REVOKED, "") == await reason_of(more)
    given_up = await holder.lease(key_id, 0, 0)

    assert (0, 2) == (given_up.slot_count, given_up.free_slot_count)


async def test_keys_own_limit_overrides_its_tiers(quick: Room) -> None:
    made = [
        await quick.key(),
        await quick.key(tier="five"),
        await quick.key(tier="five", concurrent_requests=7, is_strict=True),
        await quick.key(tier="five", concurrent_requests=0),
    ]

    principals = [(await quick.verify(secret)).principal for _, secret in made]
    holder = await begun(quick)
    granted = [(await holder.lease(key_id, 0, 20)).slot_count for key_id, _ in made]

    assert [0, 5, 7, 0] == [principal.concurrent_requests for principal in principals]
    assert [False, False, True, False] == [principal.is_strict for principal in principals]
    assert [20, 5, 7, 20] == granted


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"holder_id": "x"}, "holder_id"),
        ({"holder_id": ""}, "holder_id"),
        ({"key_id": "x"}, "key_id"),
        ({"kept_slot_count": -1}, "kept_slot_count"),
        ({"needed_slot_count": -1}, "needed_slot_count"),
        ({"sequence": -1}, "sequence"),
    ],
)
async def test_ask_that_makes_no_sense_is_refused(
    quick: Room, fields: dict[str, object], param: str
) -> None:
    key_id, _ = await quick.key()
    request = pb.LeaseSlotsRequest(key_id=key_id, holder_id=NOBODY, sequence=1)
    for name, value in fields.items():
        setattr(request, name, value)

    reason, named = await reason_of(quick.auth.LeaseSlots(request, None))

    assert param == named
    assert reason in {Reason.INVALID_VALUE, Reason.MISSING_FIELD}


async def test_scope_to_bring_a_template_has_to_be_given(quick: Room) -> None:
    _, usual = await quick.key()
    _, granted = await quick.key(scopes=["chat_template", "chat"])

    assert ["chat", "models", "usage"] == list((await quick.verify(usual)).principal.scopes)
    assert ["chat", "chat_template"] == list((await quick.verify(granted)).principal.scopes)


async def test_keys_that_were_there_before_are_neither_limited_nor_strict(
    migrated_url: str, clock: ManualClock
) -> None:
    async with opened(migrated_url, clock, QUICK) as room:
        _, secret = await room.key(name="old")
    await downgrade(migrated_url, MIGRATIONS, METADATA, "0001")
    await upgrade(migrated_url, MIGRATIONS, METADATA)

    async with opened(migrated_url, clock, QUICK) as room:
        principal = (await room.verify(secret)).principal

    assert (0, False) == (principal.concurrent_requests, principal.is_strict)
