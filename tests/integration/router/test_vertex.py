"""Vertex AI against scripted upstreams on real sockets: both forms, and who we are there."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from anthropic import AsyncAnthropicVertex
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from kit.clock import ManualClock
from services.router.google_entries import VertexEntry
from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.providers.google.adapter import VertexAccount, open_vertex
from services.router.providers.port import Failure, Provider, ProviderError
from services.router.upstream import HttpLimits, HttpPool, open_http_pool
from tests.fakes.anthropic_upstream import AnthropicUpstream
from tests.fakes.gcp_accounts import GcpAccounts, new_key, open_gcp_accounts
from tests.fakes.gemini_calls import TOOLS, ask, message_of
from tests.fakes.gemini_oracle import read_request
from tests.fakes.gemini_script import Script, calls, status, text
from tests.fakes.gemini_upstream import GeminiUpstream, open_gemini_upstream
from tests.fakes.openai_calls import make_body
from tests.fakes.openai_upstream import OpenAiUpstream
from turnpike.router.v1 import router_pb2

BASE = "/v1/projects/my-project/locations/europe-west1"


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return new_key()


@pytest.fixture
async def accounts(key: RSAPrivateKey) -> AsyncIterator[GcpAccounts]:
    async with open_gcp_accounts(key) as opened:
        yield opened


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(HttpLimits()) as opened:
        yield opened


@pytest.fixture
async def upstream() -> AsyncIterator[GeminiUpstream]:
    async with open_gemini_upstream() as opened:
        yield opened


class Opener:
    """Opens providers as the catalogue's entries say."""

    def __init__(self, stack: AsyncExitStack, pool: HttpPool, accounts: GcpAccounts) -> None:
        self.stack = stack
        self.pool = pool
        self.accounts = accounts

    async def open(self, origin: str, model: str, **fields: Any) -> Provider:
        entry = VertexEntry.model_validate(
            {
                "kind": "vertex",
                "project": "my-project",
                "location": "europe-west1",
                "base_url": f"{origin}/v1",
                "metadata_url": self.accounts.url,
                **fields,
            }
        )
        account = VertexAccount(
            base_url=entry.base_url_of_project,
            credentials=entry.credentials,
            metadata_url=entry.metadata_url,
            claude_version=entry.claude_version,
        )
        fetcher = ImageFetcher(FetchRules())
        self.stack.callback(fetcher.close)
        return await self.stack.enter_async_context(
            open_vertex(
                account,
                entry.form_of(model),
                pool=self.pool,
                fetcher=fetcher,
                clock=ManualClock(),
            )
        )


@pytest.fixture
async def opener(pool: HttpPool, accounts: GcpAccounts) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:
        yield Opener(stack, pool, accounts)


async def test_gemini_is_asked_with_the_machines_token(
    opener: Opener, upstream: GeminiUpstream
) -> None:
    model = "google/gemini-2.5-pro"
    provider = await opener.open(upstream.origin, model)
    upstream.answers(calls(("weather", {"city": "Rome"})))

    for is_streaming in (True, False):
        batches = await ask(
            provider, make_body(tools=TOOLS), upstream_model=model, is_streaming=is_streaming
        )
        assert "weather" == message_of(batches)["tool_calls"][0]["function"]["name"]
        assert (12, 5) == (
            batches[-1].finish.usage.prompt_token_count,
            batches[-1].finish.usage.completion_token_count,
        )

    stream, plain = upstream.seen
    path = f"{BASE}/publishers/google/models/gemini-2.5-pro"
    assert (f"{path}:streamGenerateContent?alt=sse", f"{path}:generateContent") == (
        stream.path,
        plain.path,
    )
    assert "Bearer ya29.fake-1" == stream.headers["authorization"] == plain.headers["authorization"]
    read_request(plain.body)


async def test_gemini_is_asked_with_a_service_account(
    opener: Opener, upstream: GeminiUpstream, accounts: GcpAccounts, tmp_path: Path
) -> None:
    path = accounts.key_file(tmp_path)
    provider = await opener.open(upstream.origin, "gemini-2.5-pro", credentials=str(path))

    await ask(provider, make_body())

    assert "Bearer ya29.fake-1" == upstream.seen[0].headers["authorization"]
    assert 1 == len(accounts.claims)


async def test_refused_token_is_dropped(opener: Opener, upstream: GeminiUpstream) -> None:
    provider = await opener.open(upstream.origin, "gemini-2.5-pro")
    upstream.answers(Script(status=401, error=status(401, "UNAUTHENTICATED")))
    with pytest.raises(ProviderError) as caught:
        await ask(provider, make_body())
    upstream.answers(text("x"))

    await ask(provider, make_body())

    tokens = [seen.headers["authorization"] for seen in upstream.seen]
    assert Failure.CREDENTIALS is caught.value.failure
    assert ["Bearer ya29.fake-1", "Bearer ya29.fake-2"] == tokens


async def test_nobody_is_asked_without_a_token(
    opener: Opener, upstream: GeminiUpstream, accounts: GcpAccounts
) -> None:
    accounts.mode = "refuse"
    provider = await opener.open(upstream.origin, "gemini-2.5-pro")

    with pytest.raises(ProviderError) as caught:
        await ask(provider, make_body())

    assert Failure.CREDENTIALS is caught.value.failure
    assert [] == upstream.seen
    assert await provider.probe()


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_openai_form_is_forwarded_with_a_token(
    opener: Opener, openai_upstream: OpenAiUpstream, is_streaming: bool
) -> None:
    model = "openai/meta/llama-4-scout-maas"
    provider = await opener.open(openai_upstream.base_url.removesuffix("/v1"), model)
    options = {"engine": "openai"}
    body = make_body("shape=c3-d0 prompt=7 use=max", chat_template_kwargs={"a": 1})

    batches = await ask(
        provider, body, upstream_model=model, is_streaming=is_streaming, options=options
    )

    seen = openai_upstream.seen[0]
    ignored = [name for batch in batches for name in batch.route.ignored_parameters]
    assert f"{BASE}/endpoints/openapi/chat/completions" == seen.path
    assert "meta/llama-4-scout-maas" == seen.body["model"]
    assert "Bearer ya29.fake-1" == seen.headers["authorization"]
    assert (7, 100) == (
        batches[-1].finish.usage.prompt_token_count,
        batches[-1].finish.usage.completion_token_count,
    )
    assert ["chat_template_kwargs"] == ignored


async def test_refusal_of_the_openai_form_is_googles(
    opener: Opener, upstream: GeminiUpstream
) -> None:
    provider = await opener.open(upstream.origin, "openai/x")
    upstream.answers(Script(status=429, error=[status(429, "RESOURCE_EXHAUSTED")]))

    with pytest.raises(ProviderError) as caught:
        await ask(provider, make_body(), options={"engine": "openai"})

    assert Failure.RATE_LIMITED is caught.value.failure


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_claude_is_asked_as_anthropics_own_client_does(
    opener: Opener, anthropic_upstream: AnthropicUpstream, is_streaming: bool
) -> None:
    model = "anthropic/claude-opus-4-6@20260101"
    provider = await opener.open(
        anthropic_upstream.base_url,
        model,
        claude_version="2026-10-21",
        claude_sampling="ignored",
    )
    options = {"engine": "anthropic", "thinking": "none"}

    batches = await ask(
        provider, make_body(), upstream_model=model, is_streaming=is_streaming, options=options
    )
    async with AsyncAnthropicVertex(
        region="europe-west1",
        project_id="my-project",
        access_token="ya29.x",
        base_url=f"{anthropic_upstream.base_url}/v1",
        max_retries=0,
    ) as client:
        stream: Any = await client.messages.create(
            model="claude-opus-4-6@20260101",
            max_tokens=100,
            messages=[{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
            stream=is_streaming,
        )
        if is_streaming:
            assert [event async for event in stream]

    ours, theirs = anthropic_upstream.seen
    assert message_of(batches)["content"]
    assert unquote(theirs.path) == unquote(ours.path)
    assert theirs.body.pop("stream", False) == ours.body.pop("stream", False) == is_streaming
    assert theirs.body == ours.body
    assert "Bearer ya29.fake-1" == ours.headers["authorization"]
    told = anthropic_upstream.seen[0].usage
    assert told is not None
    assert told["output_tokens"] == batches[-1].finish.usage.completion_token_count


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (status(429, "RESOURCE_EXHAUSTED"), Failure.RATE_LIMITED),
        (status(400, "FAILED_PRECONDITION"), Failure.CREDENTIALS),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "secret"}},
            Failure.UNAVAILABLE,
        ),
    ],
)
async def test_claude_is_refused_by_either_maker(
    opener: Opener, upstream: GeminiUpstream, body: dict[str, Any], wanted: Failure
) -> None:
    provider = await opener.open(upstream.origin, "anthropic/claude-x")
    code = body["error"].get("code", 529)
    upstream.answers(Script(status=code, error=body))

    with pytest.raises(ProviderError) as caught:
        await ask(
            provider,
            make_body(),
            upstream_model="anthropic/claude-x",
            options={"engine": "anthropic"},
        )

    assert wanted is caught.value.failure
    assert "secret" not in caught.value.message


async def test_vectors_are_predicted(opener: Opener, upstream: GeminiUpstream) -> None:
    provider = await opener.open(upstream.origin, "gemini-embedding-001")
    statistics = {"token_count": 3, "truncated": False}
    prediction = {"embeddings": {"values": [0.5, 1.0], "statistics": statistics}}
    upstream.answers(json.dumps({"predictions": [prediction]}).encode())

    batches = await ask(
        provider,
        make_body(input="a"),
        upstream_model="gemini-embedding-001",
        is_streaming=False,
        operation=router_pb2.OPERATION_EMBEDDING,
    )

    assert [0.5, 1.0] == json.loads(batches[0].completion)["data"][0]["embedding"]
    assert 3 == batches[0].finish.usage.prompt_token_count
    assert upstream.seen[0].path.endswith("/publishers/google/models/gemini-embedding-001:predict")
