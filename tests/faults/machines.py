"""Clients without a key, each with a channel on a chain that is a process of its own.

They open the channel before anything is killed, and then buy one answer after the other: meet the
challenge, pay with the next voucher, sign more where a stream waits for it, whatever is down.
"""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Self

import aiohttp
from eth_account import Account

from tests.fakes.machine_client import MachineClient, Met, challenges_of, receipt_of
from tests.fakes.tempo_payer import PAYEE_KEY, TempoPayer, Terms
from tests.faults.load import Ask, Seen, open_session, take_chunk, take_whole
from tests.faults.site import ROOT, Json, Site, environment, with_parent

SLICE_TOKENS: Final = 16
DEPOSIT: Final = 1_000_000_000
PATH: Final = "/chat/completions"
FIRST_SERIAL: Final = 5_000_000
"""Where the serial numbers of these clients begin."""
_PAUSE_S: Final = 0.05
_TRIES_MAX: Final = 400
_BROKEN: Final = (aiohttp.ClientError, ConnectionError, TimeoutError, json.JSONDecodeError)


@dataclass(slots=True)
class Bought(Seen):
    """What one machine saw; `steps` are the chunks it had when it signed for more, and the end.

    A step is how many chunks had come while a cumulative amount was all that was signed.
    """

    channel_id: str = ""
    challenge_id: str = ""
    challenge_expires_unix_s: float = 0.0
    steps: list[tuple[int, int]] = field(default_factory=list)
    receipt: Json | None = None


class Machine(MachineClient):
    """One client with one channel."""

    def __init__(self, http: aiohttp.ClientSession, site: Site, payer: TempoPayer) -> None:
        super().__init__(http, site.base_url, payer, deposit=DEPOSIT)
        self.accepted: list[int] = []
        self.bought: list[Bought] = []

    async def buy(self, wish: Ask) -> Bought:
        """Buy one answer; what breaks is no error here, and nothing is asked for twice."""
        seen = Bought(wish, channel_id=self.channel_id)
        self.bought.append(seen)
        body = wish.body()
        try:
            challenge = await self._challenge(body, seen)
            if challenge is not None:
                await self._pay(challenge, body, seen)
        except _BROKEN:
            seen.is_whole = False
        seen.channel_id = self.channel_id
        seen.steps.append((seen.content_count, self.cumulative))
        return seen

    async def _challenge(self, body: bytes, seen: Bought) -> Met | None:
        headers = {"Content-Type": "application/json"}
        if self.is_open:
            headers["Payment-Session"] = self.channel_id
        async with self.http.post(self.base_url + PATH, data=body, headers=headers) as answer:
            seen.status = answer.status
            await answer.read()
            if answer.status != 402:
                return None
            found = [each for each in challenges_of(answer.headers) if each.intent == "session"]
            return found[0]

    async def _pay(self, challenge: Met, body: bytes, seen: Bought) -> None:
        if self.is_open:
            credential = self.pays(challenge, self.cumulative + challenge.amount)
        else:
            credential = self.opens(challenge)
        self.last, seen.challenge_id, seen.status = challenge, challenge.id, 0
        seen.challenge_expires_unix_s = challenge.expires_unix_s
        headers = {"Content-Type": "application/json", "Authorization": f"Payment {credential}"}
        async with self.http.post(self.base_url + PATH, data=body, headers=headers) as answer:
            seen.status = answer.status
            seen.request_id = answer.headers.get("X-Request-Id", "")
            if answer.status != 200:
                seen.error = json.loads(await answer.read()).get("error")
                return
            self.is_open = True
            if seen.ask.is_streaming:
                await self._follow(answer, seen)
            else:
                take_whole(json.loads(await answer.read()), seen)

    async def _follow(self, answer: aiohttp.ClientResponse, seen: Bought) -> None:
        name = ""
        async for line in answer.content:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            data = line.strip().removeprefix(b"data: ")
            if data == b"[DONE]":
                seen.is_whole = True
            elif data.startswith(b"{"):
                event, name, what = json.loads(data), "", name
                if what == "payment-need-voucher":
                    seen.steps.append((seen.content_count, self.cumulative))
                    self.accepted.append(int(event["acceptedCumulative"]))
                    await self._voucher(int(event["requiredCumulative"]))
                elif what == "payment-receipt":
                    seen.receipt = event
                    self.accepted.append(int(event["acceptedCumulative"]))
                else:
                    take_chunk(event, seen)
            if seen.content_count == seen.ask.leave_after:
                seen.has_left = True
                answer.close()
                return

    async def _voucher(self, required: int) -> None:
        """Say it until somebody takes it, or until it is refused."""
        assert self.last is not None
        credential = self.pays(self.last, max(self.cumulative, required))
        headers = {"Authorization": f"Payment {credential}"}
        for _ in range(_TRIES_MAX):
            try:
                async with self.http.post(self.base_url + PATH, headers=headers) as answer:
                    if answer.status < 500:
                        return
            except _BROKEN:
                pass
            await asyncio.sleep(_PAUSE_S)

    async def end(self) -> Mapping[str, Any]:
        """Close the channel for what was spent and return the receipt."""
        assert self.last is not None
        headers: dict[str, str] = {}
        cumulative, challenge = self.cumulative, self.last
        for _ in range(_TRIES_MAX):
            headers["Authorization"] = f"Payment {self.closes(challenge, cumulative)}"
            async with self.http.post(self.base_url + PATH, headers=headers) as answer:
                if answer.status == 204:
                    return receipt_of(answer.headers)
                refusal = json.loads(await answer.read())
                assert answer.status in (402, 503), refusal
                cumulative = int(refusal.get("requiredCumulative", cumulative))
                if answer.status == 402:
                    challenge = challenges_of(answer.headers)[0]
            await asyncio.sleep(_PAUSE_S)
        raise AssertionError("the channel does not close")


@dataclass(slots=True)
class MachineLoad:
    """Machines that buy until they are stopped; `machines` are there once it runs."""

    site: Site
    seed: int
    payers: list[TempoPayer]
    session: aiohttp.ClientSession = field(init=False)
    machines: list[Machine] = field(default_factory=list)
    is_ending: bool = False
    _serial: int = FIRST_SERIAL

    @property
    def bought(self) -> list[Bought]:
        """All that was bought, or tried."""
        return [seen for machine in self.machines for seen in machine.bought]

    @property
    def statuses(self) -> Counter[int]:
        """How often each status was seen."""
        return Counter(seen.status for seen in self.bought)

    async def __aenter__(self) -> Self:
        """Open every channel by a first answer."""
        self.session = open_session()
        for payer in self.payers:
            machine = Machine(self.session, self.site, payer)
            self.machines.append(machine)
            seen = await machine.buy(Ask(self._next(), chunks=3))
            assert seen.is_whole, seen
        return self

    async def __aexit__(self, *_error: object) -> None:
        """End the session."""
        await self.session.close()

    async def run(self) -> None:
        """Buy until `stop`; what runs then still ends."""
        async with asyncio.TaskGroup() as group:
            for number, machine in enumerate(self.machines):
                group.create_task(self._client(machine, Random(f"{self.seed}:m{number}")))

    def stop(self) -> None:
        """Let clients finish what they have begun."""
        self.is_ending = True

    async def _client(self, machine: Machine, random: Random) -> None:
        while not self.is_ending:
            seen = await machine.buy(self._wish(random))
            if seen.status != 200:
                await asyncio.sleep(_PAUSE_S)

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _wish(self, random: Random) -> Ask:
        if random.random() < 0.25:
            return Ask(self._next(), chunks=random.randint(1, 40), is_streaming=False)
        chunks = random.choice((1, 5, 20, 60, 120))
        is_leaver = random.random() < 0.1
        return Ask(
            self._next(),
            chunks=chunks,
            delay_ms=random.choice((0, 5, 10, 20)),
            max_tokens=128,
            leave_after=random.randint(1, chunks) if is_leaver else -1,
        )


def payers(count: int) -> list[TempoPayer]:
    """Return payers of their own keys."""
    return [TempoPayer("0x" + f"{0xFA0170000 + number:064x}") for number in range(count)]


@contextmanager
def running_chain(funded: list[TempoPayer]) -> Iterator[str]:
    """Run the fake chain as a process and return its address."""
    arguments = [part for payer in funded for part in ("--fund", payer.address)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.tempo_process", *arguments],
        cwd=ROOT,
        env=environment({}),
        stdout=subprocess.PIPE,
        preexec_fn=with_parent,  # noqa: PLW1509 - one async-signal-safe system call
    )
    try:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.communicate()


SECRETS: Final = {
    "TURNPIKE__PAYMENT__MPP__CHAIN__PAYEE_KEY": PAYEE_KEY,
    "TURNPIKE__PAYMENT__MPP__SECRETS": json.dumps(["secret-of-the-test-and-of-nothing-else"]),
}
"""What a file must not have: variables of the environment."""


def machine_settings(chain_url: str) -> Json:
    """Return settings that turn the machine rail on, over a chain."""
    chain = {
        "rpc_url": chain_url,
        "chain_id": Terms().chain_id,
        "receipt_s": 2.0,
        "poll_s": 0.05,
    }
    rail = {"is_enabled": True, "slice_tokens": SLICE_TOKENS, "voucher_wait_s": 10.0}
    return {
        "gateway": {"machine_payments": rail},
        "payment": {
            "mpp": {
                "chain": chain,
                "vouchers_per_second_max": 1_000,
                "poll_s": 0.1,
                "tick_s": 1.0,
            }
        },
    }


def payee_address() -> str:
    """Return who is paid."""
    return str(Account.from_key(PAYEE_KEY).address).lower()
