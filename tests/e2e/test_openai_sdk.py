"""The official OpenAI client against a site whose models run on a real Triton."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.fixtures.catalogues import price_nusd, triton_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.triton import Triton

pytestmark = pytest.mark.timeout(180)
READ_AHEAD_TOKENS_MAX = 8


@pytest.fixture(params=["grpc", "http"])
async def triton_site(open_site: OpenSite, triton: Triton, request: pytest.FixtureRequest) -> Site:
    return await open_site(Wish(catalogue=triton_catalogue(triton, request.param)))


@pytest.fixture
async def key(triton_site: Site) -> Key:
    return await triton_site.key(requests_per_minute=0, tokens_per_minute=0)


@pytest.fixture
async def client(triton_site: Site, key: Key) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{triton_site.url}/v1", api_key=key.secret, max_retries=0
    ) as opened:
        yield opened


def ask(seed: int, *, model: str = "tiny-chat", max_tokens: int = 24) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Why is the sea salty?"}]
    return {
        "model": model,
        "messages": messages,
        "seed": seed,
        "temperature": 1.0,
        "max_tokens": max_tokens,
    }


async def charged_like(site: Site, key: Key, usage: Any) -> None:
    """The one record and the ledger say what the client was told."""
    (record,) = await site.settled(key, 1)
    told = (usage.prompt_tokens, usage.completion_tokens)
    assert told == (record.usage.prompt_token_count, record.usage.completion_token_count)
    assert usage.prompt_tokens + usage.completion_tokens == usage.total_tokens
    assert price_nusd(*told) == record.charge_nusd
    assert price_nusd(*told) == (await site.balance(key)).charged_nusd


async def test_plain_answer_is_charged_as_told(
    triton_site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    answer = await client.chat.completions.create(**ask(1))

    assert answer.choices[0].message.content
    assert "tiny-chat" == answer.model
    assert answer.choices[0].finish_reason in ("stop", "length")
    await charged_like(triton_site, key, answer.usage)


async def test_stream_says_the_same_as_the_plain_answer(
    triton_site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    text, usage = "", None
    async for chunk in await client.chat.completions.create(**ask(2), stream=True):
        text += chunk.choices[0].delta.content or ""
        usage = chunk.usage or usage
    await charged_like(triton_site, key, usage)

    plain = await client.chat.completions.create(**ask(2))

    assert plain.choices[0].message.content == text


async def test_usage_that_is_asked_for_comes_last_and_alone(
    triton_site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    stream = await client.chat.completions.create(
        **ask(3), stream=True, stream_options={"include_usage": True}
    )

    chunks = [chunk async for chunk in stream]

    assert [] == chunks[-1].choices
    assert {None} == {chunk.usage for chunk in chunks[:-1]}
    await charged_like(triton_site, key, chunks[-1].usage)


async def test_blocking_client_is_served_as_well(triton_site: Site, key: Key) -> None:
    def work() -> tuple[str, str, list[str]]:
        with openai.OpenAI(
            base_url=f"{triton_site.url}/v1", api_key=key.secret, max_retries=0
        ) as client:
            plain = client.chat.completions.create(**ask(4))
            with client.chat.completions.create(**ask(4), stream=True) as stream:
                parts = [chunk.choices[0].delta.content or "" for chunk in stream]
            models = [model.id for model in client.models.list()]
        return plain.choices[0].message.content or "", "".join(parts), models

    plain, streamed, models = await asyncio.to_thread(work)

    assert plain == streamed != ""
    assert ["tiny-chat", "tiny-paced", "tiny-picture"] == models
    assert 2 == len(await triton_site.settled(key, 2))


async def test_models_can_be_listed_and_retrieved(client: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in client.models.list()]
    one = await client.models.retrieve("tiny-chat")

    assert ["tiny-chat", "tiny-paced", "tiny-picture"] == listed
    assert ("tiny-chat", "model") == (one.id, one.object)


async def test_errors_arrive_as_the_clients_own_exceptions(
    triton_site: Site, client: openai.AsyncOpenAI
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(**ask(5, model="acme/none"))
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("acme/none")
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(**{**ask(5), "temperature": 9})
    with pytest.raises(openai.AuthenticationError) as unknown:
        await client.with_options(api_key="sk-tp-none").chat.completions.create(**ask(5))
    poor = await triton_site.key(credit_nusd=0)
    with pytest.raises(openai.APIStatusError) as unpaid:
        await client.with_options(api_key=poor.secret).chat.completions.create(**ask(5))

    assert ("model_not_found", "model") == (missing.value.code, missing.value.param)
    assert ("invalid_value", "temperature") == (bad.value.code, bad.value.param)
    assert "invalid_api_key" == unknown.value.code
    assert (402, "insufficient_quota") == (unpaid.value.status_code, unpaid.value.code)
    assert unknown.value.request_id


async def test_closed_stream_stops_the_generation_and_is_charged_as_delivered(
    triton_site: Site, client: openai.AsyncOpenAI, key: Key, triton: Triton
) -> None:
    seed = 200_000 + triton_site.gateway.port
    seen = 0
    async with await client.chat.completions.create(
        **ask(seed, model="tiny-paced", max_tokens=400),
        stream=True,
        extra_body={"ignore_eos": True},
    ) as stream:
        async for chunk in stream:
            seen += bool(chunk.choices[0].delta.content)
            if seen == 10:
                break
        made = triton.journal(seed)[0]

    (record,) = await triton_site.settled(key, 1)
    delivered = record.usage.completion_token_count
    assert "client_closed" == record.outcome
    assert 9 <= delivered <= made + READ_AHEAD_TOKENS_MAX
    assert price_nusd(record.usage.prompt_token_count, delivered) == record.charge_nusd
    # The model makes 50 tokens in a second: were it still at work, this would not hold for long.
    loop = asyncio.get_running_loop()
    until_s = loop.time() + 1.0
    while loop.time() < until_s:
        assert triton.journal(seed)[0] <= made + READ_AHEAD_TOKENS_MAX
        await asyncio.sleep(0.05)


async def test_finished_stream_is_charged_by_the_models_own_count(
    triton_site: Site, client: openai.AsyncOpenAI, key: Key, triton: Triton
) -> None:
    seed = 100_000 + triton_site.gateway.port

    stream = await client.chat.completions.create(
        **ask(seed, model="tiny-paced", max_tokens=20), stream=True
    )
    usage = [chunk.usage async for chunk in stream][-1]

    await until(lambda: triton.journal(seed)[1])
    assert usage is not None
    assert triton.journal(seed)[0] == usage.completion_tokens
    await charged_like(triton_site, key, usage)


async def test_many_streams_at_once_keep_their_order_and_their_count(
    triton_site: Site, client: openai.AsyncOpenAI, key: Key
) -> None:
    async def streamed(seed: int) -> tuple[str, int, int]:
        text, usage = "", None
        async for chunk in await client.chat.completions.create(**ask(seed), stream=True):
            text += chunk.choices[0].delta.content or ""
            usage = chunk.usage or usage
        assert usage is not None
        return text, usage.prompt_tokens, usage.completion_tokens

    async def plain(seed: int) -> tuple[str, int, int]:
        answer = await client.chat.completions.create(**ask(seed))
        assert answer.usage is not None
        text = answer.choices[0].message.content or ""
        return text, answer.usage.prompt_tokens, answer.usage.completion_tokens

    streams = await asyncio.gather(*(streamed(seed) for seed in range(32)))
    plains = await asyncio.gather(*(plain(seed) for seed in range(32)))

    assert plains == streams
    assert 8 < len({text for text, _, _ in streams})
    records = await triton_site.settled(key, 64)
    told = sorted(price_nusd(prompt, answer) for _, prompt, answer in (*streams, *plains))
    assert told == sorted(record.charge_nusd for record in records)
