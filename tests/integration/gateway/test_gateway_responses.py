"""The official OpenAI client's `responses` against a whole site, unmodified, with money in it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from gateway.settings import GatewaySettings
from tests.fakes.openai_script import Script, says
from tests.fixtures.catalogues import SMALL, price_nusd
from tests.fixtures.gateway import Key, Site
from tests.fixtures.responses import followed, response_events
from tests.fixtures.strict import strictly
from tests.integration.gateway.responses_wire import post
from tests.integration.gateway.wire import answer_of, tokens

REASONING = {"reasoning_content": "Oslo is cold."}
CALLS = [
    {"tool_calls": [{"index": 0, "id": "call_a", "type": "function",
                     "function": {"name": "weather", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":"Oslo"}'}}]},
    {"tool_calls": [{"index": 1, "id": "call_b", "type": "function",
                     "function": {"name": "clock", "arguments": "{}"}}]},
]  # fmt: skip
TOOLS: list[Any] = [
    {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}
    for name in ("weather", "clock")
]


class City(BaseModel):
    name: str
    people: int


@pytest.fixture
async def key(site: Site) -> Key:
    return await site.key(requests_per_minute=0, tokens_per_minute=0)


@pytest.fixture
async def client(site: Site, key: Key) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{site.url}/v1", api_key=key.secret, max_retries=0
    ) as opened:
        yield opened


async def charged_like(site: Site, key: Key, usage: Any) -> None:
    """The one record, the ledger and the upstream say what the client was told."""
    (record,) = await site.settled(key, 1)
    told = (usage.input_tokens, usage.output_tokens)
    upstream = site.main.seen[0].usage or {}
    assert told == (record.usage.prompt_token_count, record.usage.completion_token_count)
    assert told == (upstream["prompt_tokens"], upstream["completion_tokens"])
    assert sum(told) == usage.total_tokens
    assert price_nusd(*told) == record.charge_nusd == (await site.balance(key)).charged_nusd


async def test_answer_is_complete_and_charged_as_told(
    site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    raw = await client.responses.with_raw_response.create(
        model="small", input="hello", instructions="Be brief.", metadata={"a": "b"}
    )

    answer = raw.parse()
    strictly(Response, json.loads(raw.text))
    (record,) = await site.settled(key, 1)
    assert f"resp_{record.request_id}" == answer.id
    assert record.request_id == raw.headers["X-Request-Id"]
    assert ("completed", SMALL, tokens(16)) == (answer.status, answer.model, answer.output_text)
    assert {"a": "b"} == answer.metadata
    assert answer.usage is not None
    assert 4 == answer.usage.input_tokens_details.cached_tokens
    assert [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
    ] == site.main.seen[0].body["messages"]
    assert "metadata" not in site.main.seen[0].body
    await charged_like(site, key, answer.usage)


async def test_stream_says_the_same_and_is_charged_the_same(
    site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    text, last = "", None
    async for event in await client.responses.create(model=SMALL, input="hello", stream=True):
        text += event.delta if event.type == "response.output_text.delta" else ""
        last = event

    assert last is not None
    assert last.type == "response.completed"
    assert tokens(16) == text == last.response.output_text
    await charged_like(site, key, last.response.usage)


async def test_events_are_the_official_ones_on_the_wire(site: Site, key: Key) -> None:
    site.main.handler = lambda _seen: says(REASONING, {"content": "Wait."}, *CALLS)

    answer = await answer_of(post(site, key, stream=True))

    events = response_events(answer.body)
    kinds = [item["type"] for item in followed(events)["output"]]
    assert ["reasoning", "message", "function_call", "function_call"] == kinds
    assert "text/event-stream; charset=utf-8" == answer.headers["Content-Type"]
    assert "fake-openai" == answer.headers["X-Backend"]
    assert b"[DONE]" not in answer.body


async def test_stream_helper_builds_the_final_response(
    client: openai.AsyncOpenAI, site: Site
) -> None:
    site.main.handler = lambda _seen: says(REASONING, {"content": "Wait."}, *CALLS)

    async with client.responses.stream(model=SMALL, input="hello", tools=TOOLS) as stream:
        snapshots = [
            event.snapshot
            async for event in stream
            if event.type == "response.function_call_arguments.delta"
        ]
        final = await stream.get_final_response()

    calls = [item for item in final.output if item.type == "function_call"]
    assert ['{"city":"Oslo"}', "{}"] == snapshots == [call.arguments for call in calls]
    assert ["call_a", "call_b"] == [call.call_id for call in calls]
    assert "Wait." == final.output_text


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_text_is_parsed_into_a_model(
    client: openai.AsyncOpenAI, site: Site, is_streaming: bool
) -> None:
    site.main.handler = lambda _seen: says(
        {"content": '{"name":"Oslo",'}, {"content": '"people":7}'}
    )

    if is_streaming:
        async with client.responses.stream(model=SMALL, input="x", text_format=City) as stream:
            answer = await stream.get_final_response()
    else:
        answer = await client.responses.parse(model=SMALL, input="x", text_format=City)

    assert City(name="Oslo", people=7) == answer.output_parsed
    wanted = site.main.seen[0].body["response_format"]
    assert ("json_schema", True) == (wanted["type"], wanted["json_schema"]["strict"])
    assert {"name", "people"} == set(wanted["json_schema"]["schema"]["properties"])


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_tool_loop_keeps_calls_and_reasoning(
    client: openai.AsyncOpenAI, site: Site, key: Key, is_streaming: bool
) -> None:
    site.main.handler = lambda seen: (
        says(REASONING, *CALLS, reason="tool_calls") if seen.number == 1 else Script(chunks=2)
    )
    turns: list[Any] = [{"role": "user", "content": "How is Oslo?"}]

    async def turn() -> Any:
        if not is_streaming:
            return await client.responses.create(model=SMALL, input=turns, tools=TOOLS)
        async with client.responses.stream(model=SMALL, input=turns, tools=TOOLS) as stream:
            return await stream.get_final_response()

    first = await turn()
    turns += first.output
    turns += [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"{item.name} ok"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = await turn()

    asked, *said = site.main.seen[1].body["messages"]
    assert {"role": "user", "content": "How is Oslo?"} == asked
    assert [
        {
            "role": "assistant",
            "reasoning_content": "Oslo is cold.",
            "content": None,
            "tool_calls": [
                {"id": "call_a", "type": "function",
                 "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
                {"id": "call_b", "type": "function",
                 "function": {"name": "clock", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_a", "content": "weather ok"},
        {"role": "tool", "tool_call_id": "call_b", "content": "clock ok"},
    ] == said  # fmt: skip
    assert tokens(2) == second.output_text
    assert 2 == len(await site.settled(key, 2))


async def test_output_that_was_dumped_may_come_back(client: openai.AsyncOpenAI, site: Site) -> None:
    site.main.handler = lambda seen: (
        says(REASONING, {"content": "Wait."}, *CALLS) if seen.number == 1 else Script(chunks=1)
    )
    first = await client.responses.create(model=SMALL, input="x", tools=TOOLS)
    results: list[Any] = [
        {"type": "function_call_output", "call_id": name, "output": "1"}
        for name in ("call_a", "call_b")
    ]

    dumped: list[Any] = [item.model_dump() for item in first.output]
    await client.responses.create(model=SMALL, input=[*dumped, *results], tools=TOOLS)

    said = site.main.seen[1].body["messages"][0]
    assert ("Wait.", "Oslo is cold.", 2) == (
        said["content"],
        said["reasoning_content"],
        len(said["tool_calls"]),
    )


async def test_blocking_client_is_served_as_well(site: Site, key: Key) -> None:
    def work() -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{site.url}/v1", api_key=key.secret, max_retries=0) as client:
            plain = client.responses.create(model=SMALL, input="hello")
            with client.responses.stream(model=SMALL, input="hello") as stream:
                streamed = stream.get_final_response()
        return plain.output_text, streamed.output_text

    plain, streamed = await asyncio.to_thread(work)

    assert plain == streamed == tokens(16)
    assert 2 == len(await site.settled(key, 2))


async def test_answer_that_is_cut_short_says_so(client: openai.AsyncOpenAI, site: Site) -> None:
    site.main.handler = lambda _seen: says({"content": "Hel"}, reason="length")

    plain = await client.responses.create(model=SMALL, input="x", max_output_tokens=1)
    stream = await client.responses.create(model=SMALL, input="x", max_output_tokens=1, stream=True)
    *_, last = [event async for event in stream]

    assert 1 == site.main.seen[0].body["max_tokens"]
    assert last.type == "response.incomplete"
    for answer in (plain, last.response):
        assert answer.incomplete_details is not None
        assert "max_output_tokens" == answer.incomplete_details.reason
        assert "incomplete" == answer.status


async def test_errors_arrive_as_the_clients_own_exceptions(
    site: Site, client: openai.AsyncOpenAI
) -> None:
    create = client.responses.create
    with pytest.raises(openai.NotFoundError) as missing:
        await create(model="acme/none", input="x")
    with pytest.raises(openai.BadRequestError) as hosted:
        await create(model=SMALL, input="x", tools=[{"type": "web_search"}])
    with pytest.raises(openai.BadRequestError) as stateful:
        await create(model=SMALL, input="x", previous_response_id="resp_1")
    with pytest.raises(openai.BadRequestError) as long:
        await create(model=SMALL, input="x" * 200_000)
    with pytest.raises(openai.AuthenticationError) as unknown:
        await client.with_options(api_key="sk-tp-none").responses.create(model=SMALL, input="x")
    with pytest.raises(openai.NotFoundError) as gone:
        await client.responses.retrieve("resp_0192d3a0-7c00-7000-8000-000000000001")
    poor = await site.key(credit_nusd=0)
    with pytest.raises(openai.APIStatusError) as unpaid:
        await client.with_options(api_key=poor.secret).responses.create(model=SMALL, input="x")

    assert ("model_not_found", "model") == (missing.value.code, missing.value.param)
    assert ("unsupported_parameter", "tools[0].type") == (hosted.value.code, hosted.value.param)
    assert "previous_response_id" == stateful.value.param
    assert ("context_length_exceeded", "input") == (long.value.code, long.value.param)
    assert "invalid_api_key" == unknown.value.code
    assert "not_found" == gone.value.code
    assert (402, "insufficient_quota") == (unpaid.value.status_code, unpaid.value.code)
    assert [] == site.main.seen


@pytest.mark.parametrize("prefix", sorted(GatewaySettings().path_dialects))
@pytest.mark.parametrize("end", ["", "/"])
async def test_every_prefix_answers_whole_unless_asked_to_stream(
    site: Site, key: Key, prefix: str, end: str
) -> None:
    url = f"{site.url}{prefix}/responses{end}"
    body = {"model": SMALL, "input": "hello"}

    answer = await answer_of(site.http.post(url, json=body, headers=key.headers))
    listed = await answer_of(site.http.get(url, headers=key.headers))
    one = await answer_of(
        site.http.get(f"{site.url}{prefix}/responses/resp_1", headers=key.headers)
    )

    strictly(Response, answer.json)
    assert (200, 405, 404) == (answer.status, listed.status, one.status)
    assert tokens(16) == answer.json["output"][0]["content"][0]["text"]
