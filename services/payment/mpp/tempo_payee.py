"""The payee's own transactions: prepared, stored by the caller, then sent; one at a time.

Signed are EIP-1559 transactions, whose nonce comes from the chain each time: a prepared one that
is never sent leaves no gap, the next takes its place and the first turns out `Displaced`. Replicas
that share a key meet the same way: one of two with the same nonce is mined.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from coincurve import PrivateKey

from services.payment.mpp.chain import (
    ChainError,
    ChainFault,
    Displaced,
    Mined,
    Prepared,
    Reverted,
    SendOutcome,
    Unknown,
)
from services.payment.mpp.node import Node, NodeRefusedError, Receipt, read_quantity, silence
from services.payment.mpp.settings import ChainSettings
from services.payment.mpp.tempo_mining import Mining, Refused
from services.payment.mpp.tempo_transactions import (
    Fees,
    Unsigned,
    account_address,
    raw_bytes,
    read_unsigned,
    sign,
    transaction_hash,
)

_TIP_PER_GAS = 1_000_000_000


class Payee:
    """Holds the payee's key and its turn."""

    def __init__(self, node: Node, mining: Mining, settings: ChainSettings) -> None:
        self._node = node
        self._mining = mining
        self._settings = settings
        self._key = _read_key(settings.payee_key.get_secret_value())
        self._turn = asyncio.Lock()
        self.address = account_address(self._key.public_key)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the turn; `UNAVAILABLE` when it does not come in time."""
        try:
            async with asyncio.timeout(self._settings.turn_s):
                await self._turn.acquire()
        except TimeoutError as error:
            raise silence("Other transactions of the payee are still on their way.") from error
        try:
            yield
        finally:
            self._turn.release()

    async def prepare(self, *, to: str, data: bytes) -> Prepared:
        """Sign a call of a contract, with the next nonce and today's fee.

        Raises:
            ChainError: `REVERTED` when it would fail now, `UNAVAILABLE`.
        """
        self._require_turn()
        gas = await self._gas(to, data)
        nonce = await self._quantity("eth_getTransactionCount", self.address, "pending")
        fee = await self._fee()
        fees = Fees(gas=gas, fee_per_gas=fee, tip_per_gas=min(fee, _TIP_PER_GAS))
        return self._signed(
            Unsigned(chain_id=self._settings.chain_id, nonce=nonce, to=to, data=data, fees=fees)
        )

    async def dearer(self, prepared: Prepared) -> Prepared:
        """Sign the same call with the same nonce at a higher fee; `WRONG` at the limit."""
        self._require_turn()
        unsigned = self._own(prepared)
        fees = unsigned.fees
        fee, tip = self._bumped(fees.fee_per_gas), self._bumped(fees.tip_per_gas)
        if fee > self._settings.fee_per_gas_max:
            limit = self._settings.fee_per_gas_max
            raise ChainError(
                ChainFault.WRONG, f"A fee of {fee} is above fee_per_gas_max, which is {limit}."
            )
        return self._signed(replace(unsigned, fees=replace(fees, fee_per_gas=fee, tip_per_gas=tip)))

    async def send(self, prepared: Prepared) -> SendOutcome:
        """Send and wait for the receipt; a repeat is harmless.

        Raises:
            ChainError: `WRONG` with its hash when the node does not take it, such as for want of a
                fee; `UNAVAILABLE` with its hash.
        """
        self._require_turn()
        unsigned = self._own(prepared)
        answer = await self._mining.mine(prepared.raw, prepared.tx_hash)
        if not isinstance(answer, Refused):
            return outcome(prepared.tx_hash, answer)
        mined_count = await self._quantity("eth_getTransactionCount", self.address, "latest")
        if mined_count <= unsigned.nonce:
            raise ChainError(
                ChainFault.WRONG,
                f"The node refused a transaction of the payee, code {answer.refusal.code}.",
                tx_hash=prepared.tx_hash,
            )
        # The nonce is used. Another node behind the same address may lag: look for as long as ever.
        receipt = await self._mining.wait(prepared.tx_hash)
        if receipt is None:
            return Displaced(prepared.tx_hash)
        return outcome(prepared.tx_hash, receipt)

    def _require_turn(self) -> None:
        if not self._turn.locked():
            raise RuntimeError("A transaction of the payee needs its turn; see Chain.turn.")

    def _own(self, prepared: Prepared) -> Unsigned:
        try:
            raw = raw_bytes(prepared.raw)
            if transaction_hash(raw) == prepared.tx_hash:
                return read_unsigned(raw)
        except ValueError as error:
            raise ChainError(ChainFault.WRONG, "A prepared transaction is damaged.") from error
        raise ChainError(ChainFault.WRONG, "A prepared transaction has another hash.")

    def _signed(self, unsigned: Unsigned) -> Prepared:
        raw = sign(unsigned, self._key)
        return Prepared(tx_hash=transaction_hash(raw), raw="0x" + raw.hex())

    def _bumped(self, fee: int) -> int:
        return fee + -(-fee * self._settings.fee_bump_percent // 100)

    async def _gas(self, to: str, data: bytes) -> int:
        call = {"from": self.address, "to": to, "data": "0x" + data.hex()}
        try:
            estimate = read_quantity(await self._node.call("eth_estimateGas", call))
        except NodeRefusedError as refusal:
            reason = refusal.revert or f"code {refusal.code}"
            detail = f"A transaction of the payee would fail now: {reason}."
            raise ChainError(ChainFault.REVERTED, detail, revert=refusal.revert) from refusal
        gas = estimate + estimate * self._settings.gas_margin_percent // 100
        if estimate > self._settings.gas_max:
            raise ChainError(
                ChainFault.WRONG,
                f"A transaction needs {estimate} gas; gas_max is {self._settings.gas_max}.",
            )
        return min(gas, self._settings.gas_max)

    async def _fee(self) -> int:
        price = await self._quantity("eth_gasPrice")
        limit = self._settings.fee_per_gas_max
        if price > limit:
            raise silence(f"Gas costs {price} now; fee_per_gas_max is {limit}.")
        return min(2 * price, limit)

    async def _quantity(self, method: str, *parameters: object) -> int:
        try:
            return read_quantity(await self._node.call(method, *parameters))
        except NodeRefusedError as refusal:
            raise silence(f"The node refused {method}, code {refusal.code}.") from refusal


def outcome(tx_hash: str, receipt: Receipt | None) -> Mined | Reverted | Unknown:
    """Return what a receipt, or its absence, says."""
    if receipt is None:
        return Unknown(tx_hash)
    kind = Mined if receipt.is_success else Reverted
    return kind(tx_hash, receipt.block_number)


def _read_key(text: str) -> PrivateKey:
    try:
        secret = bytes.fromhex(text.removeprefix("0x"))
        if len(secret) == 32:
            return PrivateKey(secret)
    except ValueError:
        pass
    raise ValueError("payment.mpp.chain.payee_key is not a private key of 32 bytes hex.")
