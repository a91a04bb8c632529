"""Anthropic as a provider, from its entry in the catalogue to a fake of its API on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from kit.clock import ManualClock
from services.router.adapters import Parts, opener, wanted
from services.router.catalog_build import build
from services.router.catalog_entries import CatalogueFile
from services.router.constrained import constrained
from services.router.prompt_tools import open_prompt_tools
from services.router.providers.port import Batch, Body, Call, Failure, Provider, ProviderError
from services.router.settings import RouterSettings
from services.router.upstream import HttpLimits, open_http_pool
from tests.fakes.anthropic_script import Script, events_of, numbered, text, thinking, tool
from tests.fakes.anthropic_upstream import AnthropicUpstream
from tests.fakes.openai_calls import eventually
from tests.fixtures.anthropic_calls import (
    LOOK,
    PIXEL,
    STRICT_SCHEMA,
    USER,
    attempt,
    folded,
    plain,
)
from tests.fixtures.anthropic_types import checked
from turnpike.type.v1 import usage_pb2


@asynccontextmanager
async def opened(
    upstream: AnthropicUpstream, *, supports: tuple[str, ...] = (), **entry: Any
) -> AsyncIterator[tuple[Provider, dict[str, str]]]:
    """Yield the provider of a catalogue that names it, and the options of its deployment."""
    known = {"kind": "anthropic", "base_url": upstream.base_url, "api_key": "sk-ant-secret"}
    deployment = {
        "name": "claude-1",
        "provider": "anthropic",
        "upstream_model": "claude-fake",
        "supports": list(supports),
        "price": {"input_usd_per_million": "3", "output_usd_per_million": "15"},
    }
    file = CatalogueFile.model_validate(
        {
            "providers": {"anthropic": {**known, **entry}},
            "models": {"claude": {"context_length": 200_000, "deployments": [deployment]}},
        }
    )
    settings = RouterSettings()
    async with (
        open_http_pool(HttpLimits(linger_s=5.0)) as pool,
        open_prompt_tools(settings) as tools,
    ):
        (item,) = wanted(file, build(file, generation=1))
        async with opener(Parts(settings, pool, ManualClock(), tools))(item) as provider:
            yield provider, dict(item.deployment.options)


@pytest.fixture
async def provider(anthropic_upstream: AnthropicUpstream) -> AsyncIterator[Provider]:
    async with opened(anthropic_upstream) as (found, _):
        yield found


async def ask(
    provider: Provider, *messages: dict[str, Any], wait_s: float = 10.0, **fields: Any
) -> list[Batch]:
    call, body = attempt(*messages, **fields)
    return await played(provider, call._replace(upstream_model="claude-fake"), body, wait_s)


async def played(provider: Provider, call: Call, body: Body, wait_s: float = 10.0) -> list[Batch]:
    deadline_s = asyncio.get_running_loop().time() + wait_s
    stream = provider.stream(call, body, deadline_s=deadline_s)
    if call.constraint is not None:
        stream = constrained(stream, call, call.constraint, on_unjudged=lambda: None)
    async with aclosing(stream) as batches:
        return [batch async for batch in batches]


async def failure(provider: Provider, **fields: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(provider, **fields)
    assert "secret" not in caught.value.message
    return caught.value


async def both(provider: Provider, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return the message that a stream and a whole answer agree on."""
    streamed = await ask(provider, *messages, **fields)
    (whole,) = await ask(provider, *messages, is_streaming=False, **fields)
    message = folded(streamed)
    assert {"content": "", **message} == plain(whole)
    assert streamed[-1].finish.usage == whole.finish.usage
    assert streamed[-1].finish.finish_reason == whole.finish.finish_reason
    return message


def told(upstream: AnthropicUpstream) -> tuple[int, int]:
    """Return the prompt's and the answer's tokens that the fake told last."""
    usage = upstream.seen[-1].usage or {}
    prompt = sum(value for name, value in usage.items() if name.endswith("input_tokens"))
    return prompt, usage["output_tokens"]


def taken(usage: usage_pb2.TokenUsage) -> tuple[int, int]:
    return usage.prompt_token_count, usage.completion_token_count


async def test_a_request_shows_who_we_are(anthropic_upstream: AnthropicUpstream) -> None:
    async with opened(anthropic_upstream, betas=["beta-1", "beta-2"]) as (provider, _):
        await ask(provider)

    (seen,) = anthropic_upstream.seen
    assert seen.path == "/v1/messages"
    assert seen.headers["x-api-key"] == "sk-ant-secret"
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert seen.headers["anthropic-beta"] == "beta-1,beta-2"
    checked(json.dumps(seen.body).encode())


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"split": 1},
        {"split": 7, "line": "\r\n"},
        {"is_joined": True},
        {"has_message_stop": False},
        {"has_blank_end": False},
        {"cut_after": 25},
        {"cut_after": 25, "cut": "rst"},
        {"pings": 9},
        {"usage": "running"},
    ],
)
async def test_text_comes_whole_in_any_form(
    provider: Provider, anthropic_upstream: AnthropicUpstream, form: dict[str, Any]
) -> None:
    anthropic_upstream.script = Script(
        says=(numbered(20),), cache_read=100, cache_written=7, **form
    )

    message = await both(provider)

    assert message == {"content": "".join(f"tok{n} " for n in range(20))}


async def test_usage_is_what_the_upstream_told(
    provider: Provider, anthropic_upstream: AnthropicUpstream
) -> None:
    anthropic_upstream.script = Script(says=(numbered(5),), cache_read=100, cache_written=7)

    for is_streaming in (True, False):
        finish = (await ask(provider, is_streaming=is_streaming))[-1].finish
        assert taken(finish.usage) == told(anthropic_upstream) == (119, 6)
        assert finish.usage.source == usage_pb2.USAGE_SOURCE_UPSTREAM


async def test_tools_are_called_one_or_several_at_once(
    provider: Provider, anthropic_upstream: AnthropicUpstream
) -> None:
    for is_interleaved in (False, True):
        says = tuple(tool(f"toolu_{n}", "look", '{"at":', f'"{n}"}}') for n in range(3))
        anthropic_upstream.script = Script(
            says=(text("I look."), *says), stop_reason="tool_use", is_interleaved=is_interleaved
        )
        message = await both(provider, tools=[LOOK])

        found = [(c["id"], json.loads(c["function"]["arguments"])) for c in message["tool_calls"]]
        assert found == [(f"toolu_{n}", {"at": str(n)}) for n in range(3)]


async def test_thoughts_come_with_what_has_to_come_back_and_go_back(
    provider: Provider, anthropic_upstream: AnthropicUpstream
) -> None:
    says = (thinking("Let me", " see"), tool("toolu_1", "look", "{}"))
    anthropic_upstream.script = Script(says=says, stop_reason="tool_use")
    first = await both(provider, tools=[LOOK], reasoning_effort="high")

    said = {"role": "assistant", **first, "content": None}
    result = {"role": "tool", "tool_call_id": "toolu_1", "content": "Blue"}
    await ask(provider, USER, said, result, tools=[LOOK], reasoning_effort="high")

    assert first["reasoning_content"] == "Let me see"
    request = checked(json.dumps(anthropic_upstream.seen[-1].body).encode())
    assert request["thinking"]["type"] == "adaptive"
    assert request["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "Let me see",
        "signature": "sig",
    }


async def test_an_image_is_shown(provider: Provider, anthropic_upstream: AnthropicUpstream) -> None:
    image = {"type": "image_url", "image_url": {"url": PIXEL}}

    await ask(provider, {"role": "user", "content": [image]})

    (block,) = anthropic_upstream.seen[0].body["messages"][0]["content"]
    assert block["source"]["media_type"] == "image/png"


@pytest.mark.parametrize("is_native", [True, False])
async def test_an_answer_keeps_to_its_form(
    anthropic_upstream: AnthropicUpstream, is_native: bool
) -> None:
    pieces = ('{"city"', ':"Bern"}')
    say = text(*pieces) if is_native else tool("toolu_1", "give_answer", *pieces)
    reason = "end_turn" if is_native else "tool_use"
    anthropic_upstream.script = Script(says=(say,), stop_reason=reason)
    supports = ("response_format>native",) if is_native else ()

    async with opened(anthropic_upstream, supports=supports) as (provider, options):
        message = await both(provider, guided_json=STRICT_SCHEMA, options=options)

    assert message == {"content": '{"city":"Bern"}'}
    assert ("output_config" in anthropic_upstream.seen[0].body) is is_native


async def test_a_choice_is_taken_out_of_its_object(
    provider: Provider, anthropic_upstream: AnthropicUpstream
) -> None:
    says = (tool("toolu_1", "give_answer", '{"cho', 'ice":"yes"}'),)
    anthropic_upstream.script = Script(says=says, stop_reason="tool_use")

    assert await both(provider, guided_choice=["yes", "no"]) == {"content": "yes"}


async def test_what_is_left_aside_is_told_with_the_first_content(
    provider: Provider, anthropic_upstream: AnthropicUpstream
) -> None:
    anthropic_upstream.script = Script(says=(thinking("Hm"), numbered(3)))

    streamed = await ask(provider, seed=1)
    (whole,) = await ask(provider, seed=1, is_streaming=False)

    telling = [batch for batch in streamed if batch.route.ignored_parameters]
    assert len(telling) == 1
    assert telling[0].content_event_count
    assert list(whole.route.ignored_parameters) == ["seed"]


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"status": 529, "error": "overloaded_error"}, Failure.UNAVAILABLE),
        ({"status": 429, "error": "rate_limit_error", "retry_after": "9"}, Failure.RATE_LIMITED),
        ({"status": 401, "error": "authentication_error"}, Failure.CREDENTIALS),
        ({"status": 400, "error": "invalid_request_error"}, Failure.REJECTED),
        ({"status": 500, "body": "html"}, Failure.UNAVAILABLE),
        ({"body": "error", "error": "rate_limit_error"}, Failure.RATE_LIMITED),
        ({"body": "junk"}, Failure.INVALID_RESPONSE),
        ({"body": "html"}, Failure.INVALID_RESPONSE),
        ({"body": "empty"}, Failure.INVALID_RESPONSE),
        ({"body": "list"}, Failure.INVALID_RESPONSE),
        ({"body": "deep"}, Failure.INVALID_RESPONSE),
        ({"usage": "absurd"}, Failure.INVALID_RESPONSE),
        ({"stop_reason": "pause_turn"}, Failure.INVALID_RESPONSE),
    ],
)
async def test_an_answer_that_is_none_says_why(
    provider: Provider,
    anthropic_upstream: AnthropicUpstream,
    form: dict[str, Any],
    expected: Failure,
    is_streaming: bool,
) -> None:
    anthropic_upstream.script = Script(**form)

    found = await failure(provider, is_streaming=is_streaming)

    assert found.failure is expected
    assert found.retry_after_s == (9.0 if "retry_after" in form else 0.0)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"error": "overloaded_error", "error_after": 0}, Failure.UNAVAILABLE),
        ({"error": "rate_limit_error", "error_after": 2}, Failure.RATE_LIMITED),
        ({"error": "api_error", "error_after": 8}, Failure.UNAVAILABLE),
        ({"junk_after": 5}, Failure.INVALID_RESPONSE),
        ({"cut_after": 0}, Failure.INCOMPLETE),
        ({"cut_after": 6}, Failure.INCOMPLETE),
        ({"cut_after": 6, "cut": "rst"}, Failure.INCOMPLETE),
        ({"stop_reason": None}, Failure.INCOMPLETE),
        ({"stop_reason": None, "has_message_stop": False}, Failure.INCOMPLETE),
    ],
)
async def test_a_stream_that_breaks_says_why(
    provider: Provider,
    anthropic_upstream: AnthropicUpstream,
    form: dict[str, Any],
    expected: Failure,
) -> None:
    anthropic_upstream.script = Script(says=(numbered(9),), **form)

    assert (await failure(provider)).failure is expected


async def test_a_silent_upstream_is_not_waited_for(
    provider: Provider, anthropic_upstream: AnthropicUpstream
) -> None:
    anthropic_upstream.script = Script(hang_after=1)

    assert (await failure(provider, wait_s=0.1)).failure is Failure.TIMEOUT
    await eventually(lambda: anthropic_upstream.seen[0].is_aborted)


SAYS = (thinking("a", "b"), numbered(4), tool("toolu_1", "look", "{", "}"))


@pytest.mark.parametrize("event_count", range(4, 18))
async def test_a_caller_that_leaves_pays_no_more_than_was_made(
    provider: Provider, anthropic_upstream: AnthropicUpstream, event_count: int
) -> None:
    script = Script(says=SAYS, stop_reason="tool_use", hang_after=event_count)
    anthropic_upstream.script = script
    made = sum(map(has_content, events_of(script)[:event_count]))
    call, body = attempt(tools=[LOOK])
    deadline_s = asyncio.get_running_loop().time() + 10
    usage, content = usage_pb2.TokenUsage(), 0

    async with aclosing(provider.stream(call, body, deadline_s=deadline_s)) as batches:
        while content < made:
            batch = await anext(batches)
            usage, content = batch.running_usage, content + batch.content_event_count

    await eventually(lambda: anthropic_upstream.seen[0].is_aborted)
    assert usage.prompt_token_count == script.input_tokens
    assert usage.completion_token_count == content == made <= script.output_tokens
    assert usage.source == usage_pb2.USAGE_SOURCE_ESTIMATED


def has_content(event: dict[str, Any]) -> bool:
    kind = event.get("delta", event.get("content_block", {})).get("type")
    return kind in ("text_delta", "thinking_delta", "input_json_delta", "tool_use")


@pytest.mark.parametrize("event_count", range(4))
async def test_a_caller_that_leaves_before_the_first_content_ends_it_at_once(
    provider: Provider, anthropic_upstream: AnthropicUpstream, event_count: int
) -> None:
    anthropic_upstream.script = Script(says=SAYS, hang_after=event_count)
    asking = asyncio.ensure_future(ask(provider))
    await eventually(lambda: bool(anthropic_upstream.seen))
    await eventually(lambda: anthropic_upstream.seen[0].events_sent == event_count)

    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    await eventually(lambda: anthropic_upstream.seen[0].is_aborted)


async def test_a_probe_is_free(provider: Provider, anthropic_upstream: AnthropicUpstream) -> None:
    assert await provider.probe()
    assert anthropic_upstream.seen[0].path == "/v1/models"


async def test_a_probe_finds_out_that_nobody_is_there() -> None:
    nobody = AnthropicUpstream(port=1)
    async with opened(nobody) as (provider, _):
        assert not await provider.probe()
        assert (await failure(provider)).failure is Failure.CONNECT
