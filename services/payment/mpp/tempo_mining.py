"""Getting a signed transaction mined: send it, and look for its receipt until the time is over.

What a node says about a transaction it will not take differs from node to node, so nothing is read
from its words: after a refusal the node is asked whether it knows the transaction all the same. One
code has a meaning of its own: taken, but not mined in time (EIP-7966).
Tempo's blocks are final, so a receipt is an end.
"""

import asyncio
from dataclasses import dataclass

from services.payment.mpp.chain import ChainError, ChainFault
from services.payment.mpp.node import (
    TAKEN,
    UNSUPPORTED,
    Node,
    NodeRefusedError,
    Receipt,
    read_receipt,
)


@dataclass(frozen=True, slots=True)
class Refused:
    """The node does not take the transaction, and does not know it either."""

    refusal: NodeRefusedError


class Mining:
    """Sends transactions to a node and waits for their receipts."""

    def __init__(self, node: Node, *, call_s: float, receipt_s: float, poll_s: float) -> None:
        self._node = node
        self._receipt_s = receipt_s
        self._poll_s = poll_s
        self._send_wait_s = max(0.0, receipt_s - call_s)
        self._answers_with_receipt = True

    async def mine(self, raw: str, tx_hash: str) -> Receipt | Refused | None:
        """Send, and return the receipt; None when there is none in time. A repeat is harmless.

        Raises:
            ChainError: `UNAVAILABLE` with the hash: it may have been sent, and nothing is known.
        """
        until_s = self._until_s()
        try:
            receipt = await self._send(raw)
            if receipt is not None and receipt.tx_hash == tx_hash:
                return receipt
        except NodeRefusedError as refusal:
            if refusal.code != TAKEN and not await self._is_known(tx_hash):
                return Refused(refusal)
        except ChainError as error:
            if error.fault is not ChainFault.UNAVAILABLE:
                raise
        return await self._look_until(until_s, tx_hash)

    async def wait(self, tx_hash: str) -> Receipt | None:
        """Look for a receipt until it is there or the time is over.

        Raises:
            ChainError: `UNAVAILABLE` with the hash when the last look had no answer.
        """
        return await self._look_until(self._until_s(), tx_hash)

    async def receipt(self, tx_hash: str) -> Receipt | None:
        """Look for a receipt once.

        Raises:
            ChainError: `UNAVAILABLE` with the hash.
        """
        try:
            return read_receipt(await self._node.call("eth_getTransactionReceipt", tx_hash))
        except NodeRefusedError as refusal:
            detail = f"The node refused to show a receipt, code {refusal.code}."
            raise ChainError(ChainFault.UNAVAILABLE, detail, tx_hash=tx_hash) from refusal
        except ChainError as error:
            raise ChainError(error.fault, error.detail, tx_hash=tx_hash) from error

    def _until_s(self) -> float:
        return asyncio.get_running_loop().time() + self._receipt_s

    async def _look_until(self, until_s: float, tx_hash: str) -> Receipt | None:
        while True:
            is_last = asyncio.get_running_loop().time() + self._poll_s > until_s
            try:
                receipt = await self.receipt(tx_hash)
            except ChainError:
                if is_last:
                    raise
                receipt = None
            if receipt is not None or is_last:
                return receipt
            await asyncio.sleep(self._poll_s)

    async def _send(self, raw: str) -> Receipt | None:
        if self._answers_with_receipt:
            try:
                answer = await self._node.call(
                    "eth_sendRawTransactionSync", raw, wait_s=self._send_wait_s
                )
                return read_receipt(answer)
            except NodeRefusedError as refusal:
                if refusal.code not in UNSUPPORTED:
                    raise
                self._answers_with_receipt = False
        await self._node.call("eth_sendRawTransaction", raw)
        return None

    async def _is_known(self, tx_hash: str) -> bool:
        try:
            return await self._node.call("eth_getTransactionByHash", tx_hash) is not None
        except (NodeRefusedError, ChainError):
            return True  # nothing says that it was not taken, so its receipt is waited for
