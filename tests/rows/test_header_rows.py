"""Response headers and the form of a stream, on answers and on refusals."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kit.ids import name_id
from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fixtures.gateway import OpenSite, Site, Wish
from tests.integration.gateway.wire import UUID7, Answer, answer_of
from tests.rows.request_cases import USER
from tests.rows.site import catalogue
from tests.rows.table import PREFIXES

BODY = {"model": "sea-1", "messages": [USER]}
H_ROWS: dict[str, Any] = {
    "H1": lambda h: UUID7.fullmatch(h["X-Request-Id"]) and "me-1" == h["X-Client-Request-Id"],
    "H2": lambda h: h["X-Model-Used"] == "upstream-sea",
    "H3": lambda h: h["X-Route-Model"] == "sea-1",
    "H4": lambda h: h["X-RateLimit-Limit"] == "500",
    "H5": lambda h: h["X-RateLimit-Remaining"] in ("499", "498"),
    "H6": lambda h: h["X-RateLimit-Tier"] == "default",
    "H7": lambda h: h["X-Backend"] == "fake",
    "H8": lambda h: (
        h["X-Deployment-Id"] == name_id("deployment", "sea-here")
        and uuid.UUID(h["X-Deployment-Id"]).version == 5
    ),
    "H9": lambda h: (
        h["X-Turnpike-Attempts"] == "1"
        and h["X-Turnpike-Ignored"] == "zebra"
        and int(h["X-RateLimit-Reset"]) > 1_760_000_000
    ),
}
"""What a successful answer's headers hold, by row."""


@pytest.fixture
async def model() -> AsyncIterator[OpenAiModel]:
    async with open_openai_model() as opened:
        yield opened


@pytest.fixture
async def site(open_site: OpenSite, model: OpenAiModel) -> Site:
    return await open_site(Wish(catalogue=catalogue(model)))


async def served(site: Site, prefix: str, **more: Any) -> Answer:
    key = await site.key(requests_per_minute=500, tokens_per_minute=0)
    call = site.post(key, {**BODY, "zebra": 1, **more}, prefix=prefix, **{"X-Request-Id": "me-1"})
    answer = await answer_of(call)
    assert 200 == answer.status, answer.body
    return answer


@pytest.mark.parametrize("row", H_ROWS)
async def test_header_is_on_every_answer(row: str, site: Site) -> None:
    for prefix in PREFIXES.values():
        for stream in (False, True):
            answer = await served(site, prefix, stream=stream)
            assert H_ROWS[row](answer.headers), (row, prefix, stream, dict(answer.headers))


async def test_cost_is_told_with_a_whole_answer(site: Site) -> None:
    answer = await served(site, "/v1")

    assert "0.00000705" == answer.headers["X-Turnpike-Cost"].rstrip("0")


@pytest.mark.parametrize("row", ["H1", "H5", "H9"])
async def test_refusals_have_their_headers_too(row: str, site: Site) -> None:
    key = await site.key(requests_per_minute=1, tokens_per_minute=0)
    headers = {"X-Request-Id": "me-1"}

    first, second = [await answer_of(site.post(key, BODY, **headers)) for _ in range(2)]

    assert (200, 429) == (first.status, second.status)
    assert "me-1" == second.headers["X-Client-Request-Id"]
    assert second.error["request_id"] == second.headers["X-Request-Id"]
    assert ("1", "0") == (
        second.headers["X-RateLimit-Limit"],
        second.headers["X-RateLimit-Remaining"],
    )
    assert 1 <= int(second.headers["Retry-After"]) <= 60


async def test_t1_stream_has_the_form_of_one(site: Site) -> None:
    for prefix in PREFIXES.values():
        answer = await served(site, prefix, stream=True)
        headers = answer.headers
        assert ("text/event-stream; charset=utf-8", "no-cache", "no") == (
            headers["Content-Type"],
            headers["Cache-Control"],
            headers["X-Accel-Buffering"],
        )
        assert "Content-Encoding" not in headers
        blocks = answer.body.decode().split("\n\n")
        assert "" == blocks.pop()
        assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
