"""Prompt-cache markers reach the upstreams that know them; from others they are kept, and told."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.anthropic_upstream import AnthropicUpstream, open_anthropic_upstream
from tests.fakes.gemini_upstream import GeminiUpstream, open_gemini_upstream
from tests.fixtures.catalogues import PRICE
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import answer_of

MARK = {"type": "ephemeral", "ttl": "1h"}
SYSTEM = [{"type": "text", "text": "Long.", "cache_control": MARK}]
CHAT = {
    "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Hi"}],
    "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": MARK}],
}
OWN = {
    "system": SYSTEM,
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": MARK}],
    "max_tokens": 9,
}


@dataclass(frozen=True, slots=True)
class Marked:
    """A site with a model on each kind of upstream."""

    site: Site
    key: Key
    claude: AnthropicUpstream
    gemini: GeminiUpstream

    async def ask(self, model: str, body: Any, path: str = "/v1/chat/completions") -> Any:
        asked = {"model": model, **body}
        url = self.site.url + path
        return await answer_of(self.site.http.post(url, json=asked, headers=self.key.headers))


@pytest.fixture
async def marked(open_site: OpenSite) -> AsyncIterator[Marked]:
    async with AsyncExitStack() as stack:
        claude = await stack.enter_async_context(open_anthropic_upstream())
        gemini = await stack.enter_async_context(open_gemini_upstream())
        openai = await open_site()
        compat = {"kind": "openai_compat", "base_url": openai.main.base_url}
        providers = {
            "claude": {"kind": "anthropic", "base_url": claude.base_url, "api_key": "k"},
            "gemini": {"kind": "google_ai_studio", "base_url": gemini.base_url, "api_key": "k"},
            "plain": compat,
            "knowing": {**compat, "knows_cache_control": True},
        }
        models = {
            name: {
                "context_length": 8192,
                "default_max_tokens": 64,
                "deployments": [
                    {"name": name, "provider": name, "upstream_model": "gemini-3-x", "price": PRICE}
                ],
            }
            for name in providers
        }
        site = await open_site(Wish(catalogue={"providers": providers, "models": models}))
        site.main = openai.main
        yield Marked(site, await site.key(), claude, gemini)


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/messages", OWN)])
async def test_claude_gets_the_markers(marked: Marked, path: str, body: Any) -> None:
    answer = await marked.ask("claude", body, path)

    assert 200 == answer.status
    sent = marked.claude.seen[-1].body
    assert [MARK, MARK] == [sent["system"][0]["cache_control"], sent["tools"][0]["cache_control"]]
    assert "X-Turnpike-Ignored" not in answer.headers


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/messages", OWN)])
async def test_who_does_not_know_them_gets_none_and_the_caller_is_told(
    marked: Marked, path: str, body: Any, is_streaming: bool
) -> None:
    answer = await marked.ask("plain", {**body, "stream": is_streaming}, path)

    assert (200, "cache_control") == (answer.status, answer.headers["X-Turnpike-Ignored"])
    assert b"cache_control" not in marked.site.main.seen[-1].raw
    assert b"Long." in marked.site.main.seen[-1].raw


async def test_gemini_gets_none_and_the_caller_is_told_once(marked: Marked) -> None:
    answer = await marked.ask("gemini", CHAT)

    assert (200, "cache_control") == (answer.status, answer.headers["X-Turnpike-Ignored"])


async def test_who_is_said_to_know_them_gets_them_as_they_came(marked: Marked) -> None:
    answer = await marked.ask("knowing", CHAT)

    assert 200 == answer.status
    assert "X-Turnpike-Ignored" not in answer.headers
    assert 2 == marked.site.main.seen[-1].raw.count(b'"cache_control"')


async def test_body_without_markers_is_told_nothing(marked: Marked) -> None:
    answer = await marked.ask("plain", {"messages": [{"role": "user", "content": "Hi"}]})

    assert "X-Turnpike-Ignored" not in answer.headers
