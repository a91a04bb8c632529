"""Vouchers and challenges: rows 22 to 29 and 36 of the list of failures."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from services.payment.mpp.challenge import Challenge, bind
from services.payment.mpp.encoding import encode_object
from tests.fakes.tempo_payer import DELEGATE_KEY, TempoPayer, Terms
from tests.integration.payment.till import (
    SECRET,
    Till,
    credential_of,
    mpp_settings,
    open_till,
    reopened,
    terms,
)
from turnpike.payment.v1 import machine_pb2 as pb

HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 2 * HALF_ORDER + 1
CONTEXT: Any = None


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with open_till(database_url) as opened:
        yield opened


@pytest.fixture
async def small(sqlite_url: str) -> AsyncIterator[Till]:
    async with open_till(sqlite_url) as opened:
        yield opened


def _high_s(signature: str) -> str:
    data = bytes.fromhex(signature[2:])
    s = ORDER - int.from_bytes(data[32:64])
    return "0x" + (data[:32] + s.to_bytes(32) + bytes((55 - data[64],))).hex()


async def test_failure_22_forged_vouchers_change_nothing(small: Till) -> None:
    opening = await small.idle(first=5_000)
    challenge, channel = await small.challenge(), opening.channel_id
    good = small.payer.voucher(channel, 6_000)
    forged = {
        "wrong key": {"signature": TempoPayer(DELEGATE_KEY).voucher(channel, 6_000)},
        "other amount": {"signature": small.payer.voucher(channel, 6_001)},
        "other channel": {"signature": small.payer.voucher("0x" + "ab" * 32, 6_000)},
        "other chain": {"signature": _of(Terms(chain_id=4217)).voucher(channel, 6_000)},
        "other escrow": {"signature": _of(Terms(escrow="0x" + "11" * 20)).voucher(channel, 6_000)},
        "high s": {"signature": _high_s(good)},
        "compact": {"signature": good[:130]},
        "v of 0": {"signature": good[:-2] + "00"},
        "66 bytes": {"signature": good + "00"},
        "leading zeros": {"cumulativeAmount": "06000"},
        "negative": {"cumulativeAmount": "-6000"},
        "beyond uint96": {"cumulativeAmount": str(2**96)},
        "exponent": {"cumulativeAmount": "6e3"},
    }

    for name, changes in forged.items():
        credential = small.voucher_of(opening, challenge, 6_000, **changes)
        for answer in (await small.manage(credential), await small.authorize(credential)):
            assert 402 == answer.refusal.http_status, name
            assert answer.refusal.www_authenticate, name
    assert 5_000 == (await small.channel(channel)).accepted
    assert await small.is_proven()


def _of(other: Terms) -> TempoPayer:
    return TempoPayer(terms=other)


async def test_failure_23_lower_or_equal_voucher_with_a_garbage_signature_is_refused(
    small: Till,
) -> None:
    opening = await small.idle(first=5_000)
    challenge = await small.challenge()
    garbage = {"signature": "0x" + "17" * 65}

    for cumulative in (4_000, 5_000):
        answer = await small.manage(small.voucher_of(opening, challenge, cumulative, **garbage))
        assert "session/invalid-signature" == answer.refusal.problem


async def test_failure_23_equal_voucher_is_taken_again_and_a_lower_one_is_not(small: Till) -> None:
    opening = await small.idle(first=5_000)
    challenge = await small.challenge()

    equal = await small.manage(small.voucher_of(opening, challenge, 5_000))
    lower = await small.manage(small.voucher_of(opening, challenge, 4_999))

    assert equal.receipt
    assert "verification-failed" == lower.refusal.problem
    assert 5_000 == (await small.channel(opening.channel_id)).accepted


async def test_failure_24_foreign_source_is_refused(small: Till) -> None:
    opening = await small.idle(first=5_000)
    challenge = await small.challenge()
    stranger = "did:pkh:eip155:42431:0x" + "ab" * 20
    mine = f"did:pkh:eip155:42431:{small.payer.address}"

    foreign = await small.manage(small.voucher_of(opening, challenge, 6_000, source=stranger))
    own = await small.manage(small.voucher_of(opening, challenge, 6_000, source=mine))

    assert "verification-failed" == foreign.refusal.problem
    assert own.receipt


async def test_failure_24_voucher_at_or_below_what_was_settled_is_refused(small: Till) -> None:
    opening, admitted = await small.opened(first=5_000)
    await small.run(admitted, 5_000_000, run_id="run")
    small.rig.clock.advance(7 * 3600)
    await _settled(small, opening.channel_id, 5_000)
    await small.manage(small.voucher_of(opening, await small.challenge(), 6_000))

    for cumulative in (4_999, 5_000):
        answer = await small.manage(small.voucher_of(opening, await small.challenge(), cumulative))
        assert "verification-failed" == answer.refusal.problem


async def _settled(till: Till, channel_id: str, amount: int) -> None:
    async with asyncio.timeout(10):
        while (await till.channel(channel_id)).settled != amount:
            await asyncio.sleep(0.01)


async def test_failure_25_same_credential_fifty_times_in_parallel_delivers_once(
    till: Till,
) -> None:
    opening = await till.idle(100_000, first=5_000)
    credential = till.voucher_of(opening, await till.challenge(), 95_000)

    answers = await asyncio.gather(*(till.authorize(credential) for _ in range(50)))

    assert 1 == sum(answer.HasField("admitted") for answer in answers)
    refused = [answer.refusal for answer in answers if not answer.HasField("admitted")]
    # Those beyond ten in a second are not even looked at.
    expected = {(402, "invalid-challenge"), (503, "payment-unavailable")}
    assert expected >= {(each.http_status, each.problem) for each in refused}
    available, held, _ = await till.rig.balance(f"tempo:{opening.channel_id}")
    assert (90_000_000, 5_000_000) == (available, held)
    assert await till.is_proven()


async def test_failure_26_captured_credential_buys_nothing_after_the_stream(small: Till) -> None:
    opening = await small.idle(first=5_000)
    credential = small.voucher_of(opening, await small.challenge(), 50_000)
    await small.run(await small.admitted(credential), 1_000_000, run_id="run")

    again = await small.authorize(credential)

    assert "invalid-challenge" == again.refusal.problem


async def test_failure_26_captured_voucher_buys_nothing_under_a_new_challenge(small: Till) -> None:
    opening = await small.idle(first=5_000)
    credential = small.voucher_of(opening, await small.challenge(), 50_000)
    await small.run(await small.admitted(credential), 1_000_000, run_id="run")

    thief = await small.authorize(small.voucher_of(opening, await small.challenge(), 50_000))

    assert "verification-failed" == thief.refusal.problem
    assert (49_000_000, 0, 1_000_000) == await small.rig.balance(f"tempo:{opening.channel_id}")


async def test_failure_27_eleventh_voucher_of_a_second_has_to_wait(small: Till) -> None:
    opening = await small.idle(first=5_000)
    challenge = await small.challenge()
    vouchers = [small.voucher_of(opening, challenge, 6_000 + number) for number in range(12)]

    answers = [await small.manage(credential) for credential in vouchers[:11]]
    small.rig.clock.advance(1.0)
    later = await small.manage(vouchers[11])

    assert 10 == sum(bool(answer.receipt) for answer in answers)
    assert (503, 1) == (answers[10].refusal.http_status, answers[10].refusal.retry_after_s)
    assert later.receipt


async def test_failure_27_same_voucher_twice_in_parallel_counts_once(till: Till) -> None:
    opening = await till.idle(first=5_000)
    credential = till.voucher_of(opening, await till.challenge(), 7_000)

    answers = await asyncio.gather(*(till.manage(credential) for _ in range(2)))

    assert all(answer.receipt for answer in answers)
    assert (7_000_000, 0, 0) == await till.rig.balance(f"tempo:{opening.channel_id}")


async def test_failure_27_voucher_on_another_replica_wakes_the_stream(till: Till) -> None:
    opening = await till.idle(first=5_000)
    credential = till.voucher_of(opening, await till.challenge(), 7_000)
    slow = till.settings.model_copy(update={"poll_s": 50.0})

    async with (
        reopened(till.rig, till.node, slow, bus=till.bus) as other,
        asyncio.TaskGroup() as group,
    ):
        waiting = group.create_task(_await(other, opening.channel_id, 7_000))
        await asyncio.sleep(0)
        await till.manage(credential)
        async with asyncio.timeout(10):
            answer = await waiting

    assert answer.is_accepted
    assert not answer.is_closed


async def test_failure_29_voucher_before_it_is_waited_for_is_seen_at_once(small: Till) -> None:
    opening = await small.idle(first=5_000)
    await small.manage(small.voucher_of(opening, await small.challenge(), 7_000))

    assert (await _await(small, opening.channel_id, 7_000)).is_accepted


async def test_failure_29_wait_ends_without_a_voucher(small: Till) -> None:
    opening = await small.idle(first=5_000)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_await(small, opening.channel_id, 7_000))
        await asyncio.sleep(0)
        small.rig.clock.advance(60.0)
        answer = await waiting

    assert not answer.is_accepted
    assert not answer.is_closed


async def test_failure_29_voucher_after_the_close_is_refused_and_the_wait_says_so(
    small: Till,
) -> None:
    opening = await small.idle(first=5_000)
    challenge = await small.challenge()
    assert (await small.manage(small.close_of(opening, challenge, 5_000))).receipt

    late = await small.manage(small.voucher_of(opening, challenge, 7_000))

    assert (410, "session/channel-finalized") == (late.refusal.http_status, late.refusal.problem)
    assert (await _await(small, opening.channel_id, 7_000)).is_closed


async def _await(till: Till, channel_id: str, amount: int) -> pb.AwaitVoucherResponse:
    request = pb.AwaitVoucherRequest(
        channel_id=channel_id, required_cumulative=str(amount), wait_ms=60_000
    )
    return await till.machine.AwaitVoucher(request, CONTEXT)


async def test_failure_36_tampered_challenges_are_not_ours(small: Till) -> None:
    opening = await small.idle(first=5_000)
    challenge = await small.challenge()
    request = {**challenge.request, "amount": "1"}
    tampered = {
        "request": {"request_b64": encode_object(request)},
        "opaque": {"opaque_b64": encode_object({**challenge.opaque, "resource": "another"})},
        "realm": {"realm": "elsewhere"},
        "expires": {"expires": "2099-01-01T00:00:00Z"},
    }

    for name, changes in tampered.items():
        forged = Challenge(**{**_fields(challenge), **changes})
        answer = await small.authorize(small.voucher_of(opening, forged, 11_000))
        assert "invalid-challenge" == answer.refusal.problem, name


def _fields(challenge: Challenge) -> dict[str, str]:
    return {name: getattr(challenge, name) for name in Challenge.__dataclass_fields__}


async def test_failure_36_expired_challenge_buys_nothing_but_still_carries_vouchers(
    small: Till,
) -> None:
    opening = await small.idle(first=5_000)
    challenge = await small.challenge()
    small.rig.clock.advance(301)

    bought = await small.authorize(small.voucher_of(opening, challenge, 11_000))
    carried = await small.manage(small.voucher_of(opening, challenge, 11_000))

    assert "payment-expired" == bought.refusal.problem
    assert carried.receipt


async def test_failure_36_credential_of_another_route_model_or_realm_is_refused(
    small: Till,
) -> None:
    opening = await small.idle(first=5_000)

    others: list[dict[str, Any]] = [
        {"resource": "POST /v1/chat/completions dear-chat"},
        {"realm": "other.test"},
    ]
    for changes in others:
        credential = small.voucher_of(opening, await small.challenge(), 11_000)
        answer = await small.authorize(credential, terms(**changes))
        assert 402 == answer.refusal.http_status
        assert "verification-failed" == answer.refusal.problem


async def test_failure_36_price_that_rose_meanwhile_needs_more(small: Till) -> None:
    opening = await small.idle(first=5_000)
    challenge = await small.challenge(hint=opening.channel_id)

    answer = await small.authorize(small.voucher_of(opening, challenge, 5_001), terms(11_000_000))

    assert "session/insufficient-balance" == answer.refusal.problem
    assert (5_001_000, 0, 0) == await small.rig.balance(f"tempo:{opening.channel_id}")


async def test_failure_36_secret_before_is_still_taken_and_an_unknown_one_is_not(
    small: Till,
) -> None:
    opening = await small.idle(first=5_000)
    old = await small.challenge()
    rotated = mpp_settings(small.node.url, secrets=(SecretStr("newer"), SecretStr(SECRET)))

    async with reopened(small.rig, small.node, rotated) as other:
        assert (await other.authorize(other.voucher_of(opening, old, 11_000))).admitted.lease_id
        foreign = bind("unknown", old)
        refused = await other.authorize(other.voucher_of(opening, foreign, 12_000))
        newest = (await other.offered())[0]

    assert "invalid-challenge" == refused.refusal.problem
    assert bind("newer", newest).id == newest.id


async def test_failure_36_challenge_of_one_replica_is_answered_at_another(till: Till) -> None:
    opening = await till.idle(first=5_000)
    challenge = await till.challenge()

    async with reopened(till.rig, till.node, till.settings, bus=till.bus) as other:
        assert await other.admitted(other.voucher_of(opening, challenge, 11_000))
        again = await till.authorize(till.voucher_of(opening, challenge, 11_000))

    assert "invalid-challenge" == again.refusal.problem


async def test_voucher_of_protocol_v1_is_told_what_to_use(small: Till) -> None:
    opening = await small.idle(first=5_000)
    payload = {"action": "voucher", "channelId": opening.channel_id, "cumulativeAmount": "7000"}

    answer = await small.manage(credential_of(await small.challenge(), payload))

    assert 402 == answer.refusal.http_status
    assert "v1" in answer.refusal.detail
