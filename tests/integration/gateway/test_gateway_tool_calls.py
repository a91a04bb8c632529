"""Whole answers whose tool calls nobody can follow: another route is tried, nothing is charged."""

from typing import Any

import pytest

from tests.fakes.openai_script import Script
from tests.fixtures.catalogues import SMALL, TWICE, price_nusd
from tests.fixtures.gateway import Key, Site
from tests.integration.gateway.wire import answer_of

BROKEN = Script(reason="tool_calls", said={"content": None, "tool_calls": [{"id": "c"}]})
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SOUND = Script(reason="tool_calls", said={"content": None, "tool_calls": [CALL]})
MESSAGES = [{"role": "user", "content": "hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": MESSAGES},
    "/messages": {"messages": MESSAGES, "max_tokens": 100},
    "/responses": {"input": "hello"},
}


async def asked(site: Site, key: Key, path: str, model: str) -> Any:
    body = {"model": model, **BODIES[path]}
    return await answer_of(site.http.post(f"{site.url}/v1{path}", json=body, headers=key.headers))


@pytest.mark.parametrize("path", BODIES)
async def test_broken_calls_cost_nothing(path: str, site: Site) -> None:
    key = await site.key()
    site.main.handler = lambda _seen: BROKEN

    answer = await asked(site, key, path, SMALL)

    assert 502 == answer.status
    (record,) = await site.settled(key, 1)
    assert ("refused", 0) == (record.outcome, record.charge_nusd)
    assert 0 == (await site.balance(key)).charged_nusd


@pytest.mark.parametrize("path", BODIES)
async def test_broken_calls_are_asked_for_elsewhere(path: str, site: Site) -> None:
    key = await site.key()
    site.main.handler, site.spare.handler = lambda _seen: BROKEN, lambda _seen: SOUND

    answer = await asked(site, key, path, TWICE)

    assert (200, "2") == (answer.status, answer.headers["X-Turnpike-Attempts"])
    (record,) = await site.settled(key, 1)
    usage = site.spare.seen[0].usage or {}
    told = price_nusd(usage["prompt_tokens"], usage["completion_tokens"])
    assert (told, "twice-spare") == (record.charge_nusd, record.deployment)
