"""Canaries: what a client or provider must be sure of is in no log, no metric and no error."""

import io
import logging
from collections.abc import Iterator

import pytest
import structlog

from kit.logs import configure_logs
from tests.fakes.openai_script import Script
from tests.fixtures.catalogues import TWICE, chat
from tests.fixtures.gateway import UPSTREAM_KEY, Key, OpenSite, Wish, until
from tests.fixtures.plain_logs import plain_logs
from tests.integration.gateway.wire import answer_of, connected, read_chunks, request_bytes

PROMPT = "prompt-canary-5521"
MESSAGE = "upstream-message-canary-8842"
UNKNOWN_KEY = "sk-tp-unknown-canary-3317"
BAD_SCRIPTS = (
    "status:500",
    "status:401",
    "status:400",
    "body:error",
    "body:junk",
    "body:html",
    "body:error_first",
    "body:error_late",
    "cut_after:2",
    "hang:headers_before",
    "head_bytes:100000",
)


@pytest.fixture
def log_text() -> Iterator[io.StringIO]:
    """Everything the process logs, in the product's own form, from the lowest level up."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}
    stream = io.StringIO()
    configure_logs(level="debug", stream=stream)
    # A logger that is kept would write here for all tests that follow.
    structlog.configure(cache_logger_on_first_use=False)
    for name in ("aiohttp", "aiohttp.server", "aiosqlite", "asyncio", "sqlalchemy.engine"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield stream
    root.handlers, root.level = handlers, level
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
    logging.captureWarnings(capture=False)
    plain_logs()


async def test_no_canary_comes_out(log_text: io.StringIO, open_site: OpenSite) -> None:
    site = await open_site(Wish(router={"attempt_min_s": 0.1}))
    key, poor = await site.key(), await site.key(credit_nusd=0)
    bodies = b""
    site.spare.handler = lambda _seen: Script(status=500, message=MESSAGE)

    for script in BAD_SCRIPTS:
        for is_streaming in (False, True):
            prompt = f"{PROMPT} fake={script};message:{MESSAGE}"
            asked = chat(prompt, model=TWICE, stream=is_streaming, timeout_ms=300)
            bodies += (await answer_of(site.post(key, asked))).body
    for caller in (poor, Key("", "", UNKNOWN_KEY)):
        bodies += (await answer_of(site.post(caller, chat(PROMPT)))).body
    odd = b'{"model":"acme/small","messages":"%b","x":%b}' % (PROMPT.encode(), PROMPT.encode())
    for raw in (odd, odd[:-1] + b"]"):
        async with connected(site.gateway.port) as client:
            await client.send(request_bytes(key.secret, raw))
            bodies += (await client.answer()).body
    async with connected(site.gateway.port) as client:
        await client.send(f"POST /{PROMPT} HTTP/1.1\r\nbad {key.secret}\r\n\r\n".encode())
        bodies += await client.rest()
    async with site.post(key, chat(f"{PROMPT} shape=c99-d5", stream=True)) as response:
        await read_chunks(response, 2)
        response.close()
    await until(lambda: site.gateway.deps.running.count == 0)

    shown = {
        "bodies": bodies.decode(errors="replace"),
        "logs": log_text.getvalue(),
        "access lines": str(site.logged()),
        "metrics": site.metrics(),
    }
    assert all(len(text) > 500 for text in shown.values())
    canaries = {
        PROMPT,
        MESSAGE,
        UPSTREAM_KEY,
        key.secret,
        poor.secret,
        UNKNOWN_KEY,
        "pepper-canary",
    }
    found = {
        (place, canary) for place, text in shown.items() for canary in canaries if canary in text
    }
    assert set() == found
    # What an upstream said before it broke is the answer and is shown to nobody else.
    assert "tok1 " not in shown["logs"] + shown["access lines"] + shown["metrics"]
