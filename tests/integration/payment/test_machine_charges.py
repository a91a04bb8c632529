"""Requests that one transfer pays for, and what it leaves over."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.payment.mpp.addresses import keccak
from services.payment.mpp.challenge import Challenge
from services.payment.mpp.receipts import read_receipt
from tests.fakes.tempo_payer import PAYEE, TOKEN
from tests.integration.payment.till import REALM, Till, credential_of, open_till, terms


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with open_till(database_url) as opened:
        yield opened


@pytest.fixture
async def small(sqlite_url: str) -> AsyncIterator[Till]:
    async with open_till(sqlite_url) as opened:
        yield opened


async def _challenge(till: Till, price_nusd: int = 5_000_000) -> Challenge:
    return (await till.offered(terms(price_nusd), accept="tempo/charge"))[0]


def _pulled(till: Till, challenge: Challenge, amount: int, **where: str) -> str:
    payload = {"type": "transaction", "signature": till.payer.transfer(amount, **where)}
    return credential_of(challenge, payload)


def _memo(challenge: Challenge) -> str:
    """Return the memo of the public SDKs that binds a transfer to a challenge."""
    server, nonce = keccak(REALM.encode())[:10], keccak(challenge.id.encode())[:7]
    return "0x" + (keccak(b"mpp")[:4] + b"\x01" + server + bytes(10) + nonce).hex()


async def test_transfer_pays_for_a_request_and_its_receipt_is_known_at_once(till: Till) -> None:
    before = till.node.balance(PAYEE)
    raw = till.payer.transfer(5_000)
    challenge = await _challenge(till)
    payload = {"type": "transaction", "signature": raw}

    admitted = await till.admitted(credential_of(challenge, payload))
    receipt = read_receipt(admitted.receipt)
    concluded = read_receipt((await till.conclude(admitted, 4_000_000)).receipt)
    await till.settle(admitted, 4_000_000)

    assert 5_000 == till.node.balance(PAYEE) - before
    assert (f"tempo:{till.payer.address}", "charge", "") == (
        admitted.account_id,
        admitted.intent,
        admitted.channel_id,
    )
    assert receipt["reference"] == concluded["reference"]
    assert str(receipt["reference"]).startswith("0x")
    assert challenge.id == receipt["challengeId"]
    assert (1_000_000, 0, 4_000_000) == await till.rig.balance(admitted.account_id)
    assert await till.is_proven()


async def test_same_transfer_never_pays_twice(till: Till) -> None:
    raw = till.payer.transfer(5_000)
    payload = {"type": "transaction", "signature": raw}
    first, other = await _challenge(till), await _challenge(till)
    await till.admitted(credential_of(first, payload))

    same = await till.authorize(credential_of(first, payload))
    anew = await till.authorize(credential_of(other, payload))

    assert "invalid-challenge" == same.refusal.problem
    assert (403, "payment-forbidden") == (anew.refusal.http_status, anew.refusal.problem)
    assert not anew.refusal.www_authenticate
    assert (0, 5_000_000, 0) == await till.rig.balance(f"tempo:{till.payer.address}")


async def test_same_transfer_in_parallel_delivers_once(till: Till) -> None:
    credential = _pulled(till, await _challenge(till), 5_000)

    answers = await asyncio.gather(*(till.authorize(credential) for _ in range(8)))

    assert 1 == sum(answer.HasField("admitted") for answer in answers)
    assert (0, 5_000_000, 0) == await till.rig.balance(f"tempo:{till.payer.address}")
    assert await till.is_proven()


async def test_transfer_that_is_too_small_to_somebody_else_or_of_another_token_is_not_sent(
    small: Till,
) -> None:
    challenge = await _challenge(small)
    wrong = (
        _pulled(small, challenge, 4_999),
        _pulled(small, challenge, 5_000, to="0x" + "ab" * 20),
        _pulled(small, challenge, 5_000, memo="0x" + "cd" * 32),
    )

    for credential in wrong:
        answer = await small.authorize(credential)
        assert "verification-failed" == answer.refusal.problem
    assert not [method for method in small.node.calls if method.startswith("eth_sendRaw")]


async def test_transfer_that_reverts_buys_nothing(small: Till) -> None:
    small.node.faults.reverts = 1

    answer = await small.authorize(_pulled(small, await _challenge(small), 5_000))

    assert "verification-failed" == answer.refusal.problem
    assert (0, 0, 0) == await small.rig.balance(f"tempo:{small.payer.address}")


async def test_price_that_rose_meanwhile_is_told_before_the_transfer_is_sent(small: Till) -> None:
    credential = _pulled(small, await _challenge(small), 5_000)

    answer = await small.authorize(credential, terms(6_000_000))

    assert "verification-failed" == answer.refusal.problem
    assert not [method for method in small.node.calls if method.startswith("eth_sendRaw")]


async def test_transfer_on_chain_pays_when_its_memo_names_the_challenge(small: Till) -> None:
    bound, loose = await _challenge(small), await _challenge(small)
    named = small.node.submit(small.payer.transfer(5_000, memo=_memo(bound)))
    bare = small.node.submit(small.payer.transfer(5_000))

    stolen = await small.authorize(credential_of(loose, {"type": "hash", "hash": named}))
    unnamed = await small.authorize(credential_of(loose, {"type": "hash", "hash": bare}))
    paid = await small.authorize(credential_of(bound, {"type": "hash", "hash": named}))

    assert "verification-failed" == stolen.refusal.problem
    assert "verification-failed" == unnamed.refusal.problem
    assert paid.HasField("admitted"), paid.refusal
    assert TOKEN == bound.request["currency"]


async def test_remainder_goes_back_once_nobody_used_it_for_a_while(sqlite_url: str) -> None:
    async with open_till(sqlite_url, refund_min_base_units=500) as till:
        admitted = await till.admitted(_pulled(till, await _challenge(till), 5_000))
        await till.conclude(admitted, 4_000_000)
        await till.settle(admitted, 4_000_000)
        before = till.node.balance(till.payer.address)

        till.rig.clock.advance(601)

        async with asyncio.timeout(15):
            while ("refund", "done") not in await till.intents():
                await asyncio.sleep(0.01)
        assert 1_000 == till.node.balance(till.payer.address) - before
        assert (0, 0, 4_000_000) == await till.rig.balance(admitted.account_id)
        assert await till.is_proven()


async def test_remainder_below_the_least_stays_credit(sqlite_url: str) -> None:
    async with open_till(sqlite_url, refund_min_base_units=1_001) as till:
        admitted = await till.admitted(_pulled(till, await _challenge(till), 5_000))
        await till.run(admitted, 4_000_000, run_id="run")
        till.rig.clock.advance(601)

        again = await till.challenge()  # the clockwork goes round meanwhile
        await asyncio.sleep(0.1)

        assert again
        assert [] == await till.intents()
        assert (1_000_000, 0, 4_000_000) == await till.rig.balance(admitted.account_id)
