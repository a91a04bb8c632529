"""A client that pays for its own requests over HTTP: meets challenges, keeps a channel, follows it.

Written against the `Payment` scheme (paymentauth.org, draft 00) with no code of the product. One
client has one channel; amounts are base units of the token.
"""

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import aiohttp
from multidict import MultiMapping

from tests.fakes.tempo_payer import Opening, TempoPayer

CHAT: Final = "/v1/chat/completions"
DEPOSIT: Final = 2_000_000
_PARAMETER: Final = re.compile(r'([A-Za-z]+)="((?:[^"\\]|\\.)*)"')
_TRIES_MAX: Final = 4
_BUSY_PAUSE_S: Final = 0.05


def base64url(content: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unbase64url(text: str) -> bytes:
    """Return what base64url without padding holds."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True)
class Met:
    """A challenge that was read from a header: its parameters as they came."""

    parameters: Mapping[str, str]

    @property
    def id(self) -> str:
        """Its id."""
        return self.parameters["id"]

    @property
    def intent(self) -> str:
        """`session` or `charge`."""
        return self.parameters["intent"]

    @property
    def request(self) -> Any:
        """What it asks for."""
        return json.loads(unbase64url(self.parameters["request"]))

    @property
    def expires_unix_s(self) -> float:
        """When it can no longer be met."""
        return datetime.fromisoformat(self.parameters["expires"]).timestamp()

    @property
    def amount(self) -> int:
        """What is asked for, base units."""
        return int(self.request["amount"])

    def answered(self, payload: Mapping[str, Any], source: str = "") -> str:
        """Return the credential that answers it with a payload."""
        members: dict[str, Any] = {"challenge": dict(self.parameters), "payload": dict(payload)}
        if source:
            members["source"] = source
        return base64url(json.dumps(members).encode())


def challenges_of(headers: MultiMapping[str]) -> list[Met]:
    """Return the challenges of a refusal's headers, in their order."""
    lines = headers.getall("WWW-Authenticate", [])
    return [
        Met({name: value.replace('\\"', '"') for name, value in _PARAMETER.findall(line)})
        for line in lines
        if line.startswith("Payment ")
    ]


def receipt_of(headers: MultiMapping[str]) -> dict[str, Any]:
    """Return the receipt in an answer's headers; empty without one."""
    line = headers.get("Payment-Receipt", "")
    return dict(json.loads(unbase64url(line))) if line else {}


@dataclass(slots=True)
class Reply:
    """One answer as its client saw it; `events` are those of a stream, named ones by their name."""

    status: int
    headers: Any
    body: bytes = b""
    events: list[tuple[str, Any]] = field(default_factory=list)
    is_whole: bool = False

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)

    @property
    def receipt(self) -> dict[str, Any] | None:
        """The receipt: of the header, or the stream's last one."""
        if found := receipt_of(self.headers):
            return found
        told = [data for name, data in self.events if name == "payment-receipt"]
        return told[-1] if told else None

    @property
    def needs(self) -> list[dict[str, Any]]:
        """Every voucher that the stream asked for."""
        return [data for name, data in self.events if name == "payment-need-voucher"]

    @property
    def text(self) -> str:
        """What the model said."""
        if not self.events:
            return str(self.json["choices"][0]["message"]["content"])
        return "".join(
            choice["delta"].get("content") or ""
            for name, data in self.events
            if not name and data != "[DONE]"
            for choice in data.get("choices", ())
        )


class MachineClient:
    """One payer with one channel at a site."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        base_url: str,
        payer: TempoPayer,
        *,
        deposit: int = DEPOSIT,
    ) -> None:
        self.http = http
        self.base_url = base_url
        self.payer = payer
        self.deposit = deposit
        self.opening: Opening | None = None
        self.is_open = False
        self.cumulative = 0
        self.last: Met | None = None

    @property
    def channel_id(self) -> str:
        """Its channel; empty before it has one."""
        return self.opening.channel_id if self.opening else ""

    @property
    def account_id(self) -> str:
        """The ledger's name of it."""
        return f"tempo:{self.channel_id}"

    @property
    def source(self) -> str:
        """Who it is, as a DID."""
        return f"did:pkh:eip155:{self.payer.terms.chain_id}:{self.payer.address}"

    async def ask(self, body: Any, *, path: str = CHAT, **headers: str) -> list[Met]:
        """Ask without paying and return the challenges of the refusal."""
        if self.is_open:
            headers.setdefault("Payment-Session", self.channel_id)
        reply = await self.send(body, path=path, **headers)
        assert reply.status == 402, (reply.status, reply.body)
        return challenges_of(reply.headers)

    async def met(self, body: Any, intent: str = "session", *, path: str = CHAT) -> Met:
        """Return a fresh challenge of an intent."""
        found = [each for each in await self.ask(body, path=path) if each.intent == intent]
        return found[0]

    def opens(self, challenge: Met, cumulative: int | None = None) -> str:
        """Return the credential that opens a channel; a voucher over what was asked comes along."""
        if self.opening is None:
            self.opening = self.payer.open(self.deposit, payee=challenge.request["recipient"])
        first = challenge.amount if cumulative is None else cumulative
        more = {"type": "transaction", "transaction": self.opening.raw}
        return self._signed("open", challenge, first, **more)

    def pays(self, challenge: Met, cumulative: int) -> str:
        """Return the credential of a voucher."""
        return self._signed("voucher", challenge, cumulative)

    def closes(self, challenge: Met, cumulative: int) -> str:
        """Return the credential that closes the channel."""
        return self._signed("close", challenge, cumulative)

    def tops_up(self, challenge: Met, amount: int) -> str:
        """Return the credential that adds to the deposit."""
        opening = self._opened()
        payload = {
            "action": "topUp",
            "type": "transaction",
            "channelId": opening.channel_id,
            "descriptor": opening.descriptor.wire(),
            "transaction": self.payer.top_up(opening.descriptor, amount),
            "additionalDeposit": str(amount),
        }
        return challenge.answered(payload, self.source)

    async def credential(self, body: Any, *, path: str = CHAT) -> str:
        """Meet a fresh challenge, by a channel or the next voucher, and return the credential."""
        challenge = self.last = await self.met(body, path=path)
        if not self.is_open:
            return self.opens(challenge)
        await self.cover(challenge, self.cumulative + challenge.amount)
        return self.pays(challenge, self.cumulative + challenge.amount)

    async def chat(self, body: Any, *, path: str = CHAT) -> Reply:
        """Buy an answer, however many challenges and vouchers that takes."""
        reply = None
        for _ in range(_TRIES_MAX):
            credential = await self.credential(body, path=path)
            reply = await self.send(body, credential, path=path)
            while reply.status == 503:
                # Its challenge is as good as before: nothing was taken.
                await asyncio.sleep(_BUSY_PAUSE_S)
                reply = await self.send(body, credential, path=path)
            if reply.status != 402:
                break
        assert reply is not None
        return reply

    async def send(
        self, body: Any, credential: str = "", *, path: str = CHAT, **headers: str
    ) -> Reply:
        """Send one request with a body, and read its answer to the end."""
        if credential:
            headers["Authorization"] = f"Payment {credential}"
        url = self.base_url + path
        async with self.http.post(url, json=body, headers=headers) as response:
            reply = Reply(response.status, response.headers)
            if response.status == 200 and credential:
                self.is_open = True
            if response.content_type != "text/event-stream":
                reply.body = await response.read()
                reply.is_whole = True
                return reply
            await self._read_events(response, reply)
        return reply

    async def manage(
        self, credential: str, *, path: str = CHAT, method: str = "POST", base_url: str = ""
    ) -> Reply:
        """Send a credential without a body."""
        url = (base_url or self.base_url) + path
        headers = {"Authorization": f"Payment {credential}"}
        while True:
            async with self.http.request(method, url, headers=headers) as response:
                reply = Reply(response.status, response.headers, await response.read(), [], True)
            if reply.status != 503:
                return reply
            await asyncio.sleep(_BUSY_PAUSE_S)

    async def on_event(self, name: str, data: Any) -> None:
        """Take what a stream says of payments; a client may do otherwise."""
        if name == "payment-need-voucher":
            await self.pay_on(data)

    async def pay_on(self, need: Mapping[str, str]) -> None:
        """Send the voucher that a stream waits for, and more deposit where that is short."""
        assert self.last is not None
        required = int(need["requiredCumulative"])
        await self.cover(self.last, required)
        sent = await self.manage(self.pays(self.last, max(self.cumulative, required)))
        assert sent.status == 204, (sent.status, sent.body)

    async def cover(self, challenge: Met, cumulative: int) -> None:
        """Add to the deposit until it covers a voucher."""
        if cumulative <= self.deposit:
            return
        more = max(cumulative - self.deposit, DEPOSIT)
        sent = await self.manage(self.tops_up(challenge, more))
        assert sent.status == 204, (sent.status, sent.body)
        self.deposit += more

    async def close(self, cumulative: int | None = None) -> Reply:
        """Close the channel; a refusal that says what is due is followed once."""
        assert self.last is not None
        amount = self.cumulative if cumulative is None else cumulative
        reply = await self.manage(self.closes(self.last, amount))
        if reply.status == 402 and "requiredCumulative" in reply.json:
            due = int(reply.json["requiredCumulative"])
            reply = await self.manage(self.closes(challenges_of(reply.headers)[0], due))
        return reply

    async def _read_events(self, response: aiohttp.ClientResponse, reply: Reply) -> None:
        name, rest = "", b""
        async for piece in response.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.startswith(b"event: "):
                    name = line[7:].decode()
                elif line.startswith(b"data: "):
                    text = line[6:]
                    data = "[DONE]" if text == b"[DONE]" else json.loads(text)
                    reply.events.append((name, data))
                    reply.is_whole = data == "[DONE]"
                    await self.on_event(name, data)
                    name = ""

    def _signed(self, action: str, challenge: Met, cumulative: int, **more: str) -> str:
        opening = self._opened()
        if action != "close":
            self.cumulative = max(self.cumulative, cumulative)
        payload = {
            "action": action,
            "channelId": opening.channel_id,
            "descriptor": opening.descriptor.wire(),
            "cumulativeAmount": str(cumulative),
            "signature": self.payer.voucher(opening.channel_id, cumulative),
            **more,
        }
        return challenge.answered(payload, self.source)

    def _opened(self) -> Opening:
        if self.opening is None:
            raise RuntimeError("The client has no channel yet.")
        return self.opening
