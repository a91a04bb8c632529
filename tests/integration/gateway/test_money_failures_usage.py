"""What went wrong with money elsewhere and must not here, through a whole site.

The numbers are those of the list of known failures: here what is about usage, in
`test_money_failures` beside it what is about holds, one folder up what is about the ledger alone.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.anthropic_script import Script as ClaudeScript
from tests.fakes.anthropic_script import numbered
from tests.fakes.anthropic_upstream import open_anthropic_upstream
from tests.fakes.aws_server import KEY_ID, REGION, SECRET
from tests.fakes.bedrock_upstream import open_bedrock_upstream
from tests.fakes.gemini_upstream import open_gemini_upstream
from tests.fakes.openai_script import Script
from tests.fakes.openai_upstream import open_openai_upstream
from tests.fixtures.catalogues import PRICE, SMALL, TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import answer_of, connected, read_chunks, request_bytes
from turnpike.metering.v1 import metering_pb2
from turnpike.payment.v1 import payment_pb2
from turnpike.type.v1.usage_pb2 import USAGE_SOURCE_ESTIMATED, USAGE_SOURCE_UPSTREAM

PROMPT, COMPLETION = 12, 16
CHARGE = price_nusd(PROMPT, COMPLETION)
DEAR = {"input_usd_per_million": "15", "output_usd_per_million": "60"}


async def proven(site: Site, key: Key) -> metering_pb2.UsageRecord:
    """Return the one request that was metered, charged just so, and verified."""
    (record,) = await site.settled(key, 1)
    answer = await site.payment.VerifyLedger(payment_pb2.VerifyLedgerRequest())
    assert [] == list(answer.findings)
    assert (int(record.charge_nusd > 0), 0) == (answer.charge_count, answer.writeoff_nusd)
    return record


@dataclass(frozen=True, slots=True)
class Vendors:
    """A site with a model for each kind of provider, named after it."""

    site: Site
    kinds: tuple[str, ...]


@pytest.fixture
async def vendors(open_site: OpenSite) -> AsyncIterator[Vendors]:
    async with AsyncExitStack() as stack:
        openai = await stack.enter_async_context(open_openai_upstream())
        claude = await stack.enter_async_context(open_anthropic_upstream())
        claude.script = ClaudeScript(says=(numbered(9),))
        gemini = await stack.enter_async_context(open_gemini_upstream())
        bedrock = await stack.enter_async_context(open_bedrock_upstream())
        secret = {"api_key": "${UPSTREAM_KEY}"}
        aws = {"region": REGION, "access_key_id": KEY_ID, "secret_access_key": SECRET}
        providers: dict[str, dict[str, Any]] = {
            "openai_compat": {"base_url": openai.base_url, **secret},
            "anthropic": {"base_url": claude.base_url, **secret},
            "google_ai_studio": {"base_url": gemini.base_url, **secret},
            "bedrock": {"base_url": bedrock.base_url, **aws},
        }
        models = {
            kind: {
                "context_length": 200_000,
                "default_max_tokens": 256,
                "deployments": [
                    {"name": f"{kind}-1", "provider": kind, "price": PRICE,
                     "upstream_model": _UPSTREAM_MODELS.get(kind, "upstream-small")}
                ],
            }
            for kind in providers
        }  # fmt: skip
        named = {kind: {"kind": kind, **entry} for kind, entry in providers.items()}
        site = await open_site(Wish(catalogue={"providers": named, "models": models}))
        yield Vendors(site, tuple(providers))


_UPSTREAM_MODELS = {
    "google_ai_studio": "gemini-3-flash-preview",
    "bedrock": "anthropic.claude-3-haiku-20240307-v1:0",
}


async def test_9_streamed_answer_costs_what_the_plain_one_does_at_every_kind_of_provider(
    vendors: Vendors,
) -> None:
    site = vendors.site
    for kind in vendors.kinds:
        key = await site.key()
        for is_streaming in (False, True):
            answer = await answer_of(site.post(key, chat(model=kind, stream=is_streaming)))
            assert 200 == answer.status, (kind, answer.body)

        streamed, plain = await site.settled(key, 2)

        assert 0 < plain.charge_nusd == streamed.charge_nusd, kind
        assert plain.usage == streamed.usage, kind
        assert plain.charge_nusd == price_nusd(
            plain.usage.prompt_token_count, plain.usage.completion_token_count
        )


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize("usage", ["extra", "finish", "every", "twice", "null", "nototal"])
async def test_10_usage_that_is_repeated_or_cumulative_is_charged_once(
    open_site: OpenSite, usage: str, is_streaming: bool
) -> None:
    site = await open_site()
    key = await site.key()

    answer = await answer_of(site.post(key, chat(f"fake=usage:{usage}", stream=is_streaming)))

    assert 200 == answer.status
    assert CHARGE == (await proven(site, key)).charge_nusd


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_10_usage_that_is_absent_is_estimated_within_what_was_held(
    open_site: OpenSite, is_streaming: bool
) -> None:
    site = await open_site()
    key = await site.key()
    body = chat("fake=usage:never", stream=is_streaming, max_tokens=64)

    answer = await answer_of(site.post(key, body))

    assert 200 == answer.status
    record = await proven(site, key)
    counted = record.usage
    assert USAGE_SOURCE_ESTIMATED == counted.source
    assert 0 < counted.completion_token_count <= 64
    assert 0 < counted.prompt_token_count <= len(json.dumps(body)) // 2
    charge = price_nusd(counted.prompt_token_count, counted.completion_token_count)
    assert charge == record.charge_nusd


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_10_usage_of_zero_is_a_figure_and_not_a_missing_one(
    open_site: OpenSite, is_streaming: bool
) -> None:
    site = await open_site()
    key = await site.key()

    answer = await answer_of(site.post(key, chat("fake=usage:zero", stream=is_streaming)))

    assert 200 == answer.status
    record = await proven(site, key)
    assert USAGE_SOURCE_UPSTREAM == record.usage.source
    assert 0 == record.charge_nusd


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/responses", {"input": "hello"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 64}),
    ],
)
@pytest.mark.parametrize("is_streaming", [True, False])
async def test_11_bridge_between_interfaces_writes_one_event(
    open_site: OpenSite, path: str, asked: dict[str, Any], is_streaming: bool
) -> None:
    site = await open_site()
    key = await site.key()
    body = {"model": SMALL, "stream": is_streaming, **asked}

    answer = await answer_of(site.http.post(f"{site.url}{path}", json=body, headers=key.headers))

    assert 200 == answer.status, answer.body
    record = await proven(site, key)
    assert (CHARGE, "completed") == (record.charge_nusd, record.outcome)
    assert 1 == len(site.main.seen)


Leaving = Callable[[Site, Key], Any]


async def _before_the_first_byte(site: Site, key: Key) -> None:
    await _leave_when(site, key, "fake=hang:headers_before", lambda: len(site.main.seen) == 1)


async def _during_a_plain_answer(site: Site, key: Key) -> None:
    await _leave_when(
        site, key, "fake=hang:headers_after",
        lambda: len(site.main.seen) == 1 and site.main.seen[0].bytes_sent > 0,
    )  # fmt: skip


async def _in_the_middle_of_a_stream(site: Site, key: Key) -> None:
    asked = chat("fake=chunks:2000;delay_ms:5;usage:every", stream=True, max_tokens=2_000)
    async with site.post(key, asked) as response:
        await read_chunks(response, 5)
        response.close()


async def _after_the_last_token(site: Site, key: Key) -> None:
    asked = chat("fake=hang:done;usage:every", stream=True)
    async with site.post(key, asked) as response:
        await read_chunks(response, COMPLETION)
        response.close()


async def _leave_when(site: Site, key: Key, prompt: str, is_time: Callable[[], bool]) -> None:
    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, json.dumps(chat(prompt)).encode()))
        await until(is_time)


@pytest.mark.parametrize(
    ("leave", "tokens_min", "tokens_max"),
    [
        (_before_the_first_byte, 0, 0),
        (_during_a_plain_answer, 0, 0),
        (_in_the_middle_of_a_stream, 4, 2_000),
        (_after_the_last_token, COMPLETION, COMPLETION),
    ],
)
async def test_12_client_that_leaves_pays_what_was_handed_over_and_the_upstream_is_cancelled(
    open_site: OpenSite, leave: Leaving, tokens_min: int, tokens_max: int
) -> None:
    site = await open_site()
    key = await site.key()

    await leave(site, key)

    await until(lambda: site.main.seen[0].is_over)
    record = await proven(site, key)
    upstream = site.main.seen[0]
    assert tokens_min <= record.usage.completion_token_count <= tokens_max
    assert record.usage.completion_token_count <= upstream.chunks_sent
    charge = price_nusd(record.usage.prompt_token_count, record.usage.completion_token_count)
    assert (charge if tokens_max else 0) == record.charge_nusd
    assert upstream.chunks_sent < 2_000
    balance = await site.balance(key)
    assert 10**9 - record.charge_nusd == balance.available_nusd + balance.held_nusd


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_42_fallback_from_a_cheap_to_a_dear_provider_is_charged_as_served_and_was_held(
    open_site: OpenSite, is_streaming: bool
) -> None:
    async with open_openai_upstream() as main, open_openai_upstream() as spare:
        catalogue = usual_catalogue(main, spare)
        catalogue["models"][TWICE]["deployments"][1]["price"] = DEAR
        main.handler = lambda _seen: Script(cut_after=0)
        site = await open_site(Wish(catalogue=catalogue))
        key = await site.key()

        # The upstream uses exactly what was held.
        body = chat("use=max", model=TWICE, stream=is_streaming, max_tokens=200)
        answer = await answer_of(site.post(key, body))

        record = await proven(site, key)
    assert (200, "twice-spare") == (answer.status, record.deployment)
    assert 1 == len(main.seen) == len(spare.seen)
    used = record.usage
    assert 200 == used.completion_token_count
    dear = -(-(used.prompt_token_count * 15_000_000 + 200 * 60_000_000) // 1_000)
    assert dear == record.charge_nusd == (await site.balance(key)).charged_nusd
