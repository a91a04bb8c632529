"""A whole site on a loop of its own thread, for clients that are not asynchronous."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.fakes.media_upstream import MediaScript, open_media_upstream
from tests.fakes.openai_model import open_openai_model
from tests.fakes.openai_script import Script
from tests.fakes.openai_upstream import Seen, open_openai_upstream
from tests.fixtures.catalogues import PRICE
from tests.fixtures.gateway import Key, Site, Wish, running_site, until
from tests.fixtures.media import BY_CHARACTER, BY_IMAGE, BY_SECOND
from tests.rows.site import catalogue
from turnpike.metering.v1 import metering_pb2

T = TypeVar("T")
WAIT_S = 60.0
CREDIT_NUSD: Final = 10**14
SCOPES: Final = ["chat", "models", "usage", "chat_template", "billing"]


class Served:
    """The site, a key that is rich and unlimited, and a way to run something on its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, site: Site, key: Key) -> None:
        self._loop = loop
        self.site = site
        self.key = key

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the site's loop and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)

    def settled(self, count: int) -> list[metering_pb2.UsageRecord]:
        """Wait until so many requests are completed on record and the ledger says the same.

        Nothing else has touched the balance then.
        """
        return self.run(self._settled(count))

    async def _settled(self, count: int) -> list[metering_pb2.UsageRecord]:
        found: list[metering_pb2.UsageRecord] = []

        async def are_books_even() -> bool:
            found[:] = await self._records()
            completed = sum(record.outcome == "completed" for record in found)
            charge_nusd = sum(record.charge_nusd for record in found)
            balance = await self.site.balance(self.key)
            left_nusd = balance.available_nusd + balance.held_nusd - balance.debt_nusd
            return (completed, charge_nusd, CREDIT_NUSD - charge_nusd) == (
                count,
                balance.charged_nusd,
                left_nusd,
            )

        try:
            await until(are_books_even)
        except TimeoutError:
            outcomes = Counter(record.outcome for record in found)
            charge_nusd = sum(record.charge_nusd for record in found)
            balance = await self.site.balance(self.key)
            raise AssertionError(
                f"{count} were answered; on record: {outcomes}, {charge_nusd} nUSD; {balance}"
            ) from None
        return found

    async def _records(self) -> list[metering_pb2.UsageRecord]:
        """Return every record of the key, page by page."""
        found: list[metering_pb2.UsageRecord] = []
        request = metering_pb2.ListUsageRequest(key_id=self.key.key_id, page_size=1000)
        while True:
            page = await self.site.metering.ListUsage(request)
            found += page.records
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


def _obedient(seen: Seen) -> Script:
    """Return an answer of as many texts as a request asks for, none longer than it may be."""
    seen.body = {name: _read(value) for name, value in seen.body.items() if value is not None}
    prompts = seen.body.get("prompt", seen.body.get("input"))
    most = seen.body.get("max_tokens", 16)
    is_many = isinstance(prompts, list) and not isinstance(prompts[0], int)
    count = len(prompts) if is_many else 1
    return Script(
        chunks=min(16, most),
        choices=count * seen.body.get("n", 1),
        prompt_tokens=count,
        reason="length" if most < 16 else "stop",
    )


def _read(value: Any) -> Any:
    """Return a value as servers read it that take 2.0 where a whole number is wanted."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_media(chat: dict[str, Any], texts_url: str, media_url: str) -> dict[str, Any]:
    """Return the catalogue of chat models with one more model for each other operation."""

    def model(operation: str, provider: str, price: dict[str, str]) -> dict[str, Any]:
        deployment = {
            "name": f"{operation}-here",
            "provider": provider,
            "upstream_model": f"upstream-{operation}",
            "price": price,
        }
        return {"context_length": 8192, "operations": [operation], "deployments": [deployment]}

    kind = "openai_compat"
    return {
        **chat,
        "providers": {
            **chat["providers"],
            "texts": {"kind": kind, "base_url": texts_url},
            "media": {"kind": kind, "base_url": media_url},
        },
        "models": {
            **chat["models"],
            "writer": model("completion", "texts", PRICE),
            "vectors": model("embedding", "texts", PRICE),
            "painter": model("image", "media", BY_IMAGE),
            "speaker": model("speech", "media", BY_CHARACTER),
            "listener": model("transcription", "media", BY_SECOND),
        },
    }


@contextmanager
def served_site(folder: Path) -> Iterator[Served]:
    """Open a site over well-behaved upstreams; `folder` holds its migrated databases."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fuzzed-site")
    thread.start()
    stack = AsyncExitStack()

    async def begin() -> tuple[Site, Key]:
        model = await stack.enter_async_context(open_openai_model())
        texts = await stack.enter_async_context(open_openai_upstream())
        media = await stack.enter_async_context(open_media_upstream())
        texts.handler = _obedient
        # What it says of a recording would not fit those that are generated.
        media.script = MediaScript(usage="none")
        wish = Wish(catalogue=_with_media(catalogue(model), texts.base_url, media.base_url))
        site = await stack.enter_async_context(running_site(wish, folder))
        key = await site.key(
            credit_nusd=CREDIT_NUSD, requests_per_minute=0, tokens_per_minute=0, scopes=SCOPES
        )
        return site, key

    try:
        site, key = asyncio.run_coroutine_threadsafe(begin(), loop).result(WAIT_S)
        yield Served(loop, site, key)
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(WAIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()
