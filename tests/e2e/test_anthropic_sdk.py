"""The official Anthropic client against a site whose models run on a real Triton."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from tests.fixtures.catalogues import price_nusd, triton_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
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
async def client(triton_site: Site, key: Key) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=triton_site.url, api_key=key.secret, max_retries=0
    ) as opened:
        yield opened


def ask(seed: int, *, model: str = "tiny-chat", max_tokens: int = 24) -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": max_tokens,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [{"role": "user", "content": "Why is the sea salty?"}],
        "extra_body": {"seed": seed, "temperature": 1.0, "top_k": 40},
    }


async def test_stream_starts_with_the_exact_input_and_says_what_the_plain_answer_says(
    triton_site: Site, client: anthropic.AsyncAnthropic, key: Key
) -> None:
    events = [event async for event in await client.messages.create(**ask(1), stream=True)]
    plain = await client.messages.create(**ask(1))

    first, last = events[0], events[-2]
    assert ("message_start", "message_delta") == (first.type, last.type)
    assert first.message.usage.input_tokens == last.usage.input_tokens == plain.usage.input_tokens
    assert last.usage.output_tokens == plain.usage.output_tokens
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    text = "".join(delta.text for delta in deltas if delta.type == "text_delta")
    assert [text] == [block.text for block in plain.content if block.type == "text"]
    told = (plain.usage.input_tokens, plain.usage.output_tokens)
    records = await triton_site.settled(key, 2)
    assert [price_nusd(*told)] * 2 == [record.charge_nusd for record in records]


async def test_client_that_leaves_cancels_triton_and_pays_what_was_delivered(
    triton_site: Site, client: anthropic.AsyncAnthropic, key: Key, triton: Triton
) -> None:
    seed = triton_site.gateway.port
    asked = ask(seed, model="tiny-paced", max_tokens=400)
    asked["extra_body"]["ignore_eos"] = True
    seen = 0

    async with client.messages.stream(**asked) as stream:
        async for event in stream:
            seen += event.type == "text"
            if seen == 10:
                break
        made = triton.journal(seed)[0]

    (record,) = await triton_site.settled(key, 1)
    delivered = record.usage.completion_token_count
    assert "client_closed" == record.outcome
    assert 9 <= delivered <= made + READ_AHEAD_TOKENS_MAX
    assert price_nusd(record.usage.prompt_token_count, delivered) == record.charge_nusd
