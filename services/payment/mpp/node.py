"""What a node of the chain is asked, and how its JSON answers are read.

Pure: a port over JSON-RPC and readers that take nothing but the expected forms; an answer of any
other form says nothing, so it counts as no answer (`UNAVAILABLE`).

Source: Ethereum JSON-RPC (execution-apis), EIP-7966, read 2026-11-26.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from services.payment.mpp.chain import ChainError, ChainFault
from services.payment.mpp.tempo_abi import Log, revert_reason

LOGS_MAX: Final = 10_000
UNSUPPORTED: Final = (-32601, -32004)
TAKEN: Final = 4
_QUANTITY: Final = re.compile("0x[0-9a-f]{1,64}")
_HEX: Final = re.compile("0x(?:[0-9a-f]{2})*")
_HASH: Final = re.compile("0x[0-9a-f]{64}")
_ADDRESS: Final = re.compile("0x[0-9a-f]{40}")


class NodeRefusedError(Exception):
    """The node answered with an error; `revert` is the reason of a call that failed, or empty.

    The node's own words are dropped: they may repeat what was sent.
    """

    def __init__(self, code: int, revert: str) -> None:
        super().__init__(f"The node refused with code {code}.")
        self.code = code
        self.revert = revert


class Node(Protocol):
    """One JSON-RPC endpoint."""

    async def call(self, method: str, *parameters: object, wait_s: float = 0) -> object:
        """Return `result` as decoded JSON; `wait_s` is added to the deadline.

        Raises:
            NodeRefusedError: The node answered with an error.
            ChainError: `UNAVAILABLE`, there was no answer of the right form in time.
        """


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a mined transaction."""

    tx_hash: str
    block_number: int
    is_success: bool
    logs: tuple[Log, ...]


def silence(detail: str, *, tx_hash: str = "") -> ChainError:
    """Return the error of a node that did not say what was asked."""
    return ChainError(ChainFault.UNAVAILABLE, detail, tx_hash=tx_hash)


def read_quantity(answer: object) -> int:
    """Read a number, such as `0x1f`."""
    return int(_text(answer, _QUANTITY), 16)


def read_data(answer: object) -> bytes:
    """Read bytes, such as `0x00ff`."""
    return bytes.fromhex(_text(answer, _HEX)[2:])


def read_receipt(answer: object) -> Receipt | None:
    """Read a transaction's receipt; None while there is none."""
    if answer is None:
        return None
    receipt = _object(answer)
    status = read_quantity(receipt.get("status"))
    return Receipt(
        tx_hash=_text(receipt.get("transactionHash"), _HASH),
        block_number=read_quantity(receipt.get("blockNumber")),
        is_success=status == 1,
        logs=read_logs(receipt.get("logs")),
    )


def read_logs(answer: object) -> tuple[Log, ...]:
    """Read a list of events; those of a block that was dropped are left out."""
    logs = [_object(each) for each in _list(answer)]
    return tuple(_log(each) for each in logs if each.get("removed") is not True)


def read_refusal(error: object) -> NodeRefusedError:
    """Read the `error` of an answer, as far as its code and a revert's reason go."""
    fields = error if isinstance(error, Mapping) else {}
    code, data = fields.get("code"), fields.get("data")
    if isinstance(data, Mapping):
        data = data.get("data")
    is_hex = isinstance(data, str) and _HEX.fullmatch(data.lower()) is not None
    reason = revert_reason(bytes.fromhex(data[2:])) if is_hex and isinstance(data, str) else ""
    return NodeRefusedError(code if isinstance(code, int) else 0, reason)


def _log(fields: Mapping[str, object]) -> Log:
    return Log(
        address=_text(fields.get("address"), _ADDRESS),
        topics=tuple(_text(each, _HASH) for each in _list(fields.get("topics"))),
        data=read_data(fields.get("data")),
        tx_hash=_text(fields.get("transactionHash"), _HASH),
        block_number=read_quantity(fields.get("blockNumber")),
    )


def _text(answer: object, form: re.Pattern[str]) -> str:
    if isinstance(answer, str) and form.fullmatch(answer.lower()):
        return answer.lower()
    raise silence("The node's answer has not the expected form.")


def _object(answer: object) -> Mapping[str, object]:
    if isinstance(answer, dict):
        return answer
    raise silence("The node's answer is not an object.")


def _list(answer: object) -> list[object]:
    if isinstance(answer, list) and len(answer) <= LOGS_MAX:
        return answer
    raise silence(f"The node's answer is not a list of at most {LOGS_MAX} entries.")
