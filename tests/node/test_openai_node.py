"""The official OpenAI client for Node against a whole site."""

import json
from typing import Any

import pytest

from tests.fakes.openai_model import OpenAiModel
from tests.fixtures.gateway import OpenSite, Site, Wish, until
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
    "errors": lambda a: (
        a
        == [
            ["BadRequestError", 400, "invalid_value", "messages"],
            ["NotFoundError", 404, "model_not_found", "model"],
            ["BadRequestError", 400, "unsupported_parameter", "n"],
        ]
    ),
}


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel) -> Site:
    return await open_site(Wish(catalogue=catalogue(model)))


@pytest.mark.parametrize("case", CASES)
async def test_client_works_unmodified(case: str, site: Site) -> None:
    key = await site.key()
    variables = {"TURNPIKE_URL": f"{site.url}/v1", "TURNPIKE_KEY": key.secret}

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
