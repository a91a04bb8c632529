"""Fuzz target: signed transactions, which strangers hand in to be sent and paid by."""

from typing import Final

from services.payment.mpp import rlp
from services.payment.mpp.chain import ChainError, ChainFault
from services.payment.mpp.node import Node
from services.payment.mpp.signatures import SIGNATURE_BYTES
from services.payment.mpp.tempo_chain import TempoChain
from services.payment.mpp.tempo_transactions import (
    TEMPO_TYPE,
    raw_bytes,
    read_transaction,
)
from tests.fakes.tempo_chain import chain_settings
from tests.fuzz.writing import source_of
from tests.unit.payment.mpp.vectors import OPENS

_RAWS: Final = [raw_bytes(row["raw_transaction"]) for row in OPENS.values()]
_SIGNED: Final = [rlp.as_list(rlp.decode(raw[1:]))[:-1] for raw in _RAWS]
_SENDERS: Final = {row["descriptor"]["payer"] for row in OPENS.values()}


class _NoNode(Node):
    async def call(self, method: str, *parameters: object, wait_s: float = 0) -> object:
        raise AssertionError(f"{method} was asked while a transaction was read")


_CHAIN: Final = TempoChain(_NoNode(), chain_settings("http://127.0.0.1:1/"))


def payment_transaction(data: bytes) -> None:
    """A transaction is read to the last byte or refused; nobody's name is forged."""
    source = source_of(data)
    raw = bytearray(_RAWS[source.ConsumeIntInRange(0, len(_RAWS) - 1)])
    if source.ConsumeBool():
        raw = bytearray([TEMPO_TYPE]) + source.ConsumeBytes(2048)
    for _ in range(source.ConsumeIntInRange(0, 4)):
        at = source.ConsumeIntInRange(0, len(raw) - 1)
        raw[at : at + source.ConsumeIntInRange(0, 2)] = source.ConsumeBytes(2)
        if not raw:
            return
    text = "0x" + raw.hex()
    for read in (_CHAIN.opening_of, _CHAIN.top_up_of, _CHAIN.transfers_of, _CHAIN.transaction_hash):
        try:
            read(text)
        except ChainError as error:
            if error.fault is not ChainFault.WRONG:
                raise
    try:
        transaction = read_transaction(bytes(raw))
    except ValueError:
        return
    fields = rlp.as_list(rlp.decode(bytes(raw[1:])))
    assert bytes(raw[1:]) == rlp.encode(fields)
    is_proven = len(rlp.as_bytes(fields[-1])) == SIGNATURE_BYTES  # an access key only names
    if transaction.kind == TEMPO_TYPE and is_proven and transaction.sender in _SENDERS:
        assert fields[:-1] in _SIGNED
