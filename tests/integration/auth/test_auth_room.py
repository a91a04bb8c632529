"""Accounts and keys, on SQLite and on PostgreSQL."""

import asyncio

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kit.clock import ManualClock
from kit.errors import Reason
from kit.secrets import is_token, mint_token
from services.auth.settings import AuthSettings
from services.auth.subjects import HEARTBEAT
from tests.integration.auth.rooms import (
    NOBODY,
    Room,
    eventually,
    opened,
    reason_of,
)
from turnpike.auth.v1 import auth_pb2 as pb
from turnpike.events.v1 import events_pb2


async def test_account_is_created_once_for_a_request_id(room: Room) -> None:
    request = pb.CreateAccountRequest(name="Acme", request_id=NOBODY)

    answers = await asyncio.gather(*(room.auth.CreateAccount(request, None) for _ in range(5)))
    apart = [await room.account(), await room.account()]

    assert 1 == len({answer.account.account_id for answer in answers})
    assert 3 == len({answers[0].account.account_id, *apart})
    assert "Acme" == answers[0].account.name


async def test_account_is_found_by_id_or_not_at_all(room: Room, clock: ManualClock) -> None:
    account_id = await room.account()

    found = await room.auth.GetAccount(pb.GetAccountRequest(account_id=account_id), None)
    missing = room.auth.GetAccount(pb.GetAccountRequest(account_id=NOBODY), None)

    assert ("Acme", clock.unix_ms()) == (
        found.account.name,
        found.account.create_time.ToMilliseconds(),
    )
    assert (Reason.NOT_FOUND, "account_id") == await reason_of(missing)


async def test_lists_are_paged_by_age_without_gaps(room: Room, clock: ManualClock) -> None:
    accounts = []
    for _ in range(5):
        accounts.append(await room.account())
        clock.advance(1)
    keys = [(await room.key(account_id=accounts[0]))[0] for _ in range(3)]
    await room.key(account_id=accounts[1])

    pages, token = [], ""
    while True:
        request = pb.ListAccountsRequest(page_size=2, page_token=token)
        page = await room.auth.ListAccounts(request, None)
        pages.append([account.account_id for account in page.accounts])
        token = page.next_page_token
        if not token:
            break
    own = await room.auth.ListKeys(pb.ListKeysRequest(account_id=accounts[0], page_size=3), None)
    every = await room.auth.ListKeys(pb.ListKeysRequest(page_size=3), None)
    last = await room.auth.ListKeys(pb.ListKeysRequest(page_token=every.next_page_token), None)

    assert [accounts[:2], accounts[2:4], accounts[4:]] == pages
    assert (keys, "") == ([key.principal.key_id for key in own.keys], own.next_page_token)
    assert (3, 1) == (len(every.keys), len(last.keys))


async def test_new_key_verifies_with_what_it_may_do(room: Room, clock: ManualClock) -> None:
    account_id = await room.account()
    expire = Timestamp(seconds=clock.unix_ms() // 1000 + 60)
    request = pb.CreateKeyRequest(
        account_id=account_id,
        name="app",
        scopes=["admin", "chat"],
        models=["tiny-chat"],
        dialect="bud",
        expire_time=expire,
        tokens_per_minute=77,
    )

    made = await room.auth.CreateKey(request, None)
    principal = (await room.verify(made.secret)).principal

    assert is_token(made.secret, prefix="sk-tp-")
    assert made.key.principal == principal
    assert (account_id, ["chat", "admin"]) == (principal.account_id, list(principal.scopes))
    assert (["tiny-chat"], "default", "bud") == (
        list(principal.models),
        principal.tier,
        principal.dialect,
    )
    assert (40, 77) == (principal.requests_per_minute, principal.tokens_per_minute)
    assert expire == principal.expire_time
    assert pb.Key.STATE_ACTIVE == made.key.state
    assert made.secret[:8] == made.key.hint[:8]


async def test_key_creation_is_refused_by_what_is_missing_or_repeated(room: Room) -> None:
    account_id = await room.account()
    request = pb.CreateKeyRequest(account_id=account_id, request_id=NOBODY)
    await room.auth.CreateKey(request, None)

    repeated = room.auth.CreateKey(request, None)
    ownerless = room.auth.CreateKey(pb.CreateKeyRequest(account_id=NOBODY), None)

    assert (Reason.ALREADY_EXISTS, "request_id") == await reason_of(repeated)
    assert (Reason.NOT_FOUND, "account_id") == await reason_of(ownerless)
    assert 1 == len((await room.auth.ListKeys(pb.ListKeysRequest(), None)).keys)


async def test_verdicts_follow_the_life_of_a_key(room: Room, clock: ManualClock) -> None:
    expire = Timestamp(seconds=clock.unix_ms() // 1000 + 60)
    _, expiring = await room.key(expire_time=expire)
    revoked_id, revoked = await room.key()
    _, living = await room.key()
    unknown = mint_token("sk-tp-", bytes(32))

    await room.auth.RevokeKey(pb.RevokeKeyRequest(key_id=revoked_id), None)
    before = [await room.verdict(secret) for secret in (expiring, revoked, living, unknown)]
    clock.advance(60)
    after = [await room.verdict(secret) for secret in (expiring, revoked, living, unknown)]

    assert [None, Reason.KEY_REVOKED, None, Reason.INVALID_API_KEY] == before
    assert [Reason.KEY_EXPIRED, Reason.KEY_REVOKED, None, Reason.INVALID_API_KEY] == after


@pytest.mark.parametrize("digest", [b"", b"x" * 31, b"x" * 33, b"' OR 1=1 --"])
async def test_only_a_digest_is_looked_up(room: Room, digest: bytes) -> None:
    call = room.auth.VerifyKey(pb.VerifyKeyRequest(key_digest=digest), None)

    assert (Reason.INVALID_VALUE, "key_digest") == await reason_of(call)


async def test_rotated_secret_lives_on_for_the_overlap(room: Room, clock: ManualClock) -> None:
    key_id, old = await room.key()

    new = await room.rotate(key_id)
    end = (await room.verify(old)).principal.expire_time.ToMilliseconds()
    during = [await room.verdict(old), await room.verdict(new)]
    clock.advance(24 * 3600)
    after = [await room.verdict(old), await room.verdict(new)]

    assert clock.unix_ms() == end
    assert [None, None] == during
    assert [Reason.KEY_EXPIRED, None] == after


async def test_at_most_two_secrets_live(room: Room) -> None:
    key_id, first = await room.key()

    second = await room.rotate(key_id)
    third = await room.rotate(key_id)
    verdicts = [await room.verdict(secret) for secret in (first, second, third)]

    assert [Reason.KEY_EXPIRED, None, None] == verdicts


async def test_rotation_without_overlap_ends_the_old_secret_at_once(room: Room) -> None:
    key_id, old = await room.key()

    new = await room.rotate(key_id, overlap_s=0)

    assert [Reason.KEY_EXPIRED, None] == [await room.verdict(old), await room.verdict(new)]
    assert [(key_id, False)] == [(c.key_id, c.is_revoked) for c in room.bus.changes()]


async def test_revocation_is_told_on_the_bus_each_time_it_is_asked_for(room: Room) -> None:
    key_id, _ = await room.key()
    request = pb.RevokeKeyRequest(key_id=key_id)

    first = await room.auth.RevokeKey(request, None)
    again = await room.auth.RevokeKey(request, None)

    assert pb.Key.STATE_REVOKED == first.key.state
    assert first == again
    assert [(key_id, True)] * 2 == [(c.key_id, c.is_revoked) for c in room.bus.changes()]


async def test_dead_or_unknown_key_is_neither_rotated_nor_leased(
    room: Room, clock: ManualClock
) -> None:
    key_id, _ = await room.key()
    expire = Timestamp(seconds=clock.unix_ms() // 1000 + 1)
    expired_id, _ = await room.key(expire_time=expire)
    await room.lease(key_id, 1, 1)
    await room.auth.RevokeKey(pb.RevokeKeyRequest(key_id=key_id), None)
    clock.advance(1)

    rotations = [await reason_of(room.rotate(k)) for k in (key_id, expired_id, NOBODY)]
    leases = [await reason_of(room.lease(k, 1, 1)) for k in (key_id, expired_id, NOBODY)]

    gone = (Reason.UNPROCESSABLE, "key_id")
    assert [gone, gone, (Reason.NOT_FOUND, "key_id")] == rotations
    assert [Reason.KEY_REVOKED, Reason.KEY_EXPIRED, Reason.NOT_FOUND] == [r for r, _ in leases]


async def test_heartbeat_is_heard_while_the_room_is_open(room: Room) -> None:
    await eventually(lambda: sum(s == HEARTBEAT for s, _ in room.bus.published) >= 3)

    beats = [data for subject, data in room.bus.published if subject == HEARTBEAT]

    assert 1 == len({events_pb2.AuthHeartbeat.FromString(data).auth_id for data in beats})


async def test_empty_pepper_is_refused_at_the_start(sqlite_url: str, clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="pepper is empty"):
        async with opened(sqlite_url, clock, AuthSettings()):
            pass


async def test_database_that_is_away_is_told_as_such(clock: ManualClock) -> None:
    async with opened("postgresql+asyncpg://turnpike@127.0.0.1:1/none", clock) as room:
        assert Reason.AUTH_UNAVAILABLE == await room.verdict("sk-tp-x")
        assert (Reason.AUTH_UNAVAILABLE, "") == await reason_of(room.account())
