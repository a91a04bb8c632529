"""A node of Tempo over HTTP: JSON-RPC, TIP-20 balances, the channel reserve, and faults by script.

Every transaction is a block of its own unless `faults` say otherwise. The ten development accounts
of anvil start with the same balance here. Time is the machine's, moved on by `pass_time`.
"""

import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from eth_abi.abi import encode
from eth_account import Account
from eth_utils.crypto import keccak
from pydantic import SecretStr

from services.payment.mpp.settings import ChainSettings
from tests.fakes.tempo_payer import DELEGATE_KEY, PAYEE_KEY, PAYER_KEY, Terms
from tests.fakes.tempo_reserve import Message, RevertError, World, run
from tests.fakes.tempo_wire import EXPIRING_S, FEE, Sent, read

FUNDS = 1_000_000_000_000
GAS, GAS_PRICE, FEE_UNITS = 100_000, 20_000_000_000, 180
FEE_MANAGER = "0xfeec000000000000000000000000000000000000"
METHOD_MISSING, REFUSED, REVERTED, NOT_IN_TIME = -32601, -32000, 3, 4


class RpcError(Exception):
    """An error that the node answers with."""

    def __init__(self, code: int, message: str, data: str = "") -> None:
        super().__init__(message)
        self.body = {"code": code, "message": message, **({"data": data} if data else {})}


@dataclass(slots=True)
class Faults:
    """What goes wrong; counters go down by one for each transaction that is sent.

    `is_down`: every call is answered with HTTP 503. `answers_lost`: the transaction is taken, the
    answer never comes. `sends_lost`: taken, and never mined. `reverts`: mined, and failed.
    `refusals`: not taken. `is_holding`: taken, mined by `mine()`. `hides_receipts`: mined, and no
    receipt is shown. `has_sync`: whether the node can answer a send with a receipt.
    """

    is_down: bool = False
    answers_lost: int = 0
    sends_lost: int = 0
    reverts: int = 0
    refusals: int = 0
    is_holding: bool = False
    hides_receipts: bool = False
    has_sync: bool = True

    def take(self, name: str) -> bool:
        """Use up one of a counter, and return whether there was one."""
        left: int = getattr(self, name)
        setattr(self, name, max(0, left - 1))
        return left > 0


class FakeTempo:
    """The chain's state and its RPC methods. `url` is set while it is served."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.url = ""
        self.faults = Faults()
        self.world = World(terms, now=0)
        for key in (PAYER_KEY, PAYEE_KEY, DELEGATE_KEY):
            self.world.balances[terms.token, Account.from_key(key).address.lower()] = FUNDS
        self.calls: list[str] = []
        self._ahead_s = 0
        self._held: dict[str, Sent] = {}
        self._receipts: dict[str, dict[str, Any]] = {}
        self._logs: list[dict[str, Any]] = []
        self._nonces: dict[str, int] = {}
        self._methods: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: hex(terms.chain_id),
            "eth_blockNumber": lambda: hex(len(self._receipts)),
            "eth_gasPrice": lambda: hex(GAS_PRICE),
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_getTransactionCount": self._count,
            "eth_sendRawTransaction": self._send,
            "eth_sendRawTransactionSync": self._send_sync,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._by_hash,
            "eth_getLogs": self._get_logs,
            "evm_increaseTime": self.pass_time,
            "evm_mine": lambda: "0x0",
        }

    def balance(self, address: str, token: str = "") -> int:
        """Return what an address has, base units."""
        return self.world.balances.get((token or self.terms.token, address), 0)

    def pass_time(self, seconds: int) -> str:
        """Let the chain's clock go ahead."""
        self._ahead_s += seconds
        return hex(self._ahead_s)

    def submit(self, raw: str) -> str:
        """Take a payer's own transaction, as its wallet would send it; returns its hash."""
        return self._send(raw)

    def mine(self) -> None:
        """Mine what was held back."""
        held, self._held = self._held, {}
        for sent in held.values():
            self._mine(sent, fails=False)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        body = await request.json()
        method, number = body["method"], body["id"]
        self.calls.append(method)
        if self.faults.is_down:
            return web.Response(status=503)
        is_lost = method.startswith("eth_sendRaw") and self.faults.take("answers_lost")
        try:
            result = self._answer(method, body["params"])
            answer = {"jsonrpc": "2.0", "id": number, "result": result}
        except RpcError as error:
            answer = {"jsonrpc": "2.0", "id": number, "error": error.body}
        if is_lost and request.transport is not None:
            request.transport.abort()
        return web.json_response(answer)

    def _answer(self, method: str, parameters: list[Any]) -> Any:
        if method not in self._methods:
            raise RpcError(METHOD_MISSING, "method not found")
        return self._methods[method](*parameters)

    def _now(self) -> int:
        return int(time.time()) + self._ahead_s

    def _call(self, call: dict[str, str], _block: str = "latest") -> str:
        return "0x" + self._simulated(call).hex()

    def _estimate(self, call: dict[str, str], _block: str = "latest") -> str:
        self._simulated(call)
        return hex(GAS)

    def _simulated(self, call: dict[str, str]) -> bytes:
        world = self.world.copy()
        world.now = self._now()
        data = bytes.fromhex(call["data"][2:])
        try:
            return run(world, Message(call.get("from", ""), call["to"].lower(), data))
        except RevertError as revert:
            reason = keccak(b"Error(string)")[:4] + encode(["string"], [str(revert)])
            message = f"execution reverted: {revert}"
            raise RpcError(REVERTED, message, "0x" + reason.hex()) from revert

    def _count(self, address: str, block: str) -> str:
        mined = self._nonces.get(address.lower(), 0)
        waiting = sum(each.sender == address.lower() for each in self._held.values())
        return hex(mined + (waiting if block == "pending" else 0))

    def _send(self, raw: str) -> str:
        try:
            sent = read(bytes.fromhex(raw[2:]))
        except Exception as error:
            raise RpcError(REFUSED, "failed to decode signed transaction") from error
        self._require_fresh(sent)
        if self.faults.take("refusals"):
            raise RpcError(REFUSED, "transaction underpriced")
        if self.faults.take("sends_lost"):
            return sent.tx_hash
        if self.faults.is_holding:
            self._held[sent.tx_hash] = sent
        else:
            self._mine(sent, fails=self.faults.take("reverts"))
        return sent.tx_hash

    def _send_sync(self, raw: str) -> Any:
        if not self.faults.has_sync:
            raise RpcError(METHOD_MISSING, "method not found")
        receipt = self._receipt(self._send(raw))
        if receipt is None:
            raise RpcError(NOT_IN_TIME, "the transaction was not mined in time")
        return receipt

    def _require_fresh(self, sent: Sent) -> None:
        if sent.chain_id != self.terms.chain_id:
            raise RpcError(REFUSED, "invalid chain id")
        if sent.tx_hash in self._receipts or sent.tx_hash in self._held:
            raise RpcError(REFUSED, "already known")
        if sent.is_expiring:
            # Payers need not know that the clock was moved on.
            machine_s = int(time.time())
            if not machine_s < sent.valid_before <= machine_s + self._ahead_s + EXPIRING_S:
                raise RpcError(REFUSED, "expiring nonce transaction is not valid now")
            return
        mined = self._nonces.get(sent.sender, 0)
        if sent.nonce < mined:
            raise RpcError(REFUSED, "nonce too low")
        rivals = [
            each
            for each in self._held.values()
            if (each.sender, each.nonce) == (sent.sender, sent.nonce) and not each.is_expiring
        ]
        for rival in rivals:
            if sent.fee_per_gas * 10 < rival.fee_per_gas * 11:
                raise RpcError(REFUSED, "replacement transaction underpriced")
            del self._held[rival.tx_hash]

    def _mine(self, sent: Sent, *, fails: bool) -> None:
        world = self.world.copy()
        world.now = self._now()
        try:
            for to, data in sent.calls if not fails else ():
                run(world, Message(sent.sender, to, data, sent.nonce_hash))
        except RevertError:
            world = self.world.copy()
            fails = True
        if sent.kind != FEE and sent.fee_token == self.terms.token:
            world.move(sent.fee_token, sent.sender, FEE_MANAGER, FEE_UNITS)
        self.world = world
        if not sent.is_expiring:
            self._nonces[sent.sender] = sent.nonce + 1
        self._keep(sent, world, fails=fails)

    def _keep(self, sent: Sent, world: World, *, fails: bool) -> None:
        block = hex(len(self._receipts) + 1)
        logs = [
            {
                "address": event.address,
                "topics": list(event.topics),
                "data": "0x" + event.data.hex(),
                "transactionHash": sent.tx_hash,
                "blockNumber": block,
            }
            for event in world.events
        ]
        self._logs.extend(logs)
        self._receipts[sent.tx_hash] = {
            "status": hex(not fails),
            "transactionHash": sent.tx_hash,
            "blockNumber": block,
            "logs": logs,
        }

    def _receipt(self, tx_hash: str) -> dict[str, Any] | None:
        return None if self.faults.hides_receipts else self._receipts.get(tx_hash)

    def _by_hash(self, tx_hash: str) -> dict[str, Any] | None:
        known = tx_hash in self._receipts or tx_hash in self._held
        return {"hash": tx_hash} if known else None

    def _get_logs(self, span: dict[str, Any]) -> list[dict[str, Any]]:
        first, last = int(span["fromBlock"], 16), int(span["toBlock"], 16)
        return [
            log
            for log in self._logs
            if log["address"] == span["address"]
            and first <= int(log["blockNumber"], 16) <= last
            and all(
                wanted is None or wanted == topic
                for wanted, topic in itertools.zip_longest(
                    span["topics"], log["topics"][: len(span["topics"])]
                )
            )
        ]


def chain_settings(url: str, **changes: Any) -> ChainSettings:
    """Return settings for a node of the fake's chain, with the well-known payee and short waits."""
    settings = {
        "rpc_url": url,
        "chain_id": Terms().chain_id,
        "payee_key": SecretStr(PAYEE_KEY),
        "receipt_s": 0.2,
        "poll_s": 0.01,
        **changes,
    }
    return ChainSettings.model_validate(settings)


@asynccontextmanager
async def open_tempo_chain(terms: Terms | None = None) -> AsyncIterator[FakeTempo]:
    """Serve a chain on a free port of loopback."""
    chain = FakeTempo(terms or Terms())
    app = web.Application()
    app.router.add_post("/", chain.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        chain.url = f"http://{host}:{port}/"
        yield chain
    finally:
        await runner.cleanup()
