"""Every chat answer in the openai dialect has OpenAI's form, whatever form its engine gave it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.openai_engines import MANNERS
from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import answer_of
from tests.recorded.asks import CHATS, TOOLS, check_stream, recorded
from tests.recorded.forms import Recorded, check, check_events
from tests.rows.site import catalogue

STREAMS: dict[str, dict[str, Any]] = {
    "whole": {},
    "streamed": {"stream": True},
    "streamed with usage": {"stream": True, "stream_options": {"include_usage": True}},
}


@pytest.fixture(params=MANNERS)
async def model(request: pytest.FixtureRequest) -> AsyncIterator[OpenAiModel]:
    async with open_openai_model() as opened:
        opened.spell = MANNERS[request.param]
        yield opened


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel) -> Site:
    return await open_site(Wish(catalogue=catalogue(model)))


@pytest.fixture
async def key(site: Site) -> Key:
    return await site.key(requests_per_minute=0, tokens_per_minute=0)


@pytest.mark.parametrize("stream", STREAMS)
async def test_every_chat_answer_is_openais(stream: str, site: Site, key: Key) -> None:
    for name, ask in CHATS.items():
        body = ask.body(model="sea", **STREAMS[stream])

        found, text = await recorded(site, key, "/chat/completions", body, kind="chat")

        assert ask.says in text, (name, text)
        for one in found:
            check(one)
        if stream != "whole":
            check_stream(found)
            assert (stream == "streamed with usage") == (found[-1].value["choices"] == [])
    records = await site.settled(key, len(CHATS))
    assert {"completed"} == {record.outcome for record in records}


async def test_every_response_is_openais(site: Site, key: Key) -> None:
    bodies: list[dict[str, Any]] = [
        {"input": "hello"},
        {"input": "think"},
        {"input": "refuse"},
        {"input": "hello", "max_output_tokens": 2},
        {"input": "hello", "tools": [{"type": "function", **tool["function"]} for tool in TOOLS]},
        {"input": "hello", "include": ["message.output_text.logprobs"], "top_logprobs": 2},
    ]
    for body in bodies:
        wanted = {"model": "sea", **body}
        found, _ = await recorded(site, key, "/responses", wanted, kind="response")
        call = site.http.post(
            f"{site.url}/v1/responses", json={**wanted, "stream": True}, headers=key.headers
        )
        answer = await answer_of(call)

        check(found[0])
        assert check_events(answer.body) > 4
    await site.settled(key, 2 * len(bodies))


async def test_every_model_is_openais(site: Site, key: Key) -> None:
    names = ("sea", "sea-1", "sea:salt", "turnpike::function_name::assistant")
    listed = await answer_of(site.http.get(f"{site.url}/v1/models", headers=key.headers))
    singles = [
        await answer_of(site.http.get(f"{site.url}/v1/models/{name}", headers=key.headers))
        for name in names
    ]

    check(Recorded("models", listed.json))
    for single in singles:
        check(Recorded("model", single.json))
