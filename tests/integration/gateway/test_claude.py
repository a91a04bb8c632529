"""Claude behind a whole site: what a caller gets and pays, in OpenAI's words and in Anthropic's."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anthropic
import pytest
from openai import AsyncOpenAI

from tests.fakes.anthropic_script import Script, numbered, text, thinking, tool
from tests.fakes.anthropic_upstream import AnthropicUpstream, open_anthropic_upstream
from tests.fixtures.anthropic_calls import LOOK
from tests.fixtures.anthropic_types import checked
from tests.fixtures.catalogues import PRICE, chat, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.integration.gateway.wire import answer_of, events_of, text_of, tokens

CLAUDE = "claude"
LOOKED = ('{"at":', '"sea"}')


@dataclass(frozen=True, slots=True)
class Claude:
    """A site with one model on two fakes of Anthropic's API."""

    site: Site
    key: Key
    main: AnthropicUpstream
    spare: AnthropicUpstream


def entry(upstream: AnthropicUpstream) -> dict[str, Any]:
    return {
        "kind": "anthropic",
        "base_url": upstream.base_url,
        "api_key": "${UPSTREAM_KEY}",
        "sampling": "ignored",
    }


@pytest.fixture
async def claude(open_site: OpenSite) -> AsyncIterator[Claude]:
    async with open_anthropic_upstream() as main, open_anthropic_upstream() as spare:
        deployments = [
            {
                "name": f"claude-{name}",
                "provider": name,
                "upstream_model": "claude-fake",
                "price": PRICE,
                "priority": rank,
            }
            for rank, name in enumerate(("main", "spare"))
        ]
        catalogue = {
            "providers": {"main": entry(main), "spare": entry(spare)},
            "models": {
                CLAUDE: {
                    "context_length": 200_000,
                    "default_max_tokens": 256,
                    "deployments": deployments,
                }
            },
        }
        site = await open_site(Wish(catalogue=catalogue))
        yield Claude(site, await site.key(), main, spare)


def charged(prompt: int, completion: int) -> tuple[int, int, int]:
    return prompt, completion, price_nusd(prompt, completion)


async def paid(claude: Claude) -> tuple[int, int, int]:
    (record,) = await claude.site.settled(claude.key, 1)
    usage = record.usage
    return usage.prompt_token_count, usage.completion_token_count, record.charge_nusd


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_a_caller_pays_for_what_was_read_from_a_cache_and_written_too(
    claude: Claude, is_streaming: bool
) -> None:
    claude.main.script = Script(says=(numbered(9),), cache_read=100, cache_written=20)
    body = chat(model=CLAUDE, stream=is_streaming, seed=1, temperature=0.5)

    answer = await answer_of(claude.site.post(claude.key, body))

    if is_streaming:
        assert text_of(events_of(answer.body)) == tokens(9)
    else:
        assert answer.json["choices"][0]["message"]["content"] == tokens(9)
        details = answer.json["usage"]["prompt_tokens_details"]
        assert details == {"cached_tokens": 100, "cache_creation_tokens": 20}
    assert answer.headers["X-Backend"] == "anthropic"
    assert answer.headers["X-Turnpike-Ignored"].split(",") == ["seed", "temperature"]
    assert await paid(claude) == charged(132, 10)
    checked(json.dumps(claude.main.seen[0].body).encode())


async def test_openais_client_calls_a_tool_and_answers_it(claude: Claude) -> None:
    claude.main.script = Script(
        says=(thinking("Let me", " see"), tool("toolu_1", "look", *LOOKED)),
        stop_reason="tool_use",
    )
    user: Any = {"role": "user", "content": "What is at sea?"}
    tools: Any = [LOOK]
    async with AsyncOpenAI(
        base_url=f"{claude.site.url}/v1", api_key=claude.key.secret, max_retries=0
    ) as client:
        async with client.chat.completions.stream(
            model=CLAUDE, messages=[user], tools=tools
        ) as stream:
            message = (await stream.get_final_completion()).choices[0].message
        claude.main.script = Script(says=(text("Ships"),))
        said: Any = message.model_dump(exclude_none=True)
        result: Any = {"role": "tool", "tool_call_id": "toolu_1", "content": "ships"}
        final = await client.chat.completions.create(
            model=CLAUDE, messages=[user, said, result], tools=tools
        )

    assert message.tool_calls is not None
    assert final.choices[0].message.content == "Ships"
    turns = claude.main.seen[1].body["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"][-1]["input"] == {"at": "sea"}
    assert turns[2]["content"][0]["tool_use_id"] == "toolu_1"


async def test_anthropics_client_finds_its_own_api_behind_the_gateway(claude: Claude) -> None:
    claude.main.script = Script(
        says=(text("I look."), tool("toolu_1", "look", *LOOKED)), stop_reason="tool_use"
    )
    function: Any = LOOK["function"]
    own: Any = {
        "name": "look",
        "description": function["description"],
        "input_schema": function["parameters"],
    }
    async with (
        anthropic.AsyncAnthropic(
            base_url=claude.site.url, api_key=claude.key.secret, max_retries=0
        ) as client,
        client.messages.stream(
            model=CLAUDE,
            max_tokens=64,
            tools=[own],
            messages=[{"role": "user", "content": "What is at sea?"}],
        ) as stream,
    ):
        message = await stream.get_final_message()

    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert claude.main.seen[0].body["tools"] == [own]


@pytest.mark.parametrize(
    "form",
    [
        {"status": 529, "error": "overloaded_error"},
        {"error": "overloaded_error", "error_after": 0},
        {"error": "api_error", "error_after": 3},
        {"cut_after": 2},
        {"junk_after": 1},
    ],
)
async def test_another_deployment_answers_when_one_fails_before_its_first_content(
    claude: Claude, form: dict[str, Any]
) -> None:
    claude.main.script = Script(**form)
    claude.spare.script = Script(says=(numbered(4),))

    answer = await answer_of(claude.site.post(claude.key, chat(model=CLAUDE, stream=True)))

    assert text_of(events_of(answer.body)) == tokens(4)
    assert answer.headers["X-Turnpike-Attempts"] == "2"
    assert await paid(claude) == charged(12, 5)


@pytest.mark.parametrize(
    "form", [{"error": "overloaded_error", "error_after": 7}, {"cut_after": 7}, {"junk_after": 7}]
)
async def test_an_answer_that_breaks_says_so_and_costs_what_was_delivered(
    claude: Claude, form: dict[str, Any]
) -> None:
    claude.main.script = Script(says=(numbered(9),), delay_ms=5, **form)

    answer = await answer_of(claude.site.post(claude.key, chat(model=CLAUDE, stream=True)))

    *chunks, end = events_of(answer.body)
    assert text_of(chunks) == tokens(4)
    assert "secret" not in json.dumps(end)
    assert end["error"]["code"] in ("upstream_incomplete", "upstream_invalid_response")
    assert claude.spare.seen == []
    assert await paid(claude) == charged(12, 4)


async def test_the_callers_own_fault_is_the_callers_to_mend(claude: Claude) -> None:
    claude.main.script = Script(
        status=400,
        error="invalid_request_error",
        message="max_tokens: 100000 > 64000, secret prompt text",
    )

    answer = await answer_of(claude.site.post(claude.key, chat(model=CLAUDE)))
    refused = await answer_of(claude.site.post(claude.key, chat(model=CLAUDE, n=2)))

    assert (answer.status, answer.error["param"]) == (400, "max_tokens")
    assert "secret" not in answer.error["message"]
    assert (refused.status, refused.error["param"]) == (400, "n")
    assert refused.error["code"] == "unsupported_parameter"
    assert len(claude.main.seen) == 1
