"""An account's own key in place of the provider's, as each kind of upstream sees it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from pydantic import SecretStr

from kit.clock import SystemClock
from services.router.adapters import Parts, opener, wanted
from services.router.catalog_build import build
from services.router.catalog_entries import CatalogueFile
from services.router.fleet import Wanted
from services.router.prompt_tools import open_prompt_tools
from services.router.provider_entries import KEYED_KINDS
from services.router.providers.own_credential import refuse_credential, without_owner
from services.router.providers.port import Call, Failure, Provider, ProviderError
from services.router.settings import RouterSettings
from services.router.upstream import HttpLimits, open_http_pool
from tests.fakes.anthropic_upstream import open_anthropic_upstream
from tests.fakes.bedrock_upstream import open_bedrock_upstream
from tests.fakes.gemini_upstream import open_gemini_upstream
from tests.fakes.media_upstream import open_media_upstream
from tests.fakes.openai_calls import make_body, make_call
from tests.fakes.openai_upstream import open_openai_upstream
from turnpike.router.v1 import router_pb2

OWNERS = "owners-canary-0001"
OWN = "own-canary-0002"
PRICE = {"input_usd_per_million": "1", "output_usd_per_million": "1"}
AWS = {"region": "eu-west-1"}
ENTRIES: dict[str, dict[str, Any]] = {
    "openai": {
        "kind": "openai_compat",
        "api_key": OWNERS,
        "headers": {"OpenAI-Organization": OWNERS, "api-key": OWNERS, "X-Other": "kept"},
    },
    "mistral": {"kind": "mistral", "api_key": OWNERS},
    "anthropic": {"kind": "anthropic", "api_key": OWNERS},
    "google": {"kind": "google_ai_studio", "api_key": OWNERS},
    "bedrock-key": {"kind": "bedrock", **AWS, "api_key": OWNERS},
    "bedrock-signed": {
        "kind": "bedrock",
        **AWS,
        "access_key_id": OWNERS,
        "secret_access_key": OWNERS,
    },
}
FAKES: dict[str, Any] = {
    "openai": open_openai_upstream,
    "mistral": open_openai_upstream,
    "anthropic": open_anthropic_upstream,
    "google": open_gemini_upstream,
    "bedrock-key": open_bedrock_upstream,
    "bedrock-signed": open_bedrock_upstream,
}
SHOWN = {
    "openai": ("authorization", f"Bearer {OWN}"),
    "mistral": ("authorization", f"Bearer {OWN}"),
    "anthropic": ("x-api-key", OWN),
    "google": ("x-goog-api-key", OWN),
    "bedrock-key": ("authorization", f"Bearer {OWN}"),
    "bedrock-signed": ("authorization", f"Bearer {OWN}"),
}


def item(entry: dict[str, Any], operation: str = "chat") -> Wanted:
    upstream_model = "gemini-2.5-flash" if "google" in entry["kind"] else "model"
    deployment = {"name": "d", "provider": "p", "upstream_model": upstream_model, "price": PRICE}
    model = {"context_length": 8192, "operations": [operation], "deployments": [deployment]}
    file = CatalogueFile.model_validate({"providers": {"p": entry}, "models": {"m": model}})
    (found,) = wanted(file, build(file, generation=1))
    return found


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def opened(stack: AsyncExitStack, found: Wanted) -> Provider:
    settings = RouterSettings()
    pool = await stack.enter_async_context(open_http_pool(HttpLimits(linger_s=5.0)))
    tools = await stack.enter_async_context(open_prompt_tools(settings))
    parts = Parts(settings, pool, SystemClock(), tools)
    return await stack.enter_async_context(opener(parts)(found))


async def ask(provider: Provider, call: Call) -> None:
    deadline_s = asyncio.get_running_loop().time() + 10
    body = make_body("hello")
    if call.operation == router_pb2.OPERATION_IMAGE:
        body = {name: raw for name, raw in body.items() if name == "model"}
        body["prompt"] = make_body("x")["model"]
    try:
        async for _ in provider.stream(call, body, deadline_s=deadline_s):
            pass
    except ProviderError as error:
        # The fake of AWS knows its own keys only; what it was shown is what counts.
        if error.failure is not Failure.CREDENTIALS:
            raise


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize("name", ENTRIES)
async def test_upstream_sees_the_accounts_key_and_nothing_of_the_owners(
    stack: AsyncExitStack, name: str, is_streaming: bool
) -> None:
    upstream: Any = await stack.enter_async_context(FAKES[name]())
    found = item({**ENTRIES[name], "base_url": upstream.base_url})
    provider = await opened(stack, found)
    usual = make_call(
        is_streaming=is_streaming,
        upstream_model=found.deployment.upstream_model,
        options=found.deployment.options,
    )

    await ask(provider, usual._replace(credential=SecretStr(OWN)))
    await ask(provider, usual)

    with_own, with_owners = upstream.seen
    header, value = SHOWN[name]
    assert value == with_own.headers[header]
    assert OWNERS not in str(with_own.headers)
    assert OWNERS in str(with_owners.headers)
    assert OWN not in str(with_owners.headers)
    if name == "openai":
        assert "kept" == with_own.headers["x-other"]


async def test_images_are_asked_for_with_the_accounts_key(stack: AsyncExitStack) -> None:
    upstream = await stack.enter_async_context(open_media_upstream())
    found = item({**ENTRIES["openai"], "base_url": upstream.base_url}, "image")
    provider = await opened(stack, found)
    call = make_call(
        is_streaming=False,
        operation=router_pb2.OPERATION_IMAGE,
        unit_count_max=1,
        credential=SecretStr(OWN),
    )

    await ask(provider, call)

    (seen,) = upstream.seen
    assert f"Bearer {OWN}" == seen.headers["authorization"]
    assert OWNERS not in str(seen.headers)


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "sagemaker", **AWS, "access_key_id": OWNERS, "secret_access_key": OWNERS},
        {"kind": "vertex", "project": "p-1"},
    ],
)
async def test_kind_without_a_plain_key_sends_nothing_in_its_place(
    stack: AsyncExitStack, entry: dict[str, Any]
) -> None:
    upstream = await stack.enter_async_context(open_openai_upstream())
    found = item({**entry, "base_url": upstream.base_url.removesuffix("/v1")})
    provider = await opened(stack, found)

    with pytest.raises(ProviderError) as caught:
        await ask(provider, make_call(credential=SecretStr(OWN)))

    assert entry["kind"] not in KEYED_KINDS
    assert Failure.UNSUPPORTED is caught.value.failure
    assert [] == upstream.seen


def test_headers_that_name_the_owner_stay_behind() -> None:
    names = ("Authorization", "API-Key", "x-api-key", "Cookie", "OpenAI-Project")

    assert {"x-a": "1"} == without_owner({**dict.fromkeys(names, OWNERS), "x-a": "1"})
    refuse_credential(None)
