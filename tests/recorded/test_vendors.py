"""Every chat answer has OpenAI's form, whatever form its vendor gave it; what cannot be is said."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from services.router.capabilities import BY_ENGINE
from tests.fakes.vendor_manners import MANNERS
from tests.fakes.vendors import VendorUpstream, open_vendor
from tests.fixtures.catalogues import PRICE
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.fixtures.vendors import ENGINES
from tests.integration.gateway.wire import answer_of
from tests.recorded.asks import CHATS, check_stream, recorded
from tests.recorded.forms import check

NEEDS: Final = {
    "tools": {"tools", "parallel_tool_calls"},
    "parallel tools": {"tools"},
    "tool result": {"tools"},
    "choices": {"n"},
    "log probabilities": {"n", "logprobs"},
}


@pytest.fixture(params=MANNERS)
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[VendorUpstream]:
    async with open_vendor(request.param) as opened:
        yield opened


@pytest.fixture
async def site(open_site: OpenSite, vendor: VendorUpstream) -> Site:
    provider = {"kind": vendor.name, "base_url": vendor.base_url, "api_key": "sk-vendor"}
    if vendor.name in ENGINES:
        provider |= {"kind": "openai_compat", "engine": vendor.name}
    deployment = {"name": "d", "provider": "one", "upstream_model": "upstream-plain"}
    models = {"sea": {"context_length": 8192, "deployments": [{**deployment, "price": PRICE}]}}
    return await open_site(Wish(catalogue={"providers": {"one": provider}, "models": models}))


@pytest.fixture
async def key(site: Site) -> Key:
    return await site.key(requests_per_minute=0, tokens_per_minute=0)


@pytest.mark.parametrize("is_streaming", [True, False], ids=["streamed", "whole"])
async def test_every_chat_answer_is_openais(
    vendor: VendorUpstream, site: Site, key: Key, *, is_streaming: bool
) -> None:
    more: dict[str, Any] = {"stream": True} if is_streaming else {}
    more |= {"allow_external": True}
    completed = 0
    for name, ask in CHATS.items():
        body = ask.body(model="sea", **more)
        is_possible = BY_ENGINE[vendor.name].issuperset(NEEDS.get(name, ()))
        if not is_possible or (vendor.name, name) == ("deepseek", "schema"):
            call = site.http.post(f"{site.url}/v1/chat/completions", json=body, headers=key.headers)
            refused = await answer_of(call)
            assert (400, "unsupported_parameter") == (refused.status, refused.json["error"]["code"])
            continue

        found, text = await recorded(site, key, "/chat/completions", body, kind="chat")

        completed += 1
        assert ask.says in text, (name, text)
        for one in found:
            check(one)
        if is_streaming:
            check_stream(found)
    assert completed > 4
    # What only the vendor's codec can refuse has been journalled by then.
    is_late = vendor.name == "deepseek"
    outcomes = [record.outcome for record in await site.settled(key, completed + is_late)]
    assert ["completed"] * completed + ["refused"] * is_late == sorted(outcomes)


@pytest.mark.parametrize("is_streaming", [True, False], ids=["streamed", "whole"])
async def test_what_a_vendor_leaves_aside_is_told_in_a_header(
    vendor: VendorUpstream, site: Site, key: Key, *, is_streaming: bool
) -> None:
    body = CHATS["text"].body(model="sea", stream=is_streaming, store=True)

    call = site.http.post(f"{site.url}/v1/chat/completions", json=body, headers=key.headers)
    answer = await answer_of(call)

    ignored = "" if vendor.name in ("openai", "vllm") else "store"
    assert ignored == answer.headers.get("X-Turnpike-Ignored", "")
    assert ("store" in vendor.seen[-1]) == (not ignored)
