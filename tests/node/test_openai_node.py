"""The official OpenAI client for Node against a whole site."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.media_upstream import LANGUAGE, TEXT, MediaUpstream, open_media_upstream
from tests.fakes.openai_model import OpenAiModel
from tests.fakes.openai_upstream import OpenAiUpstream
from tests.fixtures.catalogues import PRICE
from tests.fixtures.gateway import OpenSite, Site, Wish, until
from tests.fixtures.media import BY_CHARACTER, BY_IMAGE, BY_SECOND, wav
from tests.integration.gateway.wire import tokens
from tests.node.conftest import node
from tests.rows.site import catalogue

SPOKEN = "The sea is salty because rivers carry salt."
PLACE = {"city": "Paris", "people": 1.5}

CASES: dict[str, Any] = {
    "plain": lambda a: a["text"] == SPOKEN and a["usage"]["total_tokens"] == 20,
    "stream": lambda a: a == {"text": SPOKEN},
    "usage": lambda a: a == {"count": 1, "choices": [], "total": 20},
    "tools": lambda a: (
        a == {"arguments": {"city": "Paris"}, "reason": "tool_calls", "text": SPOKEN}
    ),
    "streamed_tools": lambda a: a == [{"city": "Paris"}, {"city": "Paris"}],
    "parse": lambda a: a == PLACE,
    "streamed_parse": lambda a: a == PLACE,
    "choices": lambda a: a == {"indices": [0, 1, 2], "tops": 2},
    "models": lambda a: a == {"hasSea": True, "one": "sea"},
    "response": lambda a: a == {"text": SPOKEN, "status": "completed", "total": 20},
    "streamed_response": lambda a: (
        a == {"text": SPOKEN, "last": "response.completed", "same": True}
    ),
    "parsed_response": lambda a: a == PLACE,
    "response_tools": lambda a: a == {"arguments": [{"city": "Paris"}], "text": SPOKEN},
    "embeddings": lambda a: a == {"starts": [1, 2], "same": True, "total": 12},
    "completions": lambda a: a == {"same": True, "reason": "stop", "text": tokens(16)},
    "images": lambda a: a == ["PNG", "PNG"],
    "speech": lambda a: a == {"bytes": 32_000, "type": "audio/mpeg"},
    "transcriptions": lambda a: a == {"text": TEXT, "language": LANGUAGE, "start": "1"},
    "errors": lambda a: (
        a
        == [
            ["BadRequestError", 400, "invalid_value", "messages"],
            ["NotFoundError", 404, "model_not_found", "model"],
            ["BadRequestError", 400, "unsupported_parameter", "n"],
        ]
    ),
}


SERVED: dict[str, tuple[str, str, dict[str, str]]] = {
    "vectors": ("scripted", "embedding", PRICE),
    "texts": ("scripted", "completion", PRICE),
    "painter": ("media", "image", BY_IMAGE),
    "speaker": ("media", "speech", BY_CHARACTER),
    "listener": ("media", "transcription", BY_SECOND),
}
"""Models beside those that chat: where each is, what it serves, and its price."""


@pytest.fixture
async def media() -> AsyncIterator[MediaUpstream]:
    async with open_media_upstream() as opened:
        yield opened


@pytest.fixture
async def site(
    open_site: OpenSite,
    model: OpenAiModel,
    openai_upstream: OpenAiUpstream,
    media: MediaUpstream,
) -> Site:
    found = catalogue(model)
    for name, upstream in (("scripted", openai_upstream), ("media", media)):
        found["providers"][name] = {"kind": "openai_compat", "base_url": upstream.base_url}
    for name, (provider, operation, price) in SERVED.items():
        deployment = {"name": f"{name}-here", "provider": provider, "upstream_model": "upstream"}
        found["models"][name] = {
            "context_length": 8192,
            "operations": [operation],
            "deployments": [{**deployment, "price": price}],
        }
    return await open_site(Wish(catalogue=found))


@pytest.mark.parametrize("case", CASES)
async def test_client_works_unmodified(case: str, site: Site) -> None:
    key = await site.key()
    sound = base64.b64encode(wav(2.0)).decode()
    url = f"{site.url}/v1"
    variables = {"TURNPIKE_URL": url, "TURNPIKE_KEY": key.secret, "SOUND": sound}

    found = json.loads(await node("suite.mjs", case, variables=variables))

    assert CASES[case](found), found


async def test_abort_in_mid_stream_reaches_the_upstream_and_is_charged(
    site: Site, model: OpenAiModel
) -> None:
    key = await site.key()
    model.pause_s = 0.2
    variables = {"TURNPIKE_URL": f"{site.url}/v1", "TURNPIKE_KEY": key.secret}

    found = json.loads(await node("suite.mjs", "abort", variables=variables))

    await until(lambda: model.aborted_count == 1)
    (record,) = await site.settled(key, 1)
    assert {"count": 2} == found
    assert "client_closed" == record.outcome
    assert 2 <= record.usage.completion_token_count <= 4
