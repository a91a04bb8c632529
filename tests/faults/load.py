"""Clients: what each asked for, and what of the answer reached it.

Every request carries a serial number and figures in its prompt, so that the fake upstream's
journal, the client's own record and the ledger's row can be laid side by side.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

import aiohttp

from tests.faults.site import MODEL, PROMPT_TOKENS_PER_BYTE_MAX, Json, Site

_TEXT_BYTES: Final = 600
_TOTAL_S: Final = 30.0
_REFUSED_PAUSE_S: Final = 0.02
"""How long a client that was refused waits before it knocks again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `leave_after` content events the client goes away, -1 for never."""

    serial: int
    chunks: int = 16
    delay_ms: int = 0
    is_streaming: bool = True
    max_tokens: int = 64
    leave_after: int = -1
    markers: str = ""
    is_prompt_full: bool = False

    @property
    def prompt_tokens_max(self) -> int:
        """The bound on the prompt that Turnpike works out."""
        per_kilobyte = PROMPT_TOKENS_PER_BYTE_MAX * 1024
        return -(-len(self._messages(0)) * per_kilobyte // 1024)

    @property
    def prompt_tokens(self) -> int:
        """What the fake reports: all that was held, or a figure that tells requests apart.

        The figure is never below what a cut answer's prompt is taken at, half of the bound.
        """
        most = self.prompt_tokens_max
        least = most // 2
        return most if self.is_prompt_full else least + self.serial % (most - least)

    def body(self) -> bytes:
        """Return the request's body."""
        fields = {"model": MODEL, "stream": self.is_streaming, "max_tokens": self.max_tokens}
        head = json.dumps(fields, separators=(",", ":")).encode()
        return b'%b,"messages":%b}' % (head[:-1], self._messages(self.prompt_tokens))

    def _messages(self, prompt_tokens: int) -> bytes:
        shape = f"shape=c{self.chunks}-d{self.delay_ms}"
        text = f"serial={self.serial:07d} {shape} prompt={prompt_tokens:07d} {self.markers} "
        return json.dumps([{"role": "user", "content": text.ljust(_TEXT_BYTES, ".")}]).encode()


@dataclass(slots=True)
class Seen:
    """What a client saw of one answer; `status` is 0 when there was none."""

    ask: Ask
    status: int = 0
    request_id: str = ""
    is_whole: bool = False
    has_left: bool = False
    content_count: int = 0
    usage: Json | None = None
    error: Json | None = None

    @property
    def is_cut(self) -> bool:
        """Whether an answer began and did not end, by nobody's wish."""
        return self.status == 200 and not self.is_whole and not self.has_left


async def ask(session: aiohttp.ClientSession, site: Site, wish: Ask) -> Seen:
    """Send one request and read what comes; a connection that breaks is no error here."""
    seen = Seen(wish)
    headers = {
        "Authorization": f"Bearer {site.note['api_key']}",
        "Content-Type": "application/json",
    }
    try:
        async with session.post(
            f"{site.base_url}/chat/completions", data=wish.body(), headers=headers
        ) as answer:
            seen.request_id = answer.headers.get("X-Request-Id", "")
            seen.status = answer.status
            if answer.status == 200 and wish.is_streaming:
                await _read_stream(answer, seen)
            else:
                take_whole(json.loads(await answer.read()), seen)
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        seen.is_whole = False
    return seen


def open_session() -> aiohttp.ClientSession:
    """Return what a test's clients share; the caller closes it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=_TOTAL_S)
    )


async def _read_stream(answer: aiohttp.ClientResponse, seen: Seen) -> None:
    async for line in answer.content:
        data = line.strip().removeprefix(b"data: ")
        if data == b"[DONE]":
            seen.is_whole = True
        elif data.startswith(b"{"):
            take_chunk(json.loads(data), seen)
        if seen.content_count == seen.ask.leave_after:
            seen.has_left = True
            answer.close()
            return


def take_chunk(chunk: Json, seen: Seen) -> None:
    """Note one event of a stream."""
    if "error" in chunk:
        seen.error = chunk["error"]
    seen.content_count += sum(
        bool(choice["delta"].get("content")) for choice in chunk.get("choices", ())
    )
    seen.usage = chunk.get("usage") or seen.usage


def take_whole(body: Json, seen: Seen) -> None:
    """Note a plain answer."""
    seen.error = body.get("error")
    seen.usage = body.get("usage")
    seen.is_whole = seen.status == 200
    if seen.is_whole:
        seen.content_count = len(body["choices"][0]["message"]["content"].split())


@dataclass(slots=True)
class Load:
    """Clients that ask one request after the other until they are stopped.

    `is_open` is cleared while nobody listens: clients wait instead of knocking.
    """

    site: Site
    seed: int
    client_count: int
    leavers_share: float = 0.1
    seen: list[Seen] = field(default_factory=list)
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    is_ending: bool = False
    _serial: int = 0

    @property
    def statuses(self) -> Counter[int]:
        """How often each status was seen."""
        return Counter(seen.status for seen in self.seen)

    async def run(self) -> None:
        """Ask until `stop`; what runs then still ends."""
        async with open_session() as session, asyncio.TaskGroup() as group:
            for number in range(self.client_count):
                group.create_task(self._client(session, Random(f"{self.seed}:{number}")))

    def stop(self) -> None:
        """Let clients finish what they have begun."""
        self.is_ending = True
        self.is_open.set()

    async def _client(self, session: aiohttp.ClientSession, random: Random) -> None:
        while not self.is_ending:
            await self.is_open.wait()
            self._serial += 1
            seen = await ask(session, self.site, self._wish(self._serial, random))
            self.seen.append(seen)
            if seen.status != 200:
                await asyncio.sleep(_REFUSED_PAUSE_S)

    def _wish(self, serial: int, random: Random) -> Ask:
        if random.random() < 0.3:
            return Ask(serial, chunks=random.randint(1, 40), is_streaming=False)
        chunks = random.choice((1, 5, 20, 60, 120))
        is_leaver = random.random() < self.leavers_share
        return Ask(
            serial,
            chunks=chunks,
            delay_ms=random.choice((0, 5, 10, 20)),
            max_tokens=128,
            leave_after=random.randint(1, chunks) if is_leaver else -1,
        )
