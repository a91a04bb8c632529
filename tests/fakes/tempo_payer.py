"""A machine that pays: opens and tops up channels, signs vouchers, transfers, asks to close.

Everything is written with the libraries of Ethereum, so it shares no code with what reads it.
Nothing is sent here: what is signed goes into a credential, or to a node.
"""

import itertools
import time
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from tests.fakes.tempo_wire import Draft, Written, write

TOKEN = "0x20c0000000000000000000000000000000000000"
ESCROW = "0x4d50500000000000000000000000000000000000"
ZERO = "0x" + "00" * 20
CHAIN_ID = 42431
# Development keys that everybody knows: the second, third and fourth of anvil and hardhat.
PAYER_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
PAYEE_KEY = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"
DELEGATE_KEY = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6"
PAYEE = "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
DESCRIPTOR = "(address,address,address,address,bytes32,address,bytes32)"


@dataclass(frozen=True, slots=True)
class ChannelDescriptor:
    """The seven fields that name a channel; hex, lower case."""

    payer: str
    payee: str
    operator: str
    token: str
    salt: str
    authorized_signer: str
    expiring_nonce_hash: str

    def wire(self) -> dict[str, str]:
        """Return it as credentials hold it."""
        return {
            "payer": self.payer,
            "payee": self.payee,
            "operator": self.operator,
            "token": self.token,
            "salt": self.salt,
            "authorizedSigner": self.authorized_signer,
            "expiringNonceHash": self.expiring_nonce_hash,
        }

    def values(self) -> tuple[Any, ...]:
        """Return it as the reserve's ABI takes it."""
        return (
            self.payer,
            self.payee,
            self.operator,
            self.token,
            bytes.fromhex(self.salt[2:]),
            self.authorized_signer,
            bytes.fromhex(self.expiring_nonce_hash[2:]),
        )


@dataclass(frozen=True, slots=True)
class Opening:
    """A signed transaction that opens a channel, and the channel that it opens."""

    raw: str
    tx_hash: str
    descriptor: ChannelDescriptor
    channel_id: str
    deposit: int


@dataclass(frozen=True, slots=True)
class Terms:
    """Where a payer pays."""

    chain_id: int = CHAIN_ID
    token: str = TOKEN
    escrow: str = ESCROW
    payee: str = PAYEE


class TempoPayer:
    """One private key and what it signs; `signer_key` signs the vouchers when it is another.

    `ahead_s` says how far the chain's clock is ahead of the machine's.
    """

    def __init__(
        self, key: str = PAYER_KEY, *, terms: Terms | None = None, signer_key: str = ""
    ) -> None:
        self._key = key
        self._signer_key = signer_key or key
        self.terms = terms or Terms()
        self.address: str = Account.from_key(key).address.lower()
        self.signer: str = Account.from_key(self._signer_key).address.lower()
        self.ahead_s = 0
        self._salts = itertools.count(1)
        self._gas = itertools.count(3_000_000)  # makes every transaction another one

    def open(
        self, deposit: int, *, payee: str = "", operator: str = ZERO, token: str = ""
    ) -> Opening:
        """Sign the opening of a channel."""
        payee, token = payee or self.terms.payee, token or self.terms.token
        salt = keccak(f"{self.address} {time.time_ns()} {next(self._salts)}".encode())
        signer = self.signer if self.signer != self.address else ZERO
        transaction = self.sign(
            self.terms.escrow,
            call_data(
                "open(address,address,address,uint96,bytes32,address)",
                payee, operator, token, deposit, salt, signer,
            ),
        )  # fmt: skip
        descriptor = ChannelDescriptor(
            payer=self.address,
            payee=payee,
            operator=operator,
            token=token,
            salt="0x" + salt.hex(),
            authorized_signer=signer,
            expiring_nonce_hash=transaction.nonce_hash,
        )
        return Opening(
            raw=transaction.raw,
            tx_hash=transaction.tx_hash,
            descriptor=descriptor,
            channel_id=channel_id(descriptor, self.terms),
            deposit=deposit,
        )

    def top_up(self, descriptor: ChannelDescriptor, amount: int) -> str:
        """Sign a larger deposit; returns the raw transaction."""
        return self.raw(
            self.terms.escrow,
            call_data(f"topUp({DESCRIPTOR},uint96)", descriptor.values(), amount),
        )

    def request_close(self, descriptor: ChannelDescriptor) -> str:
        """Sign the wish to end a channel without the payee."""
        data = call_data(f"requestClose({DESCRIPTOR})", descriptor.values())
        return self.raw(self.terms.escrow, data)

    def withdraw(self, descriptor: ChannelDescriptor) -> str:
        """Sign the taking back of what is left, 900 s after the wish."""
        return self.raw(
            self.terms.escrow, call_data(f"withdraw({DESCRIPTOR})", descriptor.values())
        )

    def transfer(self, amount: int, *, to: str = "", memo: str = "") -> str:
        """Sign a transfer of the token, with a memo of 32 bytes if one is given."""
        to = to or self.terms.payee
        if memo:
            kind = "transferWithMemo(address,uint256,bytes32)"
            data = call_data(kind, to, amount, bytes.fromhex(memo[2:]))
        else:
            data = call_data("transfer(address,uint256)", to, amount)
        return self.raw(self.terms.token, data)

    def voucher(self, channel: str, cumulative: int) -> str:
        """Sign a voucher: 65 bytes, hex."""
        typed = voucher_message(channel, cumulative, self.terms)
        signed = Account.sign_message(encode_typed_data(full_message=typed), self._signer_key)
        return "0x" + bytes(signed.signature).hex()

    def raw(self, to: str, data: bytes) -> str:
        """Sign one call as a transaction of type 0x76; hex."""
        return self.sign(to, data).raw

    def sign(self, to: str, data: bytes) -> Written:
        """Sign one call as a transaction of type 0x76, valid for 20 seconds."""
        draft = Draft(
            chain_id=self.terms.chain_id,
            gas=next(self._gas),
            to=to,
            data=data,
            valid_before=int(time.time()) + self.ahead_s + 20,
            fee_token=self.terms.token,
        )
        return write(draft, self._key)


def voucher_message(channel: str, cumulative: int, terms: Terms) -> dict[str, Any]:
    """Return what a voucher's signer signs, as EIP-712 tells it."""
    return {
        "primaryType": "Voucher",
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "Voucher": [
                {"name": "channelId", "type": "bytes32"},
                {"name": "cumulativeAmount", "type": "uint96"},
            ],
        },
        "domain": {
            "name": "TIP20 Channel Reserve",
            "version": "1",
            "chainId": terms.chain_id,
            "verifyingContract": terms.escrow,
        },
        "message": {"channelId": bytes.fromhex(channel[2:]), "cumulativeAmount": cumulative},
    }


def call_data(signature: str, *values: Any) -> bytes:
    """Return a call of a function, such as `transfer(address,uint256)`."""
    inner = signature[signature.index("(") + 1 : -1]
    head = keccak(signature.encode())[:4]
    return head + bytes(encode(argument_types(inner), values))


def argument_types(text: str) -> list[str]:
    """Cut a list of types at its outer commas."""
    found, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            found.append(text[start:at])
            start = at + 1
    return [*found, text[start:]]


def channel_id(descriptor: ChannelDescriptor, terms: Terms) -> str:
    """Return the id of a channel, hex."""
    types = argument_types(DESCRIPTOR[1:-1])
    packed = encode(
        [*types, "address", "uint256"], [*descriptor.values(), terms.escrow, terms.chain_id]
    )
    return "0x" + keccak(packed).hex()
