"""What every chain behind the port does: run over the fake node, and over anvil by Node's tier.

A subclass gives the fixture `world`. Accounts are the development accounts that both chains fund.
"""

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest

from services.payment.mpp.chain import (
    ChainError,
    ChainFault,
    Displaced,
    Mined,
    OnChain,
    Prepared,
    SendOutcome,
    Unknown,
)
from services.payment.mpp.settings import ChainSettings
from services.payment.mpp.tempo import open_tempo
from services.payment.mpp.tempo_chain import TempoChain
from tests.fakes.tempo_payer import (
    DELEGATE_KEY,
    PAYEE,
    TOKEN,
    Opening,
    TempoPayer,
    call_data,
)

FEE_MANAGER = "0xfeec000000000000000000000000000000000000"
MEMO = "0x" + "ab" * 32


@dataclass
class ChainWorld:
    """A chain under test, the settings that reached it, and its node asked directly."""

    chain: TempoChain
    settings: ChainSettings
    payer: TempoPayer = field(default_factory=TempoPayer)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    async def rpc(self, method: str, *parameters: Any) -> Any:
        """Ask the node beside the port."""
        body = {"jsonrpc": "2.0", "id": next(self.numbers), "method": method, "params": parameters}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.settings.rpc_url, json=body) as answer,
        ):
            return (await answer.json())["result"]

    async def balance(self, address: str) -> int:
        """Return what an address has of the token."""
        data = "0x" + call_data("balanceOf(address)", address).hex()
        return int(await self.rpc("eth_call", {"to": TOKEN, "data": data}, "latest"), 16)

    async def fees(self, *tx_hashes: str) -> int:
        """Return what transactions paid for being mined, in the token."""
        paid = [each for tx_hash in tx_hashes for each in await self.chain.transfers(tx_hash)]
        return sum(each.amount for each in paid if (each.to, each.token) == (FEE_MANAGER, TOKEN))

    async def opened(self, deposit: int = 1_000_000) -> Opening:
        """Open a channel."""
        opening = self.payer.open(deposit)
        await self.chain.open(opening.raw)
        return opening

    async def settle(self, opening: Opening, cumulative: int) -> Prepared:
        """Prepare the settlement of a voucher; the caller holds the turn."""
        return await self.chain.prepare_settle(
            opening.descriptor,
            cumulative=cumulative,
            signature=self.payer.voucher(opening.channel_id, cumulative),
        )

    async def close(self, opening: Opening, cumulative: int, capture: int) -> SendOutcome:
        """Close a channel by its payee."""
        signature = self.payer.voucher(opening.channel_id, cumulative)
        async with self.chain.turn():
            prepared = await self.chain.prepare_close(
                opening.descriptor, cumulative=cumulative, capture=capture, signature=signature
            )
            return await self.chain.send(prepared)


class ChainCases:
    """The cases."""

    async def test_node_of_the_right_chain_passes_and_another_is_refused(
        self, world: ChainWorld
    ) -> None:
        await world.chain.check()

        for wrong in (
            world.settings.model_copy(update={"chain_id": 4217}),
            world.settings.model_copy(update={"token": "0x" + "11" * 20}),
            world.settings.model_copy(update={"escrow": "0x" + "11" * 20}),
        ):
            async with open_tempo(wrong) as chain:
                with pytest.raises(ChainError) as caught:
                    await chain.check()
            assert ChainFault.WRONG == caught.value.fault

    async def test_open_returns_the_event_and_again_the_same(self, world: ChainWorld) -> None:
        opening = world.payer.open(1_000_000)

        opened = await world.chain.open(opening.raw)
        again = await world.chain.open(opening.raw)

        assert opening.channel_id == opened.channel_id
        assert opening.tx_hash == opened.tx_hash
        assert (1_000_000, PAYEE, TOKEN) == (opened.deposit, opened.payee, opened.token)
        assert opening.descriptor.expiring_nonce_hash == opened.expiring_nonce_hash
        assert opened == again == await world.chain.opened(opening.tx_hash)
        state = await world.chain.channel(opening.channel_id)
        assert OnChain(deposit=1_000_000, settled=0, close_requested_unix_s=0) == state

    async def test_opening_is_read_before_it_is_sent(self, world: ChainWorld) -> None:
        opening = world.payer.open(77, payee=world.payer.address)

        call = world.chain.opening_of(opening.raw)

        assert opening.channel_id == call.channel_id
        assert (77, world.payer.address) == (call.deposit, call.payee)
        assert opening.tx_hash == world.chain.transaction_hash(opening.raw)
        assert await world.chain.channel(opening.channel_id) is None

    async def test_failure_31_open_that_reverts_is_told_with_its_hash(
        self, world: ChainWorld
    ) -> None:
        opening = world.payer.open(0)

        with pytest.raises(ChainError) as caught:
            await world.chain.open(opening.raw)

        assert ChainFault.REVERTED == caught.value.fault
        assert opening.tx_hash == caught.value.tx_hash
        assert await world.chain.channel(opening.channel_id) is None

    async def test_failure_31_same_open_in_parallel_opens_once(self, world: ChainWorld) -> None:
        opening = world.payer.open(1_000_000)

        opened = await asyncio.gather(*(world.chain.open(opening.raw) for _ in range(4)))

        assert 1 == len(set(opened))
        state = await world.chain.channel(opening.channel_id)
        assert OnChain(deposit=1_000_000, settled=0, close_requested_unix_s=0) == state

    async def test_top_up_adds_to_the_deposit(self, world: ChainWorld) -> None:
        opening = await world.opened()
        raw = world.payer.top_up(opening.descriptor, 500_000)

        state = await world.chain.top_up(raw, opening.channel_id)

        assert OnChain(deposit=1_500_000, settled=0, close_requested_unix_s=0) == state

    async def test_failure_30_top_up_of_another_channel_is_not_sent(
        self, world: ChainWorld
    ) -> None:
        mine, other = await world.opened(), await world.opened()
        raw = world.payer.top_up(other.descriptor, 500_000)

        with pytest.raises(ChainError) as caught:
            await world.chain.top_up(raw, mine.channel_id)

        assert ChainFault.WRONG == caught.value.fault
        state = await world.chain.channel(other.channel_id)
        assert OnChain(deposit=1_000_000, settled=0, close_requested_unix_s=0) == state

    async def test_failure_30_top_up_that_reverts(self, world: ChainWorld) -> None:
        opening = world.payer.open(1_000_000)
        raw = world.payer.top_up(opening.descriptor, 500_000)

        with pytest.raises(ChainError) as caught:
            await world.chain.top_up(raw, opening.channel_id)

        assert ChainFault.REVERTED == caught.value.fault

    async def test_settle_pays_the_payee_the_difference(self, world: ChainWorld) -> None:
        opening = await world.opened()
        before = await world.balance(PAYEE)

        for cumulative in (1_000, 2_500):
            async with world.chain.turn():
                prepared = await world.settle(opening, cumulative)
                assert isinstance(await world.chain.send(prepared), Mined)

        assert 2_500 == await world.balance(PAYEE) - before
        state = await world.chain.channel(opening.channel_id)
        assert OnChain(deposit=1_000_000, settled=2_500, close_requested_unix_s=0) == state

    async def test_settling_the_same_voucher_again_would_revert(self, world: ChainWorld) -> None:
        opening = await world.opened()
        async with world.chain.turn():
            await world.chain.send(await world.settle(opening, 1_000))

            with pytest.raises(ChainError) as caught:
                await world.settle(opening, 1_000)

        assert ChainFault.REVERTED == caught.value.fault
        assert "AmountNotIncreasing" == caught.value.revert

    async def test_voucher_of_another_signer_would_revert(self, world: ChainWorld) -> None:
        opening = await world.opened()
        signature = TempoPayer(DELEGATE_KEY).voucher(opening.channel_id, 1_000)

        async with world.chain.turn():
            with pytest.raises(ChainError) as caught:
                await world.chain.prepare_settle(
                    opening.descriptor, cumulative=1_000, signature=signature
                )

        assert ChainFault.REVERTED == caught.value.fault

    async def test_delegate_signs_for_a_channel_that_names_it(self, world: ChainWorld) -> None:
        world.payer = TempoPayer(signer_key=DELEGATE_KEY)
        opening = await world.opened()

        async with world.chain.turn():
            outcome = await world.chain.send(await world.settle(opening, 1_000))

        assert isinstance(outcome, Mined)

    async def test_failure_34_close_pays_the_capture_and_returns_the_rest(
        self, world: ChainWorld
    ) -> None:
        payee, payer = await world.balance(PAYEE), await world.balance(world.payer.address)
        opening = await world.opened()
        start = await world.chain.block_number()

        outcome = await world.close(opening, 3_000, 2_500)

        assert isinstance(outcome, Mined)
        assert 2_500 == await world.balance(PAYEE) - payee
        fees = await world.fees(opening.tx_hash)
        assert 2_500 + fees == payer - await world.balance(world.payer.address)
        assert await world.chain.channel(opening.channel_id) is None
        closed = await world.chain.closed(opening.channel_id, from_block=start)
        assert closed is not None
        assert (2_500, 997_500) == (closed.settled_to_payee, closed.refunded_to_payer)
        assert outcome.tx_hash == closed.tx_hash

    async def test_failure_33_second_close_would_revert_and_the_first_is_found(
        self, world: ChainWorld
    ) -> None:
        opening = await world.opened()
        await world.close(opening, 3_000, 2_500)

        with pytest.raises(ChainError) as caught:
            await world.close(opening, 3_000, 2_500)

        assert "ChannelNotFound" == caught.value.revert
        assert await world.chain.closed(opening.channel_id, from_block=0) is not None

    async def test_channel_that_lives_has_no_end(self, world: ChainWorld) -> None:
        opening = await world.opened()

        assert await world.chain.closed(opening.channel_id, from_block=0) is None

    async def test_failure_32_close_request_is_seen_and_a_top_up_cancels_it(
        self, world: ChainWorld
    ) -> None:
        opening = await world.opened()
        start = await world.chain.block_number()
        await world.chain.broadcast(world.payer.request_close(opening.descriptor))

        page = await world.chain.closes_requested(start)

        (event,) = [each for each in page.events if each.channel_id == opening.channel_id]
        state = await world.chain.channel(opening.channel_id)
        assert state is not None
        assert event.grace_end_unix_s == state.close_requested_unix_s + 900
        assert (world.payer.address, PAYEE) == (event.payer, event.payee)
        later = await world.chain.closes_requested(page.next_block)
        assert () == later.events
        raw = world.payer.top_up(opening.descriptor, 1)
        topped = await world.chain.top_up(raw, opening.channel_id)
        assert OnChain(deposit=1_000_001, settled=0, close_requested_unix_s=0) == topped

    async def test_failure_32_payer_withdraws_after_the_grace(self, world: ChainWorld) -> None:
        opening = await world.opened()
        await world.chain.broadcast(world.payer.request_close(opening.descriptor))
        async with world.chain.turn():
            await world.chain.send(await world.settle(opening, 1_000))
        early = world.payer.withdraw(opening.descriptor)
        with pytest.raises(ChainError) as caught:
            await world.chain.broadcast(early)
        assert ChainFault.REVERTED == caught.value.fault

        await world.rpc("evm_increaseTime", 900)
        await world.rpc("evm_mine")
        world.payer.ahead_s += 900
        await world.chain.broadcast(world.payer.withdraw(opening.descriptor))

        closed = await world.chain.closed(opening.channel_id, from_block=0)
        assert closed is not None
        assert (1_000, 999_000) == (closed.settled_to_payee, closed.refunded_to_payer)

    async def test_charge_is_read_before_it_is_sent_and_found_afterwards(
        self, world: ChainWorld
    ) -> None:
        before = await world.balance(PAYEE)
        raw = world.payer.transfer(777, memo=MEMO)

        (planned,) = world.chain.transfers_of(raw)
        mined = await world.chain.broadcast(raw)

        assert (777, MEMO, PAYEE) == (planned.amount, planned.memo, planned.to)
        assert world.payer.address == planned.sender
        told = await world.chain.transfers(mined.tx_hash)
        assert [planned] == [each for each in told if each.to == PAYEE]
        assert 777 == await world.balance(PAYEE) - before

    async def test_charge_without_a_memo_has_none(self, world: ChainWorld) -> None:
        raw = world.payer.transfer(5)

        (planned,) = world.chain.transfers_of(raw)
        mined = await world.chain.broadcast(raw)

        assert "" == planned.memo
        assert planned in await world.chain.transfers(mined.tx_hash)

    async def test_payee_refunds_by_a_transfer(self, world: ChainWorld) -> None:
        before = await world.balance(world.payer.address)

        async with world.chain.turn():
            prepared = await world.chain.prepare_transfer(to=world.payer.address, amount=77)
            outcome = await world.chain.send(prepared)

        assert isinstance(outcome, Mined)
        assert outcome == await world.chain.outcome(prepared.tx_hash)
        assert 77 == await world.balance(world.payer.address) - before

    async def test_sending_again_pays_once(self, world: ChainWorld) -> None:
        before = await world.balance(world.payer.address)
        async with world.chain.turn():
            prepared = await world.chain.prepare_transfer(to=world.payer.address, amount=78)
            first = await world.chain.send(prepared)

            again = await world.chain.send(prepared)

        assert first == again
        assert 78 == await world.balance(world.payer.address) - before

    async def test_of_two_with_one_nonce_one_is_mined(self, world: ChainWorld) -> None:
        before = await world.balance(world.payer.address)
        async with world.chain.turn():
            cheap = await world.chain.prepare_transfer(to=world.payer.address, amount=79)
            dear = await world.chain.prepare_dearer(cheap)
            assert isinstance(await world.chain.send(dear), Mined)

            outcome = await world.chain.send(cheap)

        assert Displaced(cheap.tx_hash) == outcome
        assert 79 == await world.balance(world.payer.address) - before

    async def test_what_was_never_sent_leaves_no_gap(self, world: ChainWorld) -> None:
        async with world.chain.turn():
            lost = await world.chain.prepare_transfer(to=world.payer.address, amount=80)
        async with world.chain.turn():
            next_one = await world.chain.prepare_transfer(to=world.payer.address, amount=81)
            assert isinstance(await world.chain.send(next_one), Mined)

            assert Displaced(lost.tx_hash) == await world.chain.send(lost)

    async def test_unknown_transaction_has_no_outcome_and_no_transfers(
        self, world: ChainWorld
    ) -> None:
        missing = "0x" + "12" * 32

        assert Unknown(missing) == await world.chain.outcome(missing)
        for look in (world.chain.transfers, world.chain.opened):
            with pytest.raises(ChainError) as caught:
                await look(missing)
            assert ChainFault.NOT_FOUND == caught.value.fault

    async def test_transaction_that_opens_nothing_is_told(self, world: ChainWorld) -> None:
        mined = await world.chain.broadcast(world.payer.transfer(1))

        with pytest.raises(ChainError) as caught:
            await world.chain.opened(mined.tx_hash)

        assert ChainFault.WRONG == caught.value.fault

    async def test_transaction_for_another_chain_is_not_sent(self, world: ChainWorld) -> None:
        terms = replace(world.payer.terms, chain_id=4217)
        opening = TempoPayer(terms=terms).open(1_000_000)

        with pytest.raises(ChainError) as caught:
            await world.chain.open(opening.raw)

        assert ChainFault.WRONG == caught.value.fault
        assert "" == caught.value.tx_hash
