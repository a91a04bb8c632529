"""Every answer field: golden answers in each dialect, and the rules that hold for all of them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import UUID7, Answer, answer_of, events_of
from tests.rows.golden import REQUESTS, golden, masked
from tests.rows.site import catalogue
from tests.rows.table import PREFIXES

A_ROWS: dict[str, Any] = {
    "A1": lambda a, d: UUID7.fullmatch(a["id"].removeprefix("" if d == "bud" else "chatcmpl-")),
    "A2": lambda a, _: a["object"] == "chat.completion",
    "A3": lambda a, _: isinstance(a["created"], int) and a["created"] > 1_760_000_000,
    "A4": lambda a, _: a["model"] == "sea",
    "A5": lambda a, _: [c["index"] for c in a["choices"]] == [0],
    "A6": lambda a, _: a["choices"][0]["message"]["role"] == "assistant",
    "A7": lambda a, _: a["choices"][0]["message"]["content"] == "The sea is",
    "A8": lambda a, d: (a["choices"][0]["message"].get("tool_calls") == []) == (d == "bud"),
    "A9": lambda a, _: a["choices"][0]["message"].get("reasoning_content") is None,
    "A10": lambda a, _: a["choices"][0]["finish_reason"] == "length",
    "A11": lambda a, _: a["choices"][0]["logprobs"] is None,
    "A12": lambda a, _: (
        a["usage"]
        == {
            "prompt_tokens": 11,
            "completion_tokens": 3,
            "total_tokens": 14,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
    ),
    "A13": lambda a, d: bool(UUID7.fullmatch(a.get("episode_id", ""))) == (d == "bud"),
    "A14": lambda a, _: a["system_fingerprint"] == "fp_sea",
    "A15": lambda a, _: a["service_tier"] == "default",
}
"""What a plain answer holds, by row."""

S_ROWS: dict[str, Any] = {
    "A16": lambda c, _: all(
        chunk["object"] == "chat.completion.chunk"
        and {"id", "created", "model"} <= set(chunk)
        and chunk["created"] == c[0]["created"]
        for chunk in c
    ),
    "A17": lambda c, _: (
        "The sea is" == "".join(x["choices"][0]["delta"].get("content", "") for x in c)
        and c[-1]["choices"][0]["delta"] == {}
    ),
    "A18": lambda c, _: all(x["choices"][0]["finish_reason"] is None for x in c[:-1]),
    "A19": lambda c, d: ("usage" in c[-1]) == (d != "runinfra"),
    "A20": lambda c, _: c[-1]["choices"][0]["finish_reason"] == "length",
}
"""What the chunks of a stream hold, by row."""


@pytest.fixture
async def model() -> AsyncIterator[OpenAiModel]:
    async with open_openai_model() as opened:
        yield opened


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel) -> Site:
    return await open_site(Wish(catalogue=catalogue(model)))


async def asked(site: Site, key: Key, dialect: str, what: str, **more: Any) -> Answer:
    body = {"model": "sea", **REQUESTS[what], **more}
    return await answer_of(site.post(key, body, prefix=PREFIXES[dialect]))


@pytest.mark.parametrize("dialect", PREFIXES)
async def test_answers_are_the_golden_ones(dialect: str, site: Site) -> None:
    key = await site.key()
    found: dict[str, Any] = {}
    for what in REQUESTS:
        whole = await asked(site, key, dialect, what, stream=False)
        events = await asked(site, key, dialect, what, stream=True)
        found[what] = {"plain": whole.json, "stream": events_of(events.body)}

    assert golden(dialect) == masked(found), json.dumps(masked(found))


@pytest.mark.parametrize("row", A_ROWS)
async def test_plain_answer_holds_what_the_row_says(row: str, site: Site) -> None:
    key = await site.key()

    for dialect in PREFIXES:
        answer = await asked(site, key, dialect, "text", stream=False)
        assert A_ROWS[row](answer.json, dialect), (dialect, answer.body)


@pytest.mark.parametrize("row", S_ROWS)
async def test_stream_holds_what_the_row_says(row: str, site: Site) -> None:
    key = await site.key()

    for dialect in PREFIXES:
        answer = await asked(site, key, dialect, "text", stream=True)
        *chunks, last = events_of(answer.body)
        assert "[DONE]" == last
        assert S_ROWS[row](chunks, dialect), (dialect, chunks)


@pytest.mark.parametrize("dialect", PREFIXES)
@pytest.mark.parametrize("include_usage", [True, False, None])
async def test_usage_comes_once_or_not_at_all(
    dialect: str, include_usage: bool | None, site: Site
) -> None:
    key = await site.key()
    options = {} if include_usage is None else {"stream_options": {"include_usage": include_usage}}

    answer = await asked(site, key, dialect, "text", stream=True, **options)

    chunks = events_of(answer.body)[:-1]
    (*_, last) = chunks
    counts = [chunk for chunk in chunks if chunk.get("usage")]
    is_on_the_finish_chunk = dialect in ("vram", "bud")
    if include_usage is False or (include_usage is None and dialect == "runinfra"):
        assert [] == counts
    elif include_usage and not is_on_the_finish_chunk:
        assert [last] == counts
        assert [] == last["choices"]
        assert all("usage" in chunk for chunk in chunks)
    else:
        assert [last] == counts
        assert "length" == last["choices"][0]["finish_reason"]


async def test_episode_is_shown_when_it_was_given(site: Site) -> None:
    key = await site.key()
    episode_id = site.new_id()

    answer = await asked(site, key, "openai", "text", stream=False, episode_id=episode_id)
    stream = await asked(site, key, "openai", "text", stream=True, episode_id=episode_id)
    alone = await asked(site, key, "openai", "text", stream=False)

    assert episode_id == answer.json["episode_id"] == answer.headers["X-Episode-Id"]
    assert {episode_id} == {chunk["episode_id"] for chunk in events_of(stream.body)[:-1]}
    assert alone.headers["X-Request-Id"] == alone.headers["X-Episode-Id"]
    assert "episode_id" not in alone.json


async def test_parallel_calls_keep_their_own_index(site: Site) -> None:
    key = await site.key()

    answer = await asked(site, key, "openai", "tools", stream=True)

    calls: dict[int, str] = {}
    for chunk in events_of(answer.body)[:-1]:
        for part in chunk["choices"][0]["delta"].get("tool_calls", []):
            assert ("id" in part) == (part["index"] not in calls)
            arguments = part["function"]["arguments"]
            calls[part["index"]] = calls.get(part["index"], "") + arguments
    assert {0: {"city": "Paris"}, 1: {"city": "Paris"}} == {
        index: json.loads(text) for index, text in calls.items()
    }
