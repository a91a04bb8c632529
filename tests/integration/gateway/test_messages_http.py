"""The Messages API byte by byte: headers, what is left out, errors, counting, silence."""

import json
from typing import Any

import pytest

from tests.fakes.openai_script import Script
from tests.fixtures.catalogues import SMALL, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import UUID7, Answer, answer_of, tokens

CACHED = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]


def ask(prompt: Any = "hello", **more: Any) -> dict[str, Any]:
    usual = {"model": SMALL, "max_tokens": 64, "messages": [{"role": "user", "content": prompt}]}
    return usual | more


async def post(
    site: Site, key: Key, body: Any, path: str = "/v1/messages", **headers: str
) -> Answer:
    own = {"x-api-key": key.secret, "anthropic-version": "2023-06-01"}
    url = f"{site.url}{path}"
    return await answer_of(site.http.post(url, json=body, headers={**own, **headers}))


def events_of(body: bytes) -> list[tuple[str, Any]]:
    blocks = [block for block in body.decode().split("\n\n") if block and block[0] != ":"]
    pairs = [block.split("\n") for block in blocks]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in pairs
    ]


HEADERS = ("X-Backend", "X-Model-Used", "X-Route-Model", "X-Turnpike-Attempts", "X-RateLimit-Limit")


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_answer_has_the_usual_headers_and_is_recorded(site: Site, is_streaming: bool) -> None:
    key = await site.key()

    answer = await post(site, key, ask(stream=is_streaming))

    (record,) = await site.settled(key, 1)
    assert ["fake-openai", "upstream-small", SMALL, "1", "600"] == [
        answer.headers[name] for name in HEADERS
    ]
    assert record.request_id == answer.headers["X-Request-Id"]
    assert "X-Turnpike-Ignored" not in answer.headers
    assert ("completed", price_nusd(12, 16)) == (record.outcome, record.charge_nusd)
    assert price_nusd(12, 16) == (await site.balance(key)).charged_nusd
    await until(lambda: "POST /v1/messages" in {line["route"] for line in site.logged()})
    assert 'route="POST /v1/messages"' in site.metrics()


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_what_is_left_out_is_named(site: Site, is_streaming: bool) -> None:
    key = await site.key()
    asked = ask(CACHED, stream=is_streaming, output_config={"effort": "xhigh"})
    betas = {"anthropic-beta": "skills-2025-10-02,pdfs-2024-09-25"}

    answer = await post(site, key, asked, **betas)

    named = answer.headers["X-Turnpike-Ignored"].split(",")
    assert {
        "cache_control",
        "output_config.effort",
        "anthropic-beta:skills-2025-10-02",
    } <= set(named)
    assert b"cache_control" not in site.main.seen[0].raw


async def test_what_is_left_out_is_named_when_headers_go_ahead(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"header_hold_s": 0.05, "keep_alive_s": 0.05}))
    key = await site.key()
    blocks = [{**CACHED[0], "text": "fake=hang:headers_before"}]

    asked = ask(blocks, stream=True, timeout_ms=3500, output_config={"effort": "max"})

    answer = await post(site, key, asked)

    (name, error), *others = events_of(answer.body)
    assert ("pending", "output_config.effort") == (
        answer.headers["X-Backend"],
        answer.headers["X-Turnpike-Ignored"],
    )
    assert ("error", "timeout_error", []) == (name, error["error"]["type"], others)
    assert UUID7.fullmatch(error["request_id"])
    assert b": keep-alive\n\n" in answer.body


async def test_stream_is_anthropics_and_ends_without_done(site: Site) -> None:
    key = await site.key()

    answer = await post(site, key, ask(stream=True))

    events = events_of(answer.body)
    names = [name for name, _ in events]
    text = [data["delta"]["text"] for name, data in events if name == "content_block_delta"]
    assert "text/event-stream; charset=utf-8" == answer.headers["Content-Type"]
    assert ["message_start", "content_block_start"] == names[:2]
    assert ["content_block_stop", "message_delta", "message_stop"] == names[-3:]
    assert tokens(16) == "".join(text)
    assert all(name == data["type"] for name, data in events)
    assert b"[DONE]" not in answer.body


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_refusal_names_the_field_as_the_caller_wrote_it(
    site: Site, is_streaming: bool
) -> None:
    key = await site.key()
    blocks = [{"type": "text", "text": "x"}, {"type": "image", "source": {"type": "file"}}]

    answer = await post(site, key, ask(blocks, stream=is_streaming))

    error = answer.json["error"]
    assert (400, "error") == (answer.status, answer.json["type"])
    assert "messages.0.content.1.source.type" == error["details"]["param"]
    assert error["message"].startswith("messages.0.content.1.source.type ")
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert [] == site.main.seen


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize(
    ("body", "headers", "status", "name"),
    [
        (ask(), {"x-api-key": "sk-tp-none"}, 401, "authentication_error"),
        (ask(), {"Authorization": "Bearer other"}, 400, "invalid_request_error"),
        (ask(), {"Content-Type": "text/plain"}, 415, "invalid_request_error"),
        (ask(), {"anthropic-beta": "no name"}, 400, "invalid_request_error"),
        (ask(model="none"), {}, 404, "not_found_error"),
        (ask(tools=[{"type": "bash_20250124", "name": "bash"}]), {}, 400,
         "invalid_request_error"),
    ],
)  # fmt: skip
async def test_both_endpoints_refuse_alike(
    site: Site, path: str, body: Any, headers: dict[str, str], status: int, name: str
) -> None:
    key = await site.key()

    answer = await post(site, key, body, path, **headers)

    assert (status, "error", name) == (
        answer.status,
        answer.json["type"],
        answer.json["error"]["type"],
    )
    assert [] == await site.records(key)


async def test_any_version_and_a_trailing_slash_will_do(site: Site) -> None:
    key = await site.key()

    answer = await post(site, key, ask(), "/v1/messages/", **{"anthropic-version": "2031-01-01"})

    assert (200, "message") == (answer.status, answer.json["type"])


async def test_counting_knows_prompts_that_no_model_takes_and_images(site: Site) -> None:
    key = await site.key()
    image = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoA" + "A" * 99_988}
    path = "/v1/messages/count_tokens"

    long = await post(site, key, ask("x" * 400_000), path)
    seen = await post(site, key, ask([{"type": "image", "source": image}]), path)

    assert {"input_tokens": -(-(400_000 + 30) * 10 // 36)} == long.json
    assert 1600 < seen.json["input_tokens"] < 1700
    assert "true" == seen.headers["X-Turnpike-Estimated"]
    assert UUID7.fullmatch(seen.headers["X-Request-Id"])
    assert "598" == seen.headers["X-RateLimit-Remaining"]
    assert 0 == site.gateway.deps.running.count


async def test_counting_is_a_request_of_the_keys_rate(site: Site) -> None:
    key = await site.key(requests_per_minute=2)
    path = "/v1/messages/count_tokens"

    found = [await post(site, key, ask(), path) for _ in range(3)]

    assert [200, 200, 429] == [answer.status for answer in found]
    assert "rate_limit_error" == found[2].json["error"]["type"]


async def test_revoked_key_ends_a_stream_with_an_error(site: Site) -> None:
    key = await site.key()
    asked = ask("fake=chunks:500;delay_ms:20", stream=True, max_tokens=2000)

    async with site.http.post(f"{site.url}/v1/messages", json=asked, headers=key.headers) as found:
        await found.content.readuntil(b"content_block_delta")
        await site.revoke(key)
        rest = await found.read()

    name, error = events_of(rest[rest.index(b"event: error") :])[0]
    assert ("error", "authentication_error") == (name, error["error"]["type"])
    assert b"message_stop" not in rest
    await until(lambda: site.main.seen[0].is_aborted)


async def test_counting_names_what_is_left_out(site: Site) -> None:
    key = await site.key()

    cited = [{**CACHED[0], "citations": [{}]}]

    answer = await post(site, key, ask(cited), "/v1/messages/count_tokens")

    assert "citations" == answer.headers["X-Turnpike-Ignored"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1/chat/completions"])
async def test_answer_with_a_call_of_nothing_costs_nothing(open_site: OpenSite, path: str) -> None:
    site = await open_site()
    key = await site.key()
    odd, good = Script(said={"tool_calls": [{"id": "c"}]}), Script()
    scripts = [odd, good]
    site.main.handler = lambda _seen: scripts.pop(0)
    asked = {"input": "hi", "model": SMALL} if path.endswith("responses") else ask("hi")

    answers = [await post(site, key, asked, path) for _ in range(2)]

    assert [502, 200] == [answer.status for answer in answers]
    records = await site.settled(key, 2)
    assert [price_nusd(12, 16), 0] == [record.charge_nusd for record in records]
