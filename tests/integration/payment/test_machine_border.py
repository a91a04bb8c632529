"""The border of machine payments: what is refused before anything is looked at, and repeats."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kit.bus.memory import MemoryBus
from kit.clock import ManualClock
from kit.db import open_database, upgrade
from kit.errors import Reason, TurnpikeError
from services.payment.room import MIGRATIONS, open_payment
from services.payment.settings import PaymentSettings
from services.payment.store_tables import METADATA
from tests.integration.payment.till import Till, open_till, terms
from tests.unit.payment.rig import FakeMetering
from turnpike.payment.v1 import machine_pb2 as pb

CONTEXT: Any = None


@pytest.fixture
async def till(sqlite_url: str) -> AsyncIterator[Till]:
    async with open_till(sqlite_url) as opened:
        yield opened


@pytest.mark.parametrize(
    ("method", "request_", "param"),
    [
        ("Challenge", pb.ChallengeRequest(), "terms.realm"),
        ("Challenge", pb.ChallengeRequest(terms=pb.Terms(realm="r")), "terms.resource"),
        ("Challenge", pb.ChallengeRequest(terms=terms(-1)), "terms.hold_nusd"),
        ("Authorize", pb.AuthorizeRequest(terms=terms(), credential="x"), "request_id"),
        ("Extend", pb.ExtendRequest(lease_id="l"), "total_nusd"),
        ("Extend", pb.ExtendRequest(total_nusd=1), "lease_id"),
        ("AwaitVoucher", pb.AwaitVoucherRequest(channel_id="c", wait_ms=0), "wait_ms"),
        ("AwaitVoucher", pb.AwaitVoucherRequest(channel_id="c", wait_ms=60_001), "wait_ms"),
        (
            "AwaitVoucher",
            pb.AwaitVoucherRequest(channel_id="c", wait_ms=1, required_cumulative="1e3"),
            "required_cumulative",
        ),
        ("Conclude", pb.ConcludeRequest(lease_id="l", charge_nusd=-1), "charge_nusd"),
    ],
)
async def test_bad_fields_are_named(till: Till, method: str, request_: Any, param: str) -> None:
    with pytest.raises(TurnpikeError) as caught:
        await getattr(till.machine, method)(request_, CONTEXT)

    assert param == caught.value.metadata["param"]


async def test_unknown_lease_is_not_found(till: Till) -> None:
    for request in (
        pb.ExtendRequest(lease_id="unknown", total_nusd=1),
        pb.ConcludeRequest(lease_id="unknown"),
    ):
        method = "Extend" if isinstance(request, pb.ExtendRequest) else "Conclude"
        with pytest.raises(TurnpikeError) as caught:
            await getattr(till.machine, method)(request, CONTEXT)
        assert Reason.NOT_FOUND == caught.value.reason


@pytest.mark.parametrize("credential", ["", "garbage!", "e30", "A" * 65_537])
async def test_credential_that_cannot_be_read_gets_a_fresh_challenge(
    till: Till, credential: str
) -> None:
    answer = await till.authorize(credential)

    assert (402, "malformed-credential") == (answer.refusal.http_status, answer.refusal.problem)
    assert answer.refusal.www_authenticate
    assert len(answer.refusal.detail) < 200


async def test_top_up_and_close_buy_no_content(till: Till) -> None:
    opening = await till.idle(50_000)
    challenge = await till.challenge()

    for credential in (
        till.top_up_of(opening, challenge, 1_000),
        till.close_of(opening, challenge, 5_000),
    ):
        assert "invalid-payload" == (await till.authorize(credential)).refusal.problem
    assert "open" == str((await till.channel(opening.channel_id)).state)
    assert 50_000 == (await till.channel(opening.channel_id)).deposit


async def test_requests_of_one_channel_that_run_at_once_are_bounded(sqlite_url: str) -> None:
    async with open_till(sqlite_url, requests_per_channel_max=1) as till:
        opening, admitted = await till.opened(100_000, first=5_000)
        credential = till.voucher_of(opening, await till.challenge(), 20_000)

        with pytest.raises(TurnpikeError) as caught:
            await till.authorize(credential)
        await till.conclude(admitted, 0, run_id="")

        assert Reason.CONCURRENCY_EXCEEDED == caught.value.reason
        assert (await till.authorize(credential)).HasField("admitted")


async def test_idempotency_key_is_sold_once_and_free_again_without_a_charge(till: Till) -> None:
    opening = await till.idle(100_000, first=5_000)

    async def ask(cumulative: int) -> pb.AuthorizeResponse:
        credential = till.voucher_of(opening, await till.challenge(), cumulative)
        return await till.authorize(credential, idempotency_key="mine")

    first = await ask(10_000)
    with pytest.raises(TurnpikeError) as running:
        await ask(20_000)
    await till.conclude(first.admitted, 0, run_id="")
    second = await ask(30_000)
    await till.run(second.admitted, 1_000_000, run_id="run")
    with pytest.raises(TurnpikeError) as charged:
        await ask(40_000)

    assert Reason.ALREADY_EXISTS == running.value.reason == charged.value.reason
    assert 1_000_000 == (await till.rig.balance(first.admitted.account_id))[2]


async def test_rail_that_is_off_says_how_it_is_turned_on(sqlite_url: str) -> None:
    await upgrade(sqlite_url, MIGRATIONS, METADATA)
    metering: Any = FakeMetering()
    async with (
        open_database(sqlite_url) as database,
        open_payment(
            PaymentSettings(),
            database=database,
            bus=MemoryBus(),
            clock=ManualClock(),
            metering=metering,
        ) as room,
    ):
        for method in ("Challenge", "Authorize", "Extend", "AwaitVoucher", "Conclude", "Manage"):
            request: Any = getattr(pb, f"{method}Request")()
            with pytest.raises(TurnpikeError) as caught:
                await getattr(room.machine, method)(request, CONTEXT)
            assert Reason.PAYMENT_METHOD_UNSUPPORTED == caught.value.reason
            assert "payment.mpp" in caught.value.message
