"""From a catalogue with Google's providers to adapters that answer."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from kit.clock import ManualClock
from services.router.adapters import Parts, opener, wanted
from services.router.catalog_build import build
from services.router.catalog_entries import CatalogueFile
from services.router.fleet import Wanted
from services.router.prompt_tools import open_prompt_tools
from services.router.providers.port import Provider
from services.router.settings import RouterSettings
from services.router.upstream import HttpLimits, open_http_pool
from tests.fakes.gcp_accounts import GcpAccounts, new_key, open_gcp_accounts
from tests.fakes.gemini_calls import ask, message_of
from tests.fakes.gemini_upstream import GeminiUpstream, open_gemini_upstream
from tests.fakes.openai_calls import make_body

PRICE = {"input_usd_per_million": "1", "output_usd_per_million": "2"}


def deployment(name: str, provider: str, upstream_model: str) -> dict[str, Any]:
    return {"name": name, "provider": provider, "upstream_model": upstream_model, "price": PRICE}


def catalogue_file(
    upstream: GeminiUpstream, accounts: GcpAccounts, key_file: Path, api_key: str = "AIza-key"
) -> CatalogueFile:
    vertex = {
        "kind": "vertex",
        "project": "my-project",
        "location": "europe-west1",
        "base_url": f"{upstream.origin}/v1",
    }
    deployments = [
        deployment("studio", "studio", "gemini-2.5-flash"),
        deployment("vertex", "vertex", "google/gemini-2.5-pro"),
        deployment("machine", "machine", "gemini-3-pro-preview"),
    ]
    return CatalogueFile.model_validate(
        {
            "providers": {
                "studio": {
                    "kind": "google_ai_studio",
                    "base_url": upstream.base_url,
                    "api_key": api_key,
                    "thinking": "none",
                },
                "vertex": {**vertex, "credentials": str(key_file)},
                "machine": {**vertex, "metadata_url": accounts.url},
            },
            "models": {"m": {"context_length": 1000, "deployments": deployments}},
        }
    )


@pytest.fixture
async def upstream() -> AsyncIterator[GeminiUpstream]:
    async with open_gemini_upstream() as opened:
        yield opened


@pytest.fixture
async def accounts() -> AsyncIterator[GcpAccounts]:
    async with open_gcp_accounts(new_key()) as opened:
        yield opened


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    settings = RouterSettings()
    async with open_http_pool(HttpLimits()) as pool, open_prompt_tools(settings) as tools:
        yield Parts(settings, pool, ManualClock(), tools)


async def test_each_deployment_answers_by_its_own_account(
    upstream: GeminiUpstream, accounts: GcpAccounts, parts: Parts, tmp_path: Path
) -> None:
    file = catalogue_file(upstream, accounts, accounts.key_file(tmp_path))
    async with AsyncExitStack() as stack:
        for item in wanted(file, build(file, generation=1)):
            provider: Provider = await stack.enter_async_context(opener(parts)(item))
            named = item.deployment
            batches = await ask(
                provider,
                make_body(),
                upstream_model=named.upstream_model,
                options=dict(named.options),
                is_streaming=False,
            )
            assert "Hello, world" == message_of(batches)["content"]

    studio, machine, vertex = sorted(upstream.seen, key=lambda seen: seen.path, reverse=True)
    base = "/v1/projects/my-project/locations/europe-west1/publishers/google/models"
    assert "/v1beta/models/gemini-2.5-flash:generateContent" == studio.path
    assert f"{base}/gemini-3-pro-preview:generateContent" == machine.path
    assert f"{base}/gemini-2.5-pro:generateContent" == vertex.path
    assert "AIza-key" == studio.headers["x-goog-api-key"]
    assert "Bearer ya29.fake-1" == vertex.headers["authorization"]
    assert "Bearer ya29.fake-2" == machine.headers["authorization"]
    assert "thinkingConfig" not in studio.body["generationConfig"]
    assert "thinkingConfig" in vertex.body["generationConfig"]


def fingerprints(items: list[Wanted]) -> list[str]:
    return [item.fingerprint for item in items]


async def test_new_key_makes_a_new_adapter(
    upstream: GeminiUpstream, accounts: GcpAccounts, tmp_path: Path
) -> None:
    path = tmp_path / "key.json"
    files = [catalogue_file(upstream, accounts, path, key) for key in ("one", "two")]

    first, second = (fingerprints(list(wanted(file, build(file, generation=1)))) for file in files)

    assert 1 == len(set(first) - set(second))
