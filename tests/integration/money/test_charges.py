"""Requests that one transfer pays for, from HTTP to the chain."""

import asyncio
from typing import Any

import pytest
from eth_utils.crypto import keccak

from tests.fakes.machine_client import MachineClient, Met
from tests.fixtures.catalogues import chat, price_nusd
from tests.fixtures.paid import PaidSite

REALM = "turnpike"


def memo_of(challenge: Met) -> str:
    """Return the memo of the public SDKs that binds a transfer to a challenge."""
    server, nonce = keccak(REALM.encode())[:10], keccak(challenge.id.encode())[:7]
    return "0x" + (keccak(b"mpp")[:4] + b"\x01" + server + bytes(10) + nonce).hex()


def pulled(client: MachineClient, challenge: Met) -> str:
    raw = client.payer.transfer(challenge.amount, memo=memo_of(challenge))
    return challenge.answered({"type": "transaction", "signature": raw}, client.source)


def pushed(paid: PaidSite, client: MachineClient, challenge: Met) -> str:
    raw = client.payer.transfer(challenge.amount, memo=memo_of(challenge))
    payload = {"type": "hash", "hash": paid.chain.submit(raw)}
    return challenge.answered(payload, client.source)


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("is_pushed", [False, True])
async def test_transfer_pays_for_one_request(
    paid: PaidSite, is_pushed: bool, is_streaming: bool
) -> None:
    client = paid.client(1)
    body: dict[str, Any] = chat("shape=c9-d0", stream=is_streaming, max_tokens=16)
    challenge = await client.met(body, "charge")
    credential = pushed(paid, client, challenge) if is_pushed else pulled(client, challenge)

    answer = await client.send(body, credential)
    again = await client.send(body, credential)

    assert 200 == answer.status, answer.body
    assert answer.is_whole
    assert answer.receipt is not None
    assert answer.receipt["reference"].startswith("0x")
    assert challenge.id == answer.receipt["challengeId"]
    assert again.status in (402, 403), again.body
    assert challenge.amount == paid.earned
    account_id = f"tempo:{client.payer.address}"
    (record,) = await paid.settled_account(account_id, 1)
    assert price_nusd(12, 9) == record.charge_nusd
    verified = await paid.verified()
    assert verified.is_clean, verified.findings


async def test_failure_25_parallel_uses_of_one_transfer_deliver_once(paid: PaidSite) -> None:
    client = paid.client(2)
    body = chat("shape=c9-d0", max_tokens=16)
    challenge = await client.met(body, "charge")
    credential = pushed(paid, client, challenge)

    replies = await asyncio.gather(*(client.send(body, credential) for _ in range(20)))

    assert 1 == [reply.status for reply in replies].count(200)
    assert 1 == len(paid.site.main.seen)
    assert challenge.amount == paid.earned
