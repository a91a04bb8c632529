"""Upstreams that fail in every way, seen through the whole stack: status, fallback, charge."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kit.ids import name_id
from tests.fakes.openai_script import Script
from tests.fakes.openai_upstream import OpenAiUpstream
from tests.fixtures.catalogues import TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import Answer, answer_of, events_of, text_of, tokens
from turnpike.metering.v1 import metering_pb2

MAIN = name_id("deployment", "twice-main")
SPARE = name_id("deployment", "twice-spare")
CODES = {
    "invalid_value": (400, "invalid_request_error"),
    "content_policy_violation": (400, "invalid_request_error"),
    "context_length_exceeded": (400, "invalid_request_error"),
    "all_providers_failed": (502, "server_error"),
    "timeout": (504, "server_error"),
}


def priced(record: metering_pb2.UsageRecord) -> int:
    usage = record.usage
    return price_nusd(usage.prompt_token_count, usage.completion_token_count)


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("hang:headers_before", "timeout"),
        ("hang:headers_after", "timeout"),
        ("cut_after:0", "all_providers_failed"),
        ("cut_after:0;cut:rst", "all_providers_failed"),
        ("status:500", "all_providers_failed"),
        ("status:529", "all_providers_failed"),
        ("status:429;retry_after:7", "all_providers_failed"),
        ("status:401;message:secret", "all_providers_failed"),
        ("status:404", "all_providers_failed"),
        ("status:302", "all_providers_failed"),
        ("status:400;code:bad_thing", "invalid_value"),
        ("status:400;code:content_filter", "content_policy_violation"),
        ("status:400;code:context_length_exceeded", "context_length_exceeded"),
        ("body:error", "all_providers_failed"),
        ("body:junk", "all_providers_failed"),
        ("body:html", "all_providers_failed"),
        ("body:empty", "all_providers_failed"),
        ("body:list", "all_providers_failed"),
        ("body:deep", "all_providers_failed"),
        ("chunks:0;finish:never;usage:never;done:0;role:never", "all_providers_failed"),
    ],
)
async def test_failure_before_content_is_a_status_and_costs_nothing(
    open_site: OpenSite, script: str, code: str, is_streaming: bool
) -> None:
    if script.startswith("chunks:0") and not is_streaming:
        script = "finish:never"
    site = await open_site()
    key = await site.key()
    body = chat(f"fake={script}", stream=is_streaming, timeout_ms=400)

    answer = await answer_of(site.post(key, body))

    error = answer.error
    (record,) = await site.settled(key, 1)
    assert (*CODES[code], code) == (answer.status, error["type"], error["code"])
    assert ("refused", 0) == (record.outcome, record.charge_nusd)
    assert record.request_id == error["request_id"]
    assert "secret" not in answer.body.decode()
    assert 1 == len(site.main.seen)
    await until(lambda: site.main.seen[0].is_over)


async def test_failure_of_all_lists_the_attempts(site: Site) -> None:
    key = await site.key()
    site.main.handler = lambda _seen: Script(status=503)
    site.spare.handler = lambda _seen: Script(cut_after=0)

    answer = await answer_of(site.post(key, chat(model=TWICE)))

    assert 502 == answer.status
    attempts = answer.error["details"]["attempts"]
    assert ["twice-main", "twice-spare"] == [part.split(":")[0] for part in attempts.split(",")]


@pytest.mark.parametrize("status", [429, 500])
async def test_storm_of_failures_is_carried_by_the_second_deployment(
    site: Site, status: int
) -> None:
    key = await site.key()
    site.main.handler = lambda _seen: Script(status=status)
    body = chat("shape=c4-d1", model=TWICE, stream=True)

    first = [await answer_of(site.post(key, body)) for _ in range(6)]
    asked = len(site.main.seen)
    site.main.handler = lambda _seen: Script(chunks=1)
    rest = await asyncio.gather(*(answer_of(site.post(key, body)) for _ in range(30)))

    answers = [*first, *rest]
    records = await site.settled(key, 36)
    assert {200} == {answer.status for answer in answers}
    assert {SPARE} == {answer.headers["X-Deployment-Id"] for answer in answers}
    assert {price_nusd(12, 4)} == {record.charge_nusd for record in records}
    assert asked == len(site.main.seen) <= 5


async def broken(site: Site, key: Key, script: str, **fields: Any) -> tuple[Answer, list[Any]]:
    answer = await answer_of(site.post(key, chat(f"fake={script}", stream=True, **fields)))
    return answer, events_of(answer.body)


async def test_exact_totals_are_charged_when_the_upstream_tells_them(site: Site) -> None:
    key = await site.key()

    _, events = await broken(site, key, "chunks:40;delay_ms:2;cut_after:9;usage:every")

    (record,) = await site.settled(key, 1)
    assert "error" in events[-1]
    assert (12, 9) == (record.usage.prompt_token_count, record.usage.completion_token_count)
    assert price_nusd(12, 9) == record.charge_nusd


async def test_error_event_speaks_the_dialect(site: Site) -> None:
    key = await site.key(dialect="bud")

    _, events = await broken(site, key, "chunks:9;delay_ms:2;cut_after:3")

    assert 502 == events[-1]["error"]["code"]


@pytest.mark.parametrize(
    "script",
    [
        "split:1",
        "split:1;line:crlf",
        "split:3;bom:1;comments:2",
        "joined:1",
        "keys:spaced;split:5",
        "keys:sorted",
        "keys:drifting",
        "multiline:1;split:1",
        "usage:every;split:1",
        "length:close;split:2",
    ],
)
async def test_form_of_the_upstreams_bytes_makes_no_difference(site: Site, script: str) -> None:
    key = await site.key()

    _, events = await broken(site, key, script)

    (record,) = await site.settled(key, 1)
    assert tokens(16) == text_of(events)
    assert "[DONE]" == events[-1]
    assert 28 == events[-2]["usage"]["total_tokens"]
    assert price_nusd(12, 16) == record.charge_nusd


TEXT = "ä€😀"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def stream_body() -> bytes:
    def chunk(delta: dict[str, str], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        value = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return b"data: " + json.dumps({**value, "choices": [choice]}, ensure_ascii=False).encode()

    return b"\n\n".join(
        [chunk({"content": TEXT}, None), chunk({"content": TEXT}, "stop"), b"data: [DONE]", b""]
    )


@asynccontextmanager
async def cutting_upstream(body: bytes) -> AsyncIterator[OpenAiUpstream]:
    """Answers with two writes; the prompt of each request says where the second one starts."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        asked = await reader.readexactly(length)
        at = int(asked.partition(b"cut at ")[2].split(b" ")[0])
        for part in (HEAD + body[:at], body[at:]):
            writer.write(part)
            await writer.drain()
            for _ in range(5):
                await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield OpenAiUpstream(port=server.sockets[0].getsockname()[1])
    finally:
        server.close()


async def test_stream_may_be_cut_at_every_byte(open_site: OpenSite) -> None:
    body = stream_body()
    async with cutting_upstream(body) as upstream:
        site = await open_site(Wish(catalogue=usual_catalogue(upstream, upstream)))
        key = await site.key(requests_per_minute=0, tokens_per_minute=0)

        async def one(at: int) -> list[Any]:
            asked = chat(f"cut at {at} ", stream=True)
            return events_of((await answer_of(site.post(key, asked))).body)

        for start in range(0, len(body), 20):
            cuts = range(start, min(start + 20, len(body)))
            for events in await asyncio.gather(*(one(at) for at in cuts)):
                assert (TEXT * 2, "[DONE]") == (text_of(events), events[-1])
                assert "stop" == events[-2]["choices"][0]["finish_reason"]
