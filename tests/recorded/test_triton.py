"""Every answer of a model on a real Triton has OpenAI's form, over both transports."""

import copy
from typing import Any

import pytest

from tests.fixtures.catalogues import PRICE, triton_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.fixtures.triton import Triton
from tests.integration.gateway.wire import answer_of
from tests.recorded.asks import check_stream, recorded
from tests.recorded.forms import Recorded, check, check_events

pytestmark = pytest.mark.timeout(180)
MESSAGES = [{"role": "user", "content": "Why is the sea salty?"}]
CHAT: dict[str, Any] = {"model": "tiny-chat", "messages": MESSAGES, "seed": 1, "max_tokens": 8}
TEXT: dict[str, Any] = {"model": "tiny-chat", "prompt": "Why is", "seed": 1, "max_tokens": 8}
STREAMS: tuple[dict[str, Any], ...] = (
    {},
    {"stream": True},
    {"stream": True, "stream_options": {"include_usage": True}},
)


@pytest.fixture(params=["grpc", "http"])
async def site(open_site: OpenSite, triton: Triton, request: pytest.FixtureRequest) -> Site:
    catalogue = triton_catalogue(triton, request.param)
    catalogue["models"]["tiny-chat"]["operations"] = ["chat", "completion"]
    for name in ("tiny-trtllm", "tiny-llmapi"):
        model = copy.deepcopy(catalogue["models"]["tiny-chat"])
        model["deployments"][0] |= {"name": f"{name}-local", "upstream_model": name}
        catalogue["models"][name] = model
    deployment = {"name": "embed", "provider": "local", "upstream_model": "tiny-embed"}
    catalogue["models"]["tiny-embed"] = {
        "context_length": 2048,
        "prompt_tokens_per_byte_max": "1",
        "operations": ["embedding"],
        "deployments": [{**deployment, "price": PRICE, "tensors": {}}],
    }
    return await open_site(Wish(catalogue=catalogue))


@pytest.fixture
async def key(site: Site) -> Key:
    return await site.key(requests_per_minute=0, tokens_per_minute=0)


@pytest.mark.parametrize("model", ["tiny-trtllm", "tiny-llmapi"])
@pytest.mark.parametrize("stream", STREAMS)
async def test_every_answer_of_another_contract_is_openais(
    model: str, stream: dict[str, Any], site: Site, key: Key
) -> None:
    asked = {**CHAT, "model": model, "stop": "a", **stream}

    found, _ = await recorded(site, key, "/chat/completions", asked, kind="chat")

    for one in found:
        check(one)
    if stream:
        check_stream(found)
    (record,) = await site.settled(key, 1)
    assert record.usage.completion_token_count >= 1
    assert record.charge_nusd > 0


@pytest.mark.parametrize(
    ("path", "kind", "bodies"),
    [
        (
            "/chat/completions",
            "chat",
            [
                CHAT,
                {**CHAT, "max_tokens": 200},
                {**CHAT, "stop": "a"},
                {**CHAT, "seed": None},
                {**CHAT, "n": 2, "temperature": 1.5},
                {**CHAT, "logprobs": True, "top_logprobs": 2},
            ],
        ),
        ("/completions", "text", [TEXT, {**TEXT, "stop": "a"}, {**TEXT, "n": 2}]),
    ],
)
async def test_every_answer_is_openais(
    path: str, kind: str, bodies: list[dict[str, Any]], site: Site, key: Key
) -> None:
    for body in bodies:
        for stream in STREAMS:
            found, _ = await recorded(site, key, path, {**body, **stream}, kind=kind)
            for one in found:
                check(one)
            if stream:
                check_stream(found)
    await site.settled(key, len(bodies) * len(STREAMS))


async def test_every_response_vector_and_model_is_openais(site: Site, key: Key) -> None:
    asked = {"model": "tiny-chat", "input": "Why?", "max_output_tokens": 8}
    whole, _ = await recorded(site, key, "/responses", asked, kind="response")
    stream = await answer_of(
        site.http.post(
            f"{site.url}/v1/responses", json={**asked, "stream": True}, headers=key.headers
        )
    )
    vectors, _ = await recorded(
        site, key, "/embeddings", {"model": "tiny-embed", "input": ["a", "b"]}, kind="embeddings"
    )
    listed = await answer_of(site.http.get(f"{site.url}/v1/models", headers=key.headers))

    for one in (*whole, *vectors, Recorded("models", listed.json)):
        check(one)
    assert check_events(stream.body) > 4


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, {"logit_bias": {"1": 5}}),
        (400, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        (400, {"messages": [{"role": "user", "content": "a " * 5000}]}),
        (
            502,
            {"model": "tiny-paced", "messages": [{"role": "user", "content": "[crash after 0]"}]},
        ),
    ],
)
async def test_every_refusal_is_openais(
    status: int, fields: dict[str, Any], site: Site, key: Key
) -> None:
    answer = await answer_of(site.post(key, {**CHAT, **fields}))

    assert status == answer.status, answer.body
    check(Recorded("error", answer.json))
