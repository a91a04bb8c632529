"""The chain port when the node or the network fails: what is known afterwards, and what is not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web

from services.payment.mpp.chain import (
    ChainError,
    ChainFault,
    Mined,
    Prepared,
    Reverted,
    Unknown,
)
from services.payment.mpp.tempo import open_tempo
from services.payment.mpp.tempo_chain import TempoChain
from tests.fakes.tempo_chain import FakeTempo, chain_settings, open_tempo_chain
from tests.fakes.tempo_payer import PAYEE, TempoPayer


@dataclass
class Rig:
    """A chain behind the port, its node, and a payer."""

    node: FakeTempo
    chain: TempoChain
    payer: TempoPayer

    async def refund(self, amount: int = 7) -> Prepared:
        """Prepare a transfer to the payer; the caller holds the turn."""
        return await self.chain.prepare_transfer(to=self.payer.address, amount=amount)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_tempo_chain() as node, open_tempo(chain_settings(node.url)) as chain:
        yield Rig(node, chain, TempoPayer())


async def _fails(wanted: ChainFault, work: Any) -> ChainError:
    with pytest.raises(ChainError) as caught:
        await work
    assert wanted == caught.value.fault
    return caught.value


async def test_failure_38_node_that_is_down_is_told_for_every_question(rig: Rig) -> None:
    opening = rig.payer.open(1_000_000)
    rig.node.faults.is_down = True

    for work in (
        rig.chain.check(),
        rig.chain.channel(opening.channel_id),
        rig.chain.open(opening.raw),
        rig.chain.outcome(opening.tx_hash),
        rig.chain.closes_requested(0),
        rig.chain.closed(opening.channel_id, from_block=0),
    ):
        await _fails(ChainFault.UNAVAILABLE, work)


async def test_failure_38_node_that_is_gone_is_told(rig: Rig) -> None:
    async with open_tempo(chain_settings("http://127.0.0.1:1/", call_s=1.0)) as chain:
        error = await _fails(ChainFault.UNAVAILABLE, chain.block_number())

    assert "eth_blockNumber" in error.detail


async def test_failure_31_open_whose_answer_is_lost_is_found_by_its_receipt(rig: Rig) -> None:
    opening = rig.payer.open(1_000_000)
    rig.node.faults.answers_lost = 1

    opened = await rig.chain.open(opening.raw)

    assert opening.channel_id == opened.channel_id


async def test_failure_31_open_without_a_receipt_is_resumed_by_its_hash(rig: Rig) -> None:
    opening = rig.payer.open(1_000_000)
    rig.node.faults.hides_receipts = True

    error = await _fails(ChainFault.UNAVAILABLE, rig.chain.open(opening.raw))
    missing = await _fails(ChainFault.NOT_FOUND, rig.chain.opened(opening.tx_hash))
    rig.node.faults.hides_receipts = False
    resumed = await rig.chain.opened(error.tx_hash)

    assert opening.tx_hash == error.tx_hash == missing.tx_hash
    assert opening.channel_id == resumed.channel_id
    assert resumed == await rig.chain.open(opening.raw)


async def test_failure_31_open_that_waits_is_mined_later(rig: Rig) -> None:
    opening = rig.payer.open(1_000_000)
    rig.node.faults.is_holding = True

    await _fails(ChainFault.UNAVAILABLE, rig.chain.open(opening.raw))
    await _fails(ChainFault.UNAVAILABLE, rig.chain.open(opening.raw))
    rig.node.mine()

    assert opening.channel_id == (await rig.chain.open(opening.raw)).channel_id


async def test_open_that_the_node_refuses_was_not_sent(rig: Rig) -> None:
    opening = rig.payer.open(1_000_000)
    rig.node.faults.refusals = 1

    error = await _fails(ChainFault.WRONG, rig.chain.open(opening.raw))

    assert "" == error.tx_hash
    assert await rig.chain.channel(opening.channel_id) is None


async def test_node_without_receipts_in_answers_is_asked_for_them(rig: Rig) -> None:
    rig.node.faults.has_sync = False

    for _ in range(2):
        opening = rig.payer.open(1_000_000)
        opened = await rig.chain.open(opening.raw)
        assert opening.channel_id == opened.channel_id

    assert 1 == rig.node.calls.count("eth_sendRawTransactionSync")
    assert 2 == rig.node.calls.count("eth_sendRawTransaction")


async def test_transactions_that_wait_leave_room_for_questions(rig: Rig) -> None:
    rig.node.faults.is_holding = True
    settings = chain_settings(rig.node.url, calls_max=2, call_s=0.5, receipt_s=1.5)
    openings = [rig.payer.open(1_000_000) for _ in range(3)]

    async with open_tempo(settings) as chain:
        *errors, newest = await asyncio.gather(
            *(chain.open(opening.raw) for opening in openings),
            chain.block_number(),
            return_exceptions=True,
        )

    assert 0 == newest
    assert all(isinstance(error, ChainError) for error in errors)
    assert [openings[0].tx_hash, "", ""] == [getattr(error, "tx_hash", None) for error in errors]


async def test_failure_33_close_that_reverts_on_chain_is_told(rig: Rig) -> None:
    opening = rig.payer.open(1_000_000)
    await rig.chain.open(opening.raw)
    signature = rig.payer.voucher(opening.channel_id, 5)
    rig.node.faults.reverts = 1

    async with rig.chain.turn():
        prepared = await rig.chain.prepare_close(
            opening.descriptor, cumulative=5, capture=5, signature=signature
        )
        outcome = await rig.chain.send(prepared)

    assert isinstance(outcome, Reverted)
    assert outcome == await rig.chain.outcome(prepared.tx_hash)
    assert 1_000_000 == rig.node.balance(rig.payer.terms.escrow)


async def test_failure_33_close_stored_before_a_crash_is_sent_by_the_next_process(
    rig: Rig,
) -> None:
    opening = rig.payer.open(1_000_000)
    await rig.chain.open(opening.raw)
    signature = rig.payer.voucher(opening.channel_id, 5)
    async with rig.chain.turn():
        prepared = await rig.chain.prepare_close(
            opening.descriptor, cumulative=5, capture=5, signature=signature
        )
    before = rig.node.balance(PAYEE)

    async with open_tempo(chain_settings(rig.node.url)) as next_process:
        async with next_process.turn():
            outcomes = [await next_process.send(prepared) for _ in range(2)]
        closed = await next_process.closed(opening.channel_id, from_block=0)

    assert isinstance(outcomes[0], Mined)
    assert outcomes[0] == outcomes[1]
    assert 5 == rig.node.balance(PAYEE) - before
    assert closed is not None
    assert prepared.tx_hash == closed.tx_hash


async def test_sent_and_lost_is_unknown_until_it_is_sent_again(rig: Rig) -> None:
    rig.node.faults.sends_lost = 1
    async with rig.chain.turn():
        prepared = await rig.refund()

        first = await rig.chain.send(prepared)
        again = await rig.chain.send(prepared)

    assert Unknown(prepared.tx_hash) == first
    assert isinstance(again, Mined)


async def test_transaction_that_waits_can_be_made_dearer_up_to_a_limit(rig: Rig) -> None:
    before = rig.node.balance(rig.payer.address)
    rig.node.faults.is_holding = True
    async with rig.chain.turn():
        cheap = await rig.refund()
        assert Unknown(cheap.tx_hash) == await rig.chain.send(cheap)
        dear = await rig.chain.prepare_dearer(cheap)
        assert Unknown(dear.tx_hash) == await rig.chain.send(dear)
        rig.node.mine()

        assert isinstance(await rig.chain.send(dear), Mined)

        assert 7 == rig.node.balance(rig.payer.address) - before
        for _ in range(6):  # by a quarter each, to 191 of 200 gwei
            dear = await rig.chain.prepare_dearer(dear)
        error = await _fails(ChainFault.WRONG, rig.chain.prepare_dearer(dear))
        assert "fee_per_gas_max" in error.detail


async def test_payee_without_a_fee_is_refused_and_nothing_was_sent(rig: Rig) -> None:
    rig.node.faults.refusals = 1

    async with rig.chain.turn():
        prepared = await rig.refund()
        error = await _fails(ChainFault.WRONG, rig.chain.send(prepared))

    assert "-32000" in error.detail
    assert prepared.tx_hash == error.tx_hash
    assert Unknown(prepared.tx_hash) == await rig.chain.outcome(prepared.tx_hash)


async def test_turns_come_one_by_one_and_not_too_late(rig: Rig) -> None:
    async with open_tempo(chain_settings(rig.node.url, turn_s=0.05)) as chain:
        async with chain.turn():
            await _fails(ChainFault.UNAVAILABLE, chain.turn().__aenter__())
        async with chain.turn():
            prepared = await chain.prepare_transfer(to=rig.payer.address, amount=1)
            assert isinstance(await chain.send(prepared), Mined)


async def test_refunds_in_parallel_take_turns_and_are_all_paid(rig: Rig) -> None:
    before = rig.node.balance(rig.payer.address)

    async def refund() -> None:
        async with rig.chain.turn():
            assert isinstance(await rig.chain.send(await rig.refund(3)), Mined)

    await asyncio.gather(*(refund() for _ in range(5)))

    assert 15 == rig.node.balance(rig.payer.address) - before


async def test_transaction_outside_a_turn_is_a_bug(rig: Rig) -> None:
    with pytest.raises(RuntimeError, match="turn"):
        await rig.refund()


async def test_changed_intent_is_not_sent(rig: Rig) -> None:
    async with rig.chain.turn():
        prepared = await rig.refund()
        for changed in (
            replace(prepared, tx_hash="0x" + "11" * 32),
            replace(prepared, raw=prepared.raw[:-2]),
            replace(prepared, raw="0x"),
        ):
            await _fails(ChainFault.WRONG, rig.chain.send(changed))


async def test_gas_and_fees_have_limits(rig: Rig) -> None:
    for change, fault in (
        ({"gas_max": 21_000}, ChainFault.WRONG),
        ({"fee_per_gas_max": 1}, ChainFault.UNAVAILABLE),
    ):
        async with (
            open_tempo(chain_settings(rig.node.url, **change)) as chain,
            chain.turn(),
        ):
            await _fails(fault, chain.prepare_transfer(to=rig.payer.address, amount=1))


async def test_events_are_looked_for_in_pages(rig: Rig) -> None:
    openings = [rig.payer.open(1_000_000) for _ in range(3)]
    for opening in openings:
        await rig.chain.open(opening.raw)
        rig.node.submit(rig.payer.request_close(opening.descriptor))
    settings = chain_settings(rig.node.url, log_blocks_max=2, log_pages_max=2)

    async with open_tempo(settings) as chain:
        seen, block = [], 0
        while block <= await chain.block_number():
            page = await chain.closes_requested(block)
            seen += [event.channel_id for event in page.events]
            block = page.next_block
        error = await _fails(
            ChainFault.UNAVAILABLE, chain.closed(openings[0].channel_id, from_block=0)
        )

    assert [opening.channel_id for opening in openings] == seen
    assert "further back" in error.detail


async def test_close_requests_to_others_are_not_ours(rig: Rig) -> None:
    opening = rig.payer.open(1_000_000, payee=rig.payer.address)
    rig.node.submit(opening.raw)
    rig.node.submit(rig.payer.request_close(opening.descriptor))

    page = await rig.chain.closes_requested(0)

    assert () == page.events


@pytest.mark.parametrize(
    "answer",
    [
        "not json",
        "[]",
        '{"id":99,"result":"0x1"}',
        '{"id":1}',
        '{"id":1,"result":"one"}',
        '{"id":1,"result":"0x1","pad":"' + "x" * 4_096 + '"}',
    ],
    ids=range(6),
)
async def test_answers_of_another_form_say_nothing(answer: str) -> None:
    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=answer, content_type="application/json")

    app = web.Application()
    app.router.add_post("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        settings = chain_settings(url, answer_bytes_max=2_048)
        async with open_tempo(settings) as chain:
            await _fails(ChainFault.UNAVAILABLE, chain.block_number())
    finally:
        await runner.cleanup()


async def test_redirects_are_not_followed_and_the_authorization_goes_along(rig: Rig) -> None:
    seen: list[str | None] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=307, headers={"Location": rig.node.url})

    app = web.Application()
    app.router.add_post("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        settings = chain_settings(url, rpc_authorization="Bearer node-key")
        async with open_tempo(settings) as chain:
            error = await _fails(ChainFault.UNAVAILABLE, chain.block_number())
    finally:
        await runner.cleanup()

    assert ["Bearer node-key"] == seen
    assert [] == rig.node.calls
    assert "node-key" not in error.detail + repr(settings)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"rpc_url": ""}, "rpc_url"),
        ({"payee_key": "0x12"}, "payee_key"),
        ({"payee_key": ""}, "key"),
    ],
)
async def test_settings_that_cannot_work_are_refused(change: dict[str, Any], names: str) -> None:
    settings = chain_settings("http://127.0.0.1:1/", **change)

    with pytest.raises(ValueError, match=names):
        await open_tempo(settings).__aenter__()


async def test_failure_41_signatures_and_keys_are_in_no_error(rig: Rig) -> None:
    opening = rig.payer.open(1_000_000)
    await rig.chain.open(opening.raw)
    signature = rig.payer.voucher(opening.channel_id, 2_000_000)

    async with rig.chain.turn():
        error = await _fails(
            ChainFault.REVERTED,
            rig.chain.prepare_settle(opening.descriptor, cumulative=2_000_000, signature=signature),
        )

    assert "AmountExceedsDeposit" == error.revert
    assert signature[2:] not in repr(error) + repr(error.__cause__)
