"""openai-python, unmodified, against a whole site on a well-behaved upstream, with money in it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.seeds import SPOKEN
from tests.fakes.openai_model import OpenAiModel
from tests.fakes.openai_upstream import OpenAiUpstream
from tests.fixtures.catalogues import PRICE, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.rows.site import catalogue

ASK: dict[str, Any] = {"model": "sea", "messages": [{"role": "user", "content": "hello"}]}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
                "additionalProperties": False,
            },
            "strict": True,
        },
    }
    for name in ("weather", "clock")
]


class Place(BaseModel):
    city: str
    people: int


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel, openai_upstream: OpenAiUpstream) -> Site:
    found = catalogue(model)
    found["providers"]["scripted"] = {
        "kind": "openai_compat",
        "base_url": openai_upstream.base_url,
    }
    deployment = {"provider": "scripted", "upstream_model": "upstream-small", "price": PRICE}
    for operation in ("completion", "embedding"):
        found["models"][operation] = {
            "context_length": 8192,
            "operations": [operation],
            "deployments": [{"name": operation, **deployment}],
        }
    return await open_site(Wish(catalogue=found))


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
    """The one record and the ledger say what the client was told."""
    (record,) = await site.settled(key, 1)
    told = (usage.prompt_tokens, usage.total_tokens - usage.prompt_tokens)
    assert told == (record.usage.prompt_token_count, record.usage.completion_token_count)
    assert price_nusd(*told) == record.charge_nusd == (await site.balance(key)).charged_nusd


async def test_plain_answer_has_every_part(
    site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    answer = await client.chat.completions.create(**ASK)

    message = answer.choices[0].message
    assert (SPOKEN, None, None) == (message.content, message.refusal, message.tool_calls)
    assert ("sea", "stop", "fp_sea") == (
        answer.model,
        answer.choices[0].finish_reason,
        answer.system_fingerprint,
    )
    await charged_like(site, key, answer.usage)


async def test_stream_carries_usage_on_its_last_chunk(
    site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    stream = await client.chat.completions.create(**ASK, stream=True)

    chunks = [chunk async for chunk in stream]

    assert SPOKEN == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert "stop" == chunks[-1].choices[0].finish_reason
    await charged_like(site, key, chunks[-1].usage)


async def test_usage_that_is_asked_for_comes_alone(
    site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    stream = await client.chat.completions.create(
        **ASK, stream=True, stream_options={"include_usage": True}
    )

    chunks = [chunk async for chunk in stream]

    assert [] == chunks[-1].choices
    assert {None} == {chunk.usage for chunk in chunks[:-1]}
    await charged_like(site, key, chunks[-1].usage)


async def test_tool_loop_comes_to_an_answer(
    site: Site, client: openai.AsyncOpenAI, key: Key, model: OpenAiModel
) -> None:
    first = await client.chat.completions.create(**ASK, tools=TOOLS)
    message = first.choices[0].message
    results: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": "12 degrees"}
        for call in message.tool_calls or ()
    ]
    turns: Any = [*ASK["messages"], message, *results]
    second = await client.chat.completions.create(model="sea", messages=turns, tools=TOOLS)

    assert ("tool_calls", None) == (first.choices[0].finish_reason, message.content)
    assert ["call_0", "call_1"] == [result["tool_call_id"] for result in results]
    assert ["user", "assistant", "tool", "tool"] == [
        turn["role"] for turn in model.seen[1]["messages"]
    ]
    assert SPOKEN == second.choices[0].message.content
    assert 2 == len(await site.settled(key, 2))


async def test_streamed_parallel_calls_stay_apart(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(**ASK, tools=TOOLS) as stream:
        done = [
            (event.index, event.name, event.parsed_arguments)
            async for event in stream
            if event.type == "tool_calls.function.arguments.done"
        ]
        final = await stream.get_final_completion()

    wanted = [(0, "weather", {"city": "Paris"}), (1, "clock", {"city": "Paris"})]
    assert wanted == done
    calls = final.choices[0].message.tool_calls or []
    assert [{"city": "Paris"}] * 2 == [json.loads(call.function.arguments) for call in calls]


async def test_answer_is_parsed_into_a_model(
    client: openai.AsyncOpenAI, model: OpenAiModel
) -> None:
    answer = await client.chat.completions.parse(**ASK, response_format=Place)

    assert Place(city="Paris", people=7) == answer.choices[0].message.parsed
    assert "json_schema" == model.seen[0]["response_format"]["type"]


async def test_stream_is_parsed_into_a_model(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(**ASK, response_format=Place) as stream:
        parts = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()

    assert {"city": "Paris", "people": 7} == json.loads("".join(parts))
    assert Place(city="Paris", people=7) == final.choices[0].message.parsed


async def test_answer_that_breaks_its_schema_is_an_error_and_free(
    site: Site, client: openai.AsyncOpenAI, key: Key, model: OpenAiModel
) -> None:
    model.is_lying = True

    with pytest.raises(openai.InternalServerError) as broken:
        await client.chat.completions.parse(**ASK, response_format=Place)

    (record,) = await site.settled(key, 1)
    assert (502, 0) == (broken.value.status_code, record.charge_nusd)


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_choices_come_with_log_probabilities(
    client: openai.AsyncOpenAI, is_streaming: bool
) -> None:
    wish: dict[str, Any] = {**ASK, "n": 3, "logprobs": True, "top_logprobs": 2}
    if is_streaming:
        async with client.chat.completions.stream(**wish) as stream:
            choices: list[Any] = list((await stream.get_final_completion()).choices)
    else:
        choices = list((await client.chat.completions.create(**wish)).choices)

    assert [0, 1, 2] == [choice.index for choice in choices]
    for choice in choices:
        tokens = choice.logprobs.content
        assert SPOKEN == choice.message.content == "".join(token.token for token in tokens)
        assert {2} == {len(token.top_logprobs) for token in tokens}


async def test_refusal_and_reasoning_are_shown(client: openai.AsyncOpenAI) -> None:
    refuse: Any = [{"role": "user", "content": "refuse"}]
    think: Any = [{"role": "user", "content": "think"}]

    refused = await client.chat.completions.create(model="sea", messages=refuse)
    thought = await client.chat.completions.create(model="sea", messages=think)

    assert ("I will not.", None) == (
        refused.choices[0].message.refusal,
        refused.choices[0].message.content,
    )
    assert "Let me think." == getattr(thought.choices[0].message, "reasoning_content", None)


@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_abort_in_mid_stream_reaches_the_upstream_and_is_charged_exactly(
    way: str, site: Site, client: openai.AsyncOpenAI, key: Key, model: OpenAiModel
) -> None:
    model.pause_s = 0.3
    got = 0
    enough = asyncio.Event()

    async def read() -> None:
        nonlocal got
        async with await client.chat.completions.create(**ASK, stream=True) as stream:
            async for chunk in stream:
                got += bool(chunk.choices[0].delta.content)
                if got == 3:
                    enough.set()
                    if way == "close":
                        return

    task = asyncio.create_task(read())
    await asyncio.wait_for(enough.wait(), 15)
    if way == "cancel":
        task.cancel()
    await asyncio.wait([task], timeout=15)

    await until(lambda: model.aborted_count == 1)
    (record,) = await site.settled(key, 1)
    assert ("client_closed", got) == (record.outcome, record.usage.completion_token_count)
    usage = record.usage
    told = price_nusd(usage.prompt_token_count, usage.completion_token_count)
    assert told == record.charge_nusd == (await site.balance(key)).charged_nusd


async def test_models_are_listed_and_retrieved(client: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    one = await client.models.retrieve("sea:salt")

    assert {"sea", "sea:salt", "bare", "turnpike::function_name::assistant"} <= set(listed)
    assert ("sea:salt", "model") == (one.id, one.object)


async def test_headers_are_there_to_be_read(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        **ASK, store=True, extra_headers={"X-Request-Id": "mine"}
    )
    async with client.chat.completions.with_streaming_response.create(
        **ASK, stream=True
    ) as streamed:
        kind = streamed.headers["Content-Type"]
        parts = [line async for line in streamed.iter_lines() if line]

    assert SPOKEN == raw.parse().choices[0].message.content
    assert ("sea", "fake", "mine") == (
        raw.headers["X-Route-Model"],
        raw.headers["X-Backend"],
        raw.headers["X-Client-Request-Id"],
    )
    assert raw.headers["X-Request-Id"] == raw.request_id
    assert raw.parse().id == f"chatcmpl-{raw.request_id}"
    assert ("text/event-stream; charset=utf-8", "data: [DONE]") == (kind, parts[-1])


async def test_errors_are_the_clients_own(site: Site, client: openai.AsyncOpenAI) -> None:
    create = client.chat.completions.create
    few = await site.key(requests_per_minute=1)
    poor, reader = await site.key(credit_nusd=0), await site.key(scopes=["models"])
    hurried = client.with_options(api_key=few.secret).chat.completions
    await hurried.create(**ASK)

    with pytest.raises(openai.BadRequestError) as bad:
        await create(**{**ASK, "temperature": 9})
    with pytest.raises(openai.AuthenticationError) as unknown:
        await client.with_options(api_key="sk-tp-none").chat.completions.create(**ASK)
    with pytest.raises(openai.APIStatusError) as unpaid:
        await client.with_options(api_key=poor.secret).chat.completions.create(**ASK)
    with pytest.raises(openai.PermissionDeniedError) as scoped:
        await client.with_options(api_key=reader.secret).chat.completions.create(**ASK)
    with pytest.raises(openai.NotFoundError) as missing:
        await create(**{**ASK, "model": "none"})
    with pytest.raises(openai.RateLimitError) as often:
        await hurried.create(**ASK)

    assert ("invalid_value", "temperature") == (bad.value.code, bad.value.param)
    assert "invalid_api_key" == unknown.value.code
    assert (402, "insufficient_quota") == (unpaid.value.status_code, unpaid.value.code)
    assert "key_scope" == scoped.value.code
    assert ("model_not_found", "model") == (missing.value.code, missing.value.param)
    assert "rate_limit_exceeded" == often.value.code
    assert often.value.response.headers["Retry-After"]


async def test_blocking_client_is_served_as_well(site: Site, key: Key) -> None:
    def work() -> tuple[Any, ...]:
        with openai.OpenAI(base_url=f"{site.url}/v1", api_key=key.secret, max_retries=0) as client:
            chat = client.chat.completions
            plain = chat.create(**ASK).choices[0].message.content
            with chat.create(**ASK, stream=True) as stream:
                parts = [chunk.choices[0].delta.content or "" for chunk in stream]
            parsed = chat.parse(**ASK, response_format=Place).choices[0].message.parsed
            with chat.stream(**ASK, tools=TOOLS) as helper:
                calls = helper.get_final_completion().choices[0].message.tool_calls or []
            names = [model.id for model in client.models.list()]
        return plain, "".join(parts), parsed, [call.function.name for call in calls], names

    plain, streamed, parsed, calls, names = await asyncio.to_thread(work)

    assert SPOKEN == plain == streamed
    assert Place(city="Paris", people=7) == parsed
    assert ["weather", "clock"] == calls
    assert "sea" in names
    assert 4 == len(await site.settled(key, 4))


async def test_vectors_and_texts_are_served_as_well(
    site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    prompt = "Once upon a time there was a sea"

    vectors = await client.embeddings.create(model="embedding", input=["one two three", "x" * 40])
    text = await client.completions.create(model="completion", prompt=prompt, max_tokens=16)
    stream = await client.completions.create(
        model="completion", prompt=prompt, max_tokens=16, stream=True
    )
    parts = [chunk.choices[0].text async for chunk in stream]

    assert [0, 1] == [entry.index for entry in vectors.data]
    assert 1.0 == vectors.data[0].embedding[0]
    assert text.choices[0].text == "".join(parts) != ""
    assert 3 == len(await site.settled(key, 3))


async def test_response_is_made_of_the_same_answer(
    client: openai.AsyncOpenAI, model: OpenAiModel
) -> None:
    answer = await client.responses.create(model="sea", input="hello")
    parsed = await client.responses.parse(model="sea", input="hello", text_format=Place)

    assert SPOKEN == answer.output_text
    assert Place(city="Paris", people=7) == parsed.output_parsed
    assert 2 == len(model.seen)
