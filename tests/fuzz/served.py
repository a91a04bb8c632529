"""A whole site on a loop of its own thread, for clients that are not asynchronous."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.fakes.openai_model import open_openai_model
from tests.fixtures.gateway import Key, Site, Wish, running_site
from tests.rows.site import catalogue

T = TypeVar("T")
WAIT_S = 60.0


class Served:
    """The site, a key that is rich and unlimited, and a way to run something on its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, site: Site, key: Key) -> None:
        self._loop = loop
        self.site = site
        self.key = key

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the site's loop and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_S)


@contextmanager
def served_site(folder: Path) -> Iterator[Served]:
    """Open a site over a well-behaved upstream; `folder` holds its migrated databases."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fuzzed-site")
    thread.start()
    stack = AsyncExitStack()

    async def begin() -> tuple[Site, Key]:
        model = await stack.enter_async_context(open_openai_model())
        wish = Wish(catalogue=catalogue(model))
        site = await stack.enter_async_context(running_site(wish, folder))
        key = await site.key(
            credit_nusd=10**14, requests_per_minute=0, tokens_per_minute=0, scopes=SCOPES
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


SCOPES = ["chat", "models", "usage"]
