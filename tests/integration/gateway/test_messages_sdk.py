"""The official Anthropic client, unmodified, against a whole site."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from tests.fakes.openai_script import Script
from tests.fixtures.catalogues import SMALL, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, until
from tests.integration.gateway.wire import UUID7, tokens

TOOL: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nno real one").decode()
CALLS = [
    {"index": 0, "id": "call_a", "type": "function",
     "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
    {"index": 1, "id": "call_b", "type": "function",
     "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
]  # fmt: skip


class Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture
async def key(site: Site) -> Key:
    return await site.key(requests_per_minute=0, tokens_per_minute=0)


def client_of(site: Site, key: Key, prefix: str = "") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(
        base_url=f"{site.url}{prefix}", api_key=key.secret, max_retries=0
    )


@pytest.fixture
async def client(site: Site, key: Key) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with client_of(site, key) as opened:
        yield opened


def ask(prompt: str = "hello", **more: Any) -> dict[str, Any]:
    usual = {"model": SMALL, "max_tokens": 64, "messages": [{"role": "user", "content": prompt}]}
    return usual | more


def pieces(call: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a call as deltas: its head, then its arguments in pieces of four characters."""
    function = call["function"]
    head = {**call, "function": {"name": function["name"], "arguments": ""}}
    parts = [function["arguments"][at : at + 4] for at in range(0, len(function["arguments"]), 4)]
    later = [{"index": call["index"], "function": {"arguments": part}} for part in parts]
    return [{"tool_calls": [each]} for each in (head, *later)]


def streaming(site: Site, deltas: list[dict[str, Any]], reason: str = "stop") -> None:
    script = Script(chunks=len(deltas), deltas=tuple(deltas), reason=reason)
    site.main.handler = lambda _seen: script


async def charged_like(site: Site, key: Key, usage: Any) -> None:
    """The one record and the ledger say what the client was told."""
    (record,) = await site.settled(key, 1)
    prompt = usage.input_tokens + usage.cache_read_input_tokens
    told = (prompt, usage.output_tokens)
    assert told == (record.usage.prompt_token_count, record.usage.completion_token_count)
    assert price_nusd(*told) == record.charge_nusd
    assert price_nusd(*told) == (await site.balance(key)).charged_nusd


async def test_plain_answer_is_charged_as_told(
    site: Site, client: anthropic.AsyncAnthropic, key: Key
) -> None:
    answer = await client.messages.create(**ask())

    assert [tokens(16)] == [block.text for block in answer.content if block.type == "text"]
    assert (SMALL, "end_turn", None) == (answer.model, answer.stop_reason, answer.stop_sequence)
    assert UUID7.fullmatch(answer.id.removeprefix("msg_"))
    assert (8, 4, 16) == (
        answer.usage.input_tokens,
        answer.usage.cache_read_input_tokens,
        answer.usage.output_tokens,
    )
    await charged_like(site, key, answer.usage)
    (record,) = await site.records(key)
    assert f"msg_{record.request_id}" == answer.id
    assert 64 == site.main.seen[0].body["max_tokens"]


async def test_stream_says_the_same_as_the_plain_answer(
    site: Site, client: anthropic.AsyncAnthropic, key: Key
) -> None:
    async with client.messages.stream(**ask()) as stream:
        parts = [part async for part in stream.text_stream]
        answer = await stream.get_final_message()

    assert tokens(16) == "".join(parts)
    assert [tokens(16)] == [block.text for block in answer.content if block.type == "text"]
    assert "end_turn" == answer.stop_reason
    assert (8, 4, 16) == (
        answer.usage.input_tokens,
        answer.usage.cache_read_input_tokens,
        answer.usage.output_tokens,
    )
    await charged_like(site, key, answer.usage)


@pytest.mark.parametrize(("usage", "exact"), [("every", True), ("extra;delay_ms:20", False)])
async def test_message_start_is_never_without_input_tokens(
    site: Site, client: anthropic.AsyncAnthropic, usage: str, exact: bool
) -> None:
    stream = await client.messages.create(**ask(f"fake=usage:{usage}"), stream=True)

    events = [event async for event in stream]

    assert "message_start" == events[0].type
    told = events[0].message.usage
    assert ((8, 4) if exact else (17, 0)) == (told.input_tokens, told.cache_read_input_tokens)


async def test_tool_loop_goes_round(site: Site, client: anthropic.AsyncAnthropic, key: Key) -> None:
    site.main.handler = lambda _seen: Script(
        reason="tool_calls", said={"content": None, "tool_calls": CALLS}
    )
    asked = ask(tools=[TOOL])

    first = await client.messages.create(**asked)
    site.main.handler = lambda _seen: Script()
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "rain"}
        for block in first.content
    ]
    messages = [
        *asked["messages"],
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    second = await client.messages.create(**(asked | {"messages": messages}))

    assert "tool_use" == first.stop_reason
    found = [(b.id, b.input) for b in first.content if b.type == "tool_use"]
    assert [("call_a", {"city": "Oslo"}), ("call_b", {"city": "Rome"})] == found
    assert "end_turn" == second.stop_reason
    _, call, *answers = site.main.seen[1].body["messages"]
    assert ["call_a", "call_b"] == [each["id"] for each in call["tool_calls"]]
    assert ["call_a", "call_b"] == [each["tool_call_id"] for each in answers]
    assert 2 == len(await site.settled(key, 2))


async def test_streamed_parallel_calls_are_told_apart(
    site: Site, client: anthropic.AsyncAnthropic
) -> None:
    deltas = [{"reasoning_content": "Hm."}, {"content": "I ask."}]
    streaming(site, [*deltas, *pieces(CALLS[0]), *pieces(CALLS[1])], "tool_calls")

    async with client.messages.stream(**ask(tools=[TOOL])) as stream:
        answer = await stream.get_final_message()

    kinds = [block.type for block in answer.content]
    inputs = [block.input for block in answer.content if block.type == "tool_use"]
    assert ["thinking", "text", "tool_use", "tool_use"] == kinds
    assert [{"city": "Oslo"}, {"city": "Rome"}] == inputs
    assert "tool_use" == answer.stop_reason


async def test_images_documents_and_system_reach_the_upstream(
    site: Site, client: anthropic.AsyncAnthropic
) -> None:
    blocks = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    ]
    asked = ask(system="Be brief.", messages=[{"role": "user", "content": blocks}])

    await client.messages.create(**asked, stop_sequences=["END"], extra_body={"temperature": 0.5})

    body = site.main.seen[0].body
    assert {"role": "system", "content": "Be brief."} == body["messages"][0]
    picture = body["messages"][1]["content"][1]
    assert f"data:image/png;base64,{PNG}" == picture["image_url"]["url"]
    assert (["END"], 0.5) == (body["stop"], body["temperature"])


async def test_structured_output_is_parsed_by_the_client(
    site: Site, client: anthropic.AsyncAnthropic
) -> None:
    said = {"content": '{"city":"Oslo","degrees":7}'}
    site.main.handler = lambda _seen: Script(said=said)

    answer = await client.messages.parse(**ask(), output_format=Weather)

    assert Weather(city="Oslo", degrees=7) == answer.parsed_output
    wanted = site.main.seen[0].body["response_format"]
    assert ("json_schema", True) == (wanted["type"], wanted["json_schema"]["strict"])
    assert {"city", "degrees"} == set(wanted["json_schema"]["schema"]["properties"])


async def test_tokens_are_counted_as_an_estimate_and_cost_nothing(
    site: Site, client: anthropic.AsyncAnthropic, key: Key
) -> None:
    asked = {"model": SMALL, "messages": ask("hello " * 100)["messages"]}

    raw = await client.messages.with_raw_response.count_tokens(**asked)
    large = await raw.parse()
    small = await client.messages.count_tokens(model=SMALL, messages=ask("hello")["messages"])

    assert "true" == raw.headers["X-Turnpike-Estimated"]
    assert (175, 10) == (large.input_tokens, small.input_tokens)
    assert ([], []) == (site.main.seen, await site.records(key))
    assert 0 == (await site.balance(key)).charged_nusd


@pytest.mark.parametrize("prefix", ["", "/api", "/vram", "/bud", "/runinfra"])
async def test_every_prefix_speaks_it_alike(site: Site, key: Key, prefix: str) -> None:
    async with client_of(site, key, prefix) as client:
        answer = await client.messages.create(**ask())
        stream = [event async for event in await client.messages.create(**ask(), stream=True)]
        with pytest.raises(anthropic.BadRequestError) as caught:
            await client.messages.create(**ask(max_tokens=0))

    assert answer.id.startswith("msg_")
    assert ("message_start", "message_stop") == (stream[0].type, stream[-1].type)
    assert "invalid_request_error" == caught.value.type
    assert 2 == len(await site.settled(key, 2))


ERRORS: dict[str, tuple[dict[str, Any], type[anthropic.APIStatusError], str]] = {
    "400": (ask(max_tokens=0), anthropic.BadRequestError, "invalid_request_error"),
    "400 by the upstream": (
        ask("fake=status:400;code:context_length_exceeded"),
        anthropic.BadRequestError,
        "invalid_request_error",
    ),
    "404": (ask(model="none"), anthropic.NotFoundError, "not_found_error"),
    "413": (ask("x" * 5_000_000), anthropic.RequestTooLargeError, "request_too_large"),
    "502": (ask("fake=status:500"), anthropic.InternalServerError, "api_error"),
    "504": (
        ask("fake=hang:headers_before", extra_body={"timeout_ms": 200}),
        anthropic.DeadlineExceededError,
        "timeout_error",
    ),
}


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize(("asked", "kind", "name"), ERRORS.values(), ids=ERRORS)
async def test_errors_raise_the_clients_own_classes(
    site: Site,
    client: anthropic.AsyncAnthropic,
    asked: dict[str, Any],
    kind: type[anthropic.APIStatusError],
    name: str,
    is_streaming: bool,
) -> None:
    with pytest.raises(kind) as caught:
        await client.messages.create(**asked, stream=is_streaming)

    body: Any = caught.value.body
    assert (name, "error") == (caught.value.type, body["type"])
    assert body["request_id"] == caught.value.response.headers["X-Request-Id"]
    assert caught.value.error_code


async def test_account_errors_raise_the_clients_own_classes(site: Site) -> None:
    nobody = Key("", "", "sk-tp-none")
    poor = await site.key(credit_nusd=0)
    limited = await site.key(requests_per_minute=1)
    mute = await site.key(scopes=["models"])

    async def refusal(key: Key) -> anthropic.APIStatusError:
        async with client_of(site, key) as client:
            with pytest.raises(anthropic.APIStatusError) as caught:
                await client.messages.create(**ask())
        return caught.value

    async with client_of(site, limited) as client:
        await client.messages.count_tokens(model=SMALL, messages=ask()["messages"])
    found = [await refusal(key) for key in (nobody, poor, mute, limited)]

    assert [401, 402, 403, 429] == [error.status_code for error in found]
    assert [
        "authentication_error",
        "billing_error",
        "permission_error",
        "rate_limit_error",
    ] == [error.type for error in found]
    assert "rate_limit_exceeded" == found[3].error_code
    assert "Retry-After" in found[3].response.headers


@pytest.mark.parametrize(
    "script", ["cut_after:5", "body:error_late;delay_ms:20", "body:junk_late;delay_ms:20"]
)
async def test_stream_that_breaks_ends_with_an_error(
    site: Site, client: anthropic.AsyncAnthropic, key: Key, script: str
) -> None:
    seen: list[str] = []

    async def read() -> None:
        stream = await client.messages.create(**ask(f"fake={script}"), stream=True)
        async for event in stream:
            seen.append(event.type)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(anthropic.APIStatusError) as caught:
        await read()

    assert "api_error" == caught.value.type
    assert "message_stop" not in seen
    (record,) = await site.settled(key, 1)
    assert "upstream_failed" == record.outcome


async def test_chunk_that_cannot_be_told_ends_the_stream_with_an_error(
    site: Site, client: anthropic.AsyncAnthropic, key: Key
) -> None:
    streaming(site, [{"content": "a"}, {"tool_calls": 5}, {"content": "b"}])

    async with client.messages.stream(**ask()) as stream:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await stream.until_done()

    assert ("api_error", "upstream_invalid_response") == (
        caught.value.type,
        caught.value.error_code,
    )
    await site.settled(key, 1)


@pytest.mark.parametrize("usage", ["every", "extra"])
async def test_client_that_leaves_pays_what_was_delivered(
    site: Site, client: anthropic.AsyncAnthropic, key: Key, usage: str
) -> None:
    asked = ask(f"fake=chunks:200;delay_ms:20;usage:{usage}", max_tokens=2000)
    seen = 0

    async with client.messages.stream(**asked) as stream:
        async for event in stream:
            seen += event.type == "text"
            if seen == 4:
                break
    await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    delivered = record.usage.completion_token_count
    assert site.main.seen[0].is_aborted
    assert "client_closed" == record.outcome
    assert 4 <= delivered <= site.main.seen[0].chunks_sent
    assert price_nusd(record.usage.prompt_token_count, delivered) == record.charge_nusd


async def test_blocking_client_is_served_as_well(open_site: OpenSite) -> None:
    site = await open_site()
    key = await site.key()

    def work() -> str:
        with (
            anthropic.Anthropic(base_url=site.url, auth_token=key.secret, max_retries=0) as client,
            client.messages.stream(**ask()) as stream,
        ):
            return "".join(stream.text_stream)

    assert tokens(16) == await asyncio.to_thread(work)
