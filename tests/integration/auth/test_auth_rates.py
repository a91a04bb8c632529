"""Rate leases: exact over replicas and restarts."""

import asyncio

from kit.clock import ManualClock
from kit.errors import Reason
from tests.integration.auth.rooms import (
    Room,
    opened,
    reason_of,
)
from turnpike.auth.v1 import auth_pb2 as pb


async def test_holders_of_two_replicas_never_get_more_than_the_limit(
    migrated_url: str, clock: ManualClock
) -> None:
    async with opened(migrated_url, clock) as one, opened(migrated_url, clock) as other:
        key_id, _ = await one.key()

        answers = await asyncio.gather(
            *(room.lease(key_id, 1, 10) for room in (one, other) for _ in range(30))
        )

    assert 40 == sum(answer.granted_request_count for answer in answers)
    assert sum(answer.granted_token_count for answer in answers) <= 4_000
    assert all(answer.granted_request_count >= 1 for answer in answers if answer.is_granted)
    assert not all(answer.is_granted for answer in answers)


async def test_restart_within_a_minute_does_not_give_the_budget_twice(
    migrated_url: str, clock: ManualClock
) -> None:
    async with opened(migrated_url, clock) as room:
        key_id, _ = await room.key()
        before = await room.lease(key_id, 40, 100)

    async with opened(migrated_url, clock) as room:
        after = await room.lease(key_id, 1, 1)
        clock.advance(60)
        next_minute = await room.lease(key_id, 1, 1)

    assert (True, 40, 0) == (
        before.is_granted,
        before.granted_request_count,
        before.remaining_request_count,
    )
    assert (False, 0, 0) == (
        after.is_granted,
        after.granted_request_count,
        after.granted_token_count,
    )
    assert (True, 5, 35) == (
        next_minute.is_granted,
        next_minute.granted_request_count,
        next_minute.remaining_request_count,
    )


async def test_refusal_says_which_limit_ended_and_when_it_starts_anew(
    room: Room, clock: ManualClock
) -> None:
    key_id, _ = await room.key()
    left_ms = 60_000 - clock.unix_ms() % 60_000

    granted = await room.lease(key_id, 1, 4_000)
    refused = await room.lease(key_id, 1, 1)

    assert (True, 5, 4_000) == (
        granted.is_granted,
        granted.granted_request_count,
        granted.granted_token_count,
    )
    assert (False, True) == (refused.is_granted, refused.is_token_limited)
    assert (35, 0) == (refused.remaining_request_count, refused.remaining_token_count)
    assert (40, 4_000) == (refused.requests_per_minute, refused.tokens_per_minute)
    assert left_ms == refused.window_left.ToMilliseconds()


async def test_key_without_limits_is_granted_what_it_asks_for(room: Room) -> None:
    key_id, _ = await room.key(tier="free")

    answer = await room.lease(key_id, 3, 10**9)

    assert (True, 3, 10**9) == (
        answer.is_granted,
        answer.granted_request_count,
        answer.granted_token_count,
    )
    assert (0, 0) == (answer.remaining_request_count, answer.requests_per_minute)


async def test_revocation_by_another_replica_ends_leases_within_five_seconds(
    migrated_url: str, clock: ManualClock
) -> None:
    async with opened(migrated_url, clock) as one, opened(migrated_url, clock) as other:
        key_id, _ = await one.key()
        await one.lease(key_id, 1, 1)
        await other.auth.RevokeKey(pb.RevokeKeyRequest(key_id=key_id), None)

        clock.advance(5)

        assert (Reason.KEY_REVOKED, "") == await reason_of(one.lease(key_id, 1, 1))
