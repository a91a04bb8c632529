"""A machine that pays for its own chat: no account, no key, a payment channel on Tempo instead.

    TEMPO_RPC_URL=https://... TEMPO_PRIVATE_KEY=0x... \
        python examples/mpp_client.py "Why is the sea salty?"

It asks and is told the price (402), opens a channel with a deposit, and signs a voucher for more
whenever the stream waits for one. In the end it closes the channel: what was spent is paid, the
rest of the deposit comes back. Needs `httpx`, `pympp`, `pytempo`, `eth-account` and `eth-abi`.

Source: paymentauth.org (the Payment scheme), TIP-1034 (the channel reserve).
"""

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from mpp import Challenge, Credential
from pytempo import Call, TempoTransaction

NOBODY = "0x" + "00" * 20
FIELDS = {
    "payer": "address",
    "payee": "address",
    "operator": "address",
    "token": "address",
    "salt": "bytes32",
    "authorizedSigner": "address",
    "expiringNonceHash": "bytes32",
}
OPEN = "open(address,address,address,uint96,bytes32,address)"


class Channel:
    """A payment channel between this machine and whoever sells.

    Amounts are base units of the token, a millionth of a dollar. `cumulative` is what all vouchers
    together have promised; the seller can take that much, and never more.
    """

    def __init__(self, challenge: Challenge, rpc_url: str, key: str, *, deposit: int) -> None:
        details = challenge.request["methodDetails"]
        self._challenge = challenge
        self._chain_id, self._escrow = details["chainId"], details["escrowContract"]
        self._account = Account.from_key(key)
        self.deposit = deposit
        self.cumulative = int(challenge.request["amount"])
        self._descriptor, self._transaction = self._opening(rpc_url, key)
        values = [_bytes_or_text(self._descriptor[name]) for name in FIELDS]
        types = [*FIELDS.values(), "address", "uint256"]
        packed = encode(types, [*values, self._escrow, self._chain_id])
        self.id = "0x" + keccak(packed).hex()

    def opens(self) -> str:
        """Return the Authorization that opens the channel and pays for the first request."""
        more = {"type": "transaction", "transaction": self._transaction}
        return self._signed("open", **more)

    def pays(self, cumulative: int) -> str:
        """Return the Authorization that promises this much in all."""
        self.cumulative = max(self.cumulative, cumulative)
        return self._signed("voucher")

    def closes(self, spent: int) -> str:
        """Return the Authorization that ends the channel for what was spent."""
        self.cumulative = spent
        return self._signed("close")

    def _opening(self, rpc_url: str, key: str) -> tuple[dict[str, str], str]:
        request = self._challenge.request
        payee, token, salt = request["recipient"], request["currency"], secrets.token_bytes(32)
        operator = request["methodDetails"].get("operator", NOBODY)
        arguments = [payee, operator, token, self.deposit, salt, NOBODY]
        types = ["address", "address", "address", "uint96", "bytes32", "address"]
        call = Call.create(
            to=self._escrow, data=keccak(OPEN.encode())[:4] + encode(types, arguments)
        )
        signed = TempoTransaction.create(
            chain_id=self._chain_id,
            gas_limit=3_000_000,
            max_fee_per_gas=2 * _gas_price(rpc_url),
            max_priority_fee_per_gas=1_000_000_000,
            nonce_key=2**256 - 1,  # a nonce that expires instead of one that counts
            valid_before=int(time.time()) + 25,
            fee_token=token,
            calls=(call,),
        ).sign(key)
        sender = bytes.fromhex(self._account.address[2:])
        nonce_hash = keccak(signed.encode_for_signing() + sender)
        values = self._account.address, payee, operator, token, salt, NOBODY, nonce_hash
        texts = [f"0x{each.hex()}" if isinstance(each, bytes) else each.lower() for each in values]
        return dict(zip(FIELDS, texts, strict=True)), "0x" + signed.encode().hex()

    def _signed(self, action: str, **more: str) -> str:
        payload = {
            "action": action,
            "channelId": self.id,
            "descriptor": self._descriptor,
            "cumulativeAmount": str(self.cumulative),
            "signature": self._voucher(),
            **more,
        }
        source = f"did:pkh:eip155:{self._chain_id}:{self._account.address}"
        echo = self._challenge.to_echo()
        return Credential(challenge=echo, payload=payload, source=source).to_authorization()

    def _voucher(self) -> str:
        message = encode_typed_data(
            {
                "name": "TIP20 Channel Reserve",
                "version": "1",
                "chainId": self._chain_id,
                "verifyingContract": self._escrow,
            },
            {
                "Voucher": [
                    {"name": "channelId", "type": "bytes32"},
                    {"name": "cumulativeAmount", "type": "uint96"},
                ]
            },
            {"channelId": bytes.fromhex(self.id[2:]), "cumulativeAmount": self.cumulative},
        )
        return "0x" + bytes(self._account.sign_message(message).signature).hex()


def chat(http: httpx.Client, options: argparse.Namespace) -> int:
    """Print an answer as it comes, pay for it, and return what it cost in base units."""
    body = {
        "model": options.model,
        "messages": [{"role": "user", "content": options.prompt}],
        "stream": True,
    }
    asked = http.post(options.url, json=body)
    channel = Channel(
        _session_of(asked),
        os.environ["TEMPO_RPC_URL"],
        os.environ["TEMPO_PRIVATE_KEY"],
        deposit=options.deposit,
    )
    paid = {"Authorization": channel.opens()}
    spent = 0
    with http.stream("POST", options.url, json=body, headers=paid) as answer:
        _require(answer)
        for event, data in _events(answer):
            if event == "payment-need-voucher":
                # The stream waits until a voucher covers what comes next: same address, no body.
                needed = {"Authorization": channel.pays(int(data["requiredCumulative"]))}
                _require(http.post(options.url, headers=needed))
            elif event == "payment-receipt":
                spent = int(data["spent"])
            elif "error" in data:
                raise SystemExit(f"\n{data['error']['message']}")
            else:
                for choice in data["choices"]:
                    print(choice["delta"].get("content") or "", end="", flush=True)
    print()
    _require(http.post(options.url, headers={"Authorization": channel.closes(spent)}))
    return spent


def _events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    event = ""
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "data" and value != "[DONE]":
            yield event, json.loads(value)
        elif not line:
            event = ""


def _session_of(asked: httpx.Response) -> Challenge:
    for header in asked.headers.get_list("www-authenticate"):
        challenge = Challenge.from_www_authenticate(header)
        if (challenge.method, challenge.intent) == ("tempo", "session"):
            return challenge
    raise SystemExit(f"No payment session is offered: {asked.status_code} {asked.text}")


def _require(answer: httpx.Response) -> None:
    if not answer.is_success:
        answer.read()
        raise SystemExit(f"{answer.status_code} {answer.text}")


def _gas_price(rpc_url: str) -> int:
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_gasPrice", "params": []}
    return int(httpx.post(rpc_url, json=body).json()["result"], 16)


def _bytes_or_text(text: str) -> bytes | str:
    return text if len(text) == len(NOBODY) else bytes.fromhex(text[2:])


def main() -> None:
    """Read the command line and pay for one chat."""
    parser = argparse.ArgumentParser(description="Chat with Turnpike, paid by a payment channel.")
    parser.add_argument("prompt")
    parser.add_argument("--url", default="http://localhost:3000/v1/chat/completions")
    parser.add_argument("--model", default="tiny-chat")
    parser.add_argument("--deposit", type=int, default=1_000_000, help="base units; 1 USD")
    options = parser.parse_args()
    with httpx.Client(timeout=60.0) as http:
        spent = chat(http, options)
    print(f"[paid ${spent / 1e6:.6f}; the rest of the deposit came back]", file=sys.stderr)


if __name__ == "__main__":
    main()
