"""Gemini behind a whole site: what a caller gets and pays."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.fakes.gemini_calls import TOOLS
from tests.fakes.gemini_oracle import read_request
from tests.fakes.gemini_script import SIGNATURE, Said, Script, calls, status, text, thoughts
from tests.fakes.gemini_upstream import GeminiUpstream, open_gemini_upstream
from tests.fixtures.catalogues import PRICE, chat, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import answer_of, events_of, text_of

GEMINI = "gemini"


@dataclass(frozen=True, slots=True)
class Gemini:
    """A site with one model on two fakes of AI Studio."""

    site: Site
    key: Key
    main: GeminiUpstream
    spare: GeminiUpstream


@pytest.fixture
async def gemini(open_site: OpenSite) -> AsyncIterator[Gemini]:
    async with open_gemini_upstream() as main, open_gemini_upstream() as spare:
        upstreams = {"main": main, "spare": spare}
        deployments = [
            {
                "name": f"gemini-{name}",
                "provider": name,
                "upstream_model": "gemini-3-flash-preview",
                "price": PRICE,
                "priority": rank,
            }
            for rank, name in enumerate(upstreams)
        ]
        providers = {
            name: {
                "kind": "google_ai_studio",
                "base_url": upstream.base_url,
                "api_key": "${UPSTREAM_KEY}",
            }
            for name, upstream in upstreams.items()
        }
        model = {
            "context_length": 200_000,
            "default_max_tokens": 256,
            "deployments": deployments,
        }
        site = await open_site(Wish(catalogue={"providers": providers, "models": {GEMINI: model}}))
        yield Gemini(site, await site.key(), main, spare)


def charged(prompt: int, completion: int) -> tuple[int, int, int]:
    return prompt, completion, price_nusd(prompt, completion)


async def paid(gemini: Gemini) -> tuple[int, int, int]:
    (record,) = await gemini.site.settled(gemini.key, 1)
    usage = record.usage
    return usage.prompt_token_count, usage.completion_token_count, record.charge_nusd


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_caller_pays_for_thoughts_and_for_what_was_read_from_a_cache(
    gemini: Gemini, is_streaming: bool
) -> None:
    said = (*thoughts("hm", "m"), Said({"text": "Yes"}))
    gemini.main.answers(Script(said=said, cached_tokens=7, tool_tokens=3))
    body = chat(model=GEMINI, stream=is_streaming, user="u", temperature=1.5)

    answer = await answer_of(gemini.site.post(gemini.key, body))

    if is_streaming:
        assert "Yes" == text_of(events_of(answer.body))
    else:
        message = answer.json["choices"][0]["message"]
        assert ("hmm", "Yes") == (message["reasoning_content"], message["content"])
        assert {"cached_tokens": 7} == answer.json["usage"]["prompt_tokens_details"]
    assert "google" == answer.headers["X-Backend"]
    assert "user" == answer.headers["X-Turnpike-Ignored"]
    assert charged(15, 8) == await paid(gemini)
    read_request(gemini.main.seen[0].body)


async def test_openais_client_calls_tools_and_brings_the_signature_back(gemini: Gemini) -> None:
    gemini.main.answers(calls(("weather", {"city": "Rome"}), ("now", None)))
    user: Any = {"role": "user", "content": "How is Rome?"}
    tools: Any = TOOLS
    async with AsyncOpenAI(
        base_url=f"{gemini.site.url}/v1", api_key=gemini.key.secret, max_retries=0
    ) as client:
        async with client.chat.completions.stream(
            model=GEMINI, messages=[user], tools=tools
        ) as stream:
            message = (await stream.get_final_completion()).choices[0].message
        gemini.main.answers(text("Sunny"))
        said: Any = message.model_dump(exclude_none=True)
        results: Any = [
            {"role": "tool", "tool_call_id": called.id, "content": "fine"}
            for called in message.tool_calls or []
        ]
        final = await client.chat.completions.create(
            model=GEMINI, messages=[user, said, *results], tools=tools
        )

    assert "Sunny" == final.choices[0].message.content
    _, model, answers = gemini.main.seen[1].body["contents"]
    assert SIGNATURE == model["parts"][0]["thoughtSignature"]
    assert {"city": "Rome"} == model["parts"][0]["functionCall"]["args"]
    assert 2 == len(answers["parts"])


@pytest.mark.parametrize(
    "form",
    [
        {"status": 503, "error": [status(503, "UNAVAILABLE")]},
        {"status": 400, "error": status(400, "FAILED_PRECONDITION")},
        {"error_after": 0},
        {"cut_after": 0},
        {"junk_after": 0},
        {"finish": "MALFORMED_FUNCTION_CALL", "said": ()},
    ],
)
async def test_another_deployment_answers_when_one_fails_before_its_first_content(
    gemini: Gemini, form: dict[str, Any]
) -> None:
    gemini.main.answers(Script(**form))
    gemini.spare.answers(text("a", "b"))

    answer = await answer_of(gemini.site.post(gemini.key, chat(model=GEMINI, stream=True)))

    assert "ab" == text_of(events_of(answer.body))
    assert "2" == answer.headers["X-Turnpike-Attempts"]
    assert charged(12, 4) == await paid(gemini)


@pytest.mark.parametrize("name", ["error_after", "raw_error_after", "cut_after", "junk_after"])
async def test_answer_that_breaks_says_so_and_costs_what_was_delivered(
    gemini: Gemini, name: str
) -> None:
    forms: dict[str, Any] = {name: 3, "delay_ms": 5}
    gemini.main.answers(text("a", "b", "c", "d", "e", **forms))

    answer = await answer_of(gemini.site.post(gemini.key, chat(model=GEMINI, stream=True)))

    *chunks, end = events_of(answer.body)
    delivered = len(text_of(chunks))
    assert "abc".startswith(text_of(chunks))
    assert "secret" not in json.dumps(end)
    assert end["error"]["code"] in ("upstream_incomplete", "upstream_invalid_response")
    assert [] == gemini.spare.seen
    assert charged(12, 2 * delivered) == await paid(gemini)


async def test_content_that_is_refused_is_not_shopped_around(gemini: Gemini) -> None:
    gemini.main.answers(Script(block_reason="SAFETY"))

    answer = await answer_of(gemini.site.post(gemini.key, chat(model=GEMINI)))

    assert 400 == answer.status
    assert [] == gemini.spare.seen


async def test_parameter_that_gemini_lacks_is_named(gemini: Gemini) -> None:
    answer = await answer_of(gemini.site.post(gemini.key, chat(model=GEMINI, logprobs=True)))

    assert (400, "unsupported_parameter", "logprobs") == (
        answer.status,
        answer.error["code"],
        answer.error["param"],
    )
    assert [] == gemini.main.seen


async def test_structured_answer_is_held_to_its_schema(gemini: Gemini) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    gemini.main.answers(text('{"a": "no"}'))
    gemini.spare.answers(text('{"a": 1}'))

    answer = await answer_of(gemini.site.post(gemini.key, chat(model=GEMINI, guided_json=schema)))

    assert '{"a": 1}' == answer.json["choices"][0]["message"]["content"]
    assert schema == gemini.main.seen[0].body["generationConfig"]["responseJsonSchema"]
