"""What is tried again and what is not: the rows of one table, before the first token and after it.

A row's cases are answers of the first of two deployments; the second one is well. A case says what
becomes of the request: the second answers, or the caller gets an error of this code.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from kit.ids import name_id
from kit.rpc.local import LocalMode
from tests.fakes.openai_script import Script
from tests.fakes.openai_upstream import open_openai_upstream
from tests.fixtures.catalogues import TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.tls import certificate, server_context
from tests.integration.gateway.wire import (
    Answer,
    answer_of,
    connected,
    events_of,
    read_chunks,
    request_bytes,
    text_of,
    tokens,
)
from turnpike.metering.v1 import metering_pb2

SPARE = name_id("deployment", "twice-spare")
STREAM, PLAIN = (True,), (False,)
NEXT = "the second answers"
EMPTY = "chunks:0;finish:never;usage:never"
LONG = "chunks:40;delay_ms:2;"
STATUSES = {"invalid_value": 400, "content_policy_violation": 400, "context_length_exceeded": 400}


class Case(NamedTuple):
    """What the first deployment does, and what comes of it; `ways` are: plain, streamed."""

    row: str
    script: str
    outcome: str
    ways: tuple[bool, ...] = (False, True)


BEFORE = [
    *(
        Case("connect error, 408, 5xx, 529", f"status:{status}", NEXT)
        for status in (408, 500, 502, 503, 504, 529)
    ),
    Case("too slow", "hang:headers_before", NEXT),
    Case("too slow", "hang:headers_after", NEXT),
    Case("429", "status:429", NEXT),
    Case("429", "status:429;retry_after:7", NEXT),
    Case("401, 403 for our key", "status:401", NEXT),
    Case("401, 403 for our key", "status:403", NEXT),
    Case("400", "status:400", "invalid_value"),
    Case("400", "status:400;code:bad_thing", "invalid_value"),
    Case("400", "status:422", "invalid_value"),
    Case("400", "status:400;code:context_length_exceeded", "context_length_exceeded"),
    Case("400 that is about our account", "status:400;code:credit_balance_too_low", NEXT),
    Case("400 that is about our account", "status:400;code:insufficient_quota", NEXT),
    Case("400 that is about our account", "status:402", NEXT),
    Case("model unknown there", "status:404", NEXT),
    Case("content policy", "status:400;code:content_filter", "content_policy_violation"),
    Case("content policy", "status:403;code:content_policy_violation", "content_policy_violation"),
    Case("200 that is an error", "body:error", NEXT),
    Case("200 that is an error", "body:error_first", NEXT, STREAM),
    Case("200 that is an error", "body:junk", NEXT),
    Case("200 that is an error", "body:html", NEXT),
    Case("empty 200", "body:empty", NEXT),
    Case("empty 200", f"{EMPTY};done:0;role:never", NEXT, STREAM),
    Case("empty 200", f"{EMPTY};role:never", NEXT, STREAM),
    Case("empty 200", EMPTY, NEXT, STREAM),
    Case("empty 200", "chunks:0;finish:never", NEXT, STREAM),
    Case("cut without a finish", "cut_after:0", NEXT),
    Case("cut without a finish", "cut_after:0;cut:rst", NEXT),
    Case("cut without a finish", "finish:never", NEXT, PLAIN),
]
AFTER = [
    Case("200 that is an error", f"{LONG}body:error_late", "upstream_incomplete", STREAM),
    Case("200 that is an error", f"{LONG}body:junk_late", "upstream_invalid_response", STREAM),
    Case("cut without a finish", f"{LONG}cut_after:9", "upstream_incomplete", STREAM),
    Case("cut without a finish", f"{LONG}cut_after:9;cut:rst", "upstream_incomplete", STREAM),
    Case("cut without a finish", f"{LONG}cut_after:9;usage:every", "upstream_incomplete", STREAM),
    Case("cut without a finish", f"{LONG}cut_after:9;split:1", "upstream_incomplete", STREAM),
    Case(
        "cut without a finish",
        f"{LONG}finish:never;done:0;usage:never",
        "upstream_incomplete",
        STREAM,
    ),
    Case("cut without a finish", f"{LONG}finish:never;usage:never", "upstream_incomplete", STREAM),
    Case("too slow", f"{LONG}hang:stream", "timeout", STREAM),
]


def cases(wanted: list[Case]) -> list[object]:
    return [
        pytest.param(
            case.script,
            case.outcome,
            is_streaming,
            id=f"{case.row}: {case.script} {'streamed' if is_streaming else 'plain'}",
        )
        for case in wanted
        for is_streaming in case.ways
    ]


def said(answer: Answer, *, is_streaming: bool) -> str:
    if is_streaming:
        return text_of(events_of(answer.body))
    return str(answer.json["choices"][0]["message"]["content"])


def priced(record: metering_pb2.UsageRecord) -> int:
    usage = record.usage
    return price_nusd(usage.prompt_token_count, usage.completion_token_count)


async def check_second_answered(
    site: Site, key: Key, answer: Answer, *, is_streaming: bool
) -> None:
    (record,) = await site.settled(key, 1)
    assert (200, "2", SPARE) == (
        answer.status,
        answer.headers["X-Turnpike-Attempts"],
        answer.headers["X-Deployment-Id"],
    )
    assert tokens(16) == said(answer, is_streaming=is_streaming)
    assert (2, "twice-spare", price_nusd(12, 16)) == (
        record.attempt_count,
        record.deployment,
        record.charge_nusd,
    )


@pytest.mark.parametrize(("script", "outcome", "is_streaming"), cases(BEFORE))
async def test_before_the_first_token(
    open_site: OpenSite, script: str, outcome: str, is_streaming: bool
) -> None:
    site = await open_site(Wish(mode=LocalMode.VERIFY, router={"attempt_min_s": 0.2}))
    key = await site.key()
    body = chat(f"fake={script}", model=TWICE, stream=is_streaming, timeout_ms=2000)
    site.spare.handler = lambda _seen: Script()

    answer = await answer_of(site.post(key, body))

    assert 1 == len(site.main.seen)
    if outcome is NEXT:
        await check_second_answered(site, key, answer, is_streaming=is_streaming)
        return
    (record,) = await site.settled(key, 1)
    assert (STATUSES[outcome], outcome) == (answer.status, answer.error["code"])
    assert ("refused", 0) == (record.outcome, record.charge_nusd)
    assert [] == site.spare.seen


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("fault", ["refused", "name", "certificate"])
async def test_before_the_first_token_connect_error(
    open_site: OpenSite, tmp_path: Path, fault: str, is_streaming: bool
) -> None:
    tls = server_context(certificate(tmp_path))
    async with open_openai_upstream(tls=tls) as main, open_openai_upstream() as spare:
        catalogue = usual_catalogue(main, spare)
        if fault != "certificate":
            host = "127.0.0.1:1" if fault == "refused" else "nowhere.invalid"
            catalogue["providers"]["main"]["base_url"] = f"http://{host}/v1"
        site = await open_site(Wish(mode=LocalMode.VERIFY, catalogue=catalogue))
        key = await site.key()

        answer = await answer_of(site.post(key, chat(model=TWICE, stream=is_streaming)))

        await check_second_answered(site, key, answer, is_streaming=is_streaming)
        assert [] == main.seen


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("status", [408, 503, 529])
async def test_before_the_first_token_last_one_is_tried_once_more(
    site: Site, status: int, is_streaming: bool
) -> None:
    key = await site.key()
    site.main.handler = lambda seen: Script(status=status if seen.number == 1 else 200)

    answer = await answer_of(site.post(key, chat(stream=is_streaming)))

    (record,) = await site.settled(key, 1)
    assert (200, "2") == (answer.status, answer.headers["X-Turnpike-Attempts"])
    assert tokens(16) == said(answer, is_streaming=is_streaming)
    assert (2, price_nusd(12, 16)) == (record.attempt_count, record.charge_nusd)


@pytest.mark.parametrize(("script", "outcome", "is_streaming"), cases(AFTER))
async def test_after_the_first_token(
    open_site: OpenSite, script: str, outcome: str, is_streaming: bool
) -> None:
    site = await open_site(Wish(mode=LocalMode.VERIFY, router={"idle_s": 0.5}))
    key = await site.key()
    body = chat(f"fake={script}", model=TWICE, stream=is_streaming)

    answer = await answer_of(site.post(key, body))

    (record,) = await site.settled(key, 1)
    *chunks, last = events_of(answer.body)
    error = last["error"]
    assert 200 == answer.status
    assert b"[DONE]" not in answer.body
    assert {"error"} == set(last)
    assert (outcome, "server_error") == (error["code"], error["type"])
    assert record.request_id == error["request_id"] == answer.headers["X-Request-Id"]
    delivered = len([c for c in chunks if c["choices"][0]["delta"].get("content")])
    assert tokens(delivered) == text_of(chunks)
    assert 0 < delivered <= 40
    assert "upstream_failed" == record.outcome
    assert delivered == record.usage.completion_token_count
    assert priced(record) == record.charge_nusd
    assert [] == site.spare.seen


@pytest.mark.parametrize("is_streaming", [False, True])
@pytest.mark.parametrize("script", ["status:500", "status:429", "body:error", "cut_after:0"])
async def test_fallback_that_the_client_forbids_is_not_made(
    site: Site, script: str, is_streaming: bool
) -> None:
    key = await site.key()
    body = chat(f"fake={script}", model=TWICE, stream=is_streaming)

    answer = await answer_of(site.post(key, {**body, "provider": {"allow_fallbacks": False}}))

    assert (502, "all_providers_failed") == (answer.status, answer.error["code"])
    assert (1, []) == (len(site.main.seen), site.spare.seen)


def posted(site: Site) -> int:
    return sum(seen.method == "POST" for seen in site.main.seen)


async def resting(open_site: OpenSite, refusal: Script) -> tuple[Site, Key]:
    """Return a site whose first deployment refused a call and answers free probes well since."""
    site = await open_site(Wish(mode=LocalMode.VERIFY, router={"probe_interval_s": 0.02}))
    key = await site.key()
    site.main.handler = lambda seen: refusal if seen.method == "POST" else Script()
    site.spare.handler = lambda _seen: Script()
    answer = await answer_of(site.post(key, chat(model=TWICE)))
    assert (200, "2") == (answer.status, answer.headers["X-Turnpike-Attempts"])
    await until(lambda: len(site.main.seen) > 3)
    return site, key


async def test_rate_limited_deployment_rests_until_its_retry_after(open_site: OpenSite) -> None:
    site, key = await resting(open_site, Script(status=429, retry_after="600"))

    later = await answer_of(site.post(key, chat(model=TWICE)))
    only = await answer_of(site.post(key, chat(model=TWICE, provider={"only": ["twice-main"]})))

    assert (200, "1", 1) == (later.status, later.headers["X-Turnpike-Attempts"], posted(site))
    assert (503, "no_providers_available") == (only.status, only.error["code"])
    assert 500 < int(only.headers["Retry-After"]) <= 600


async def test_key_that_was_refused_rests_and_the_operator_sees_it(open_site: OpenSite) -> None:
    site, key = await resting(open_site, Script(status=401))

    later = await answer_of(site.post(key, chat(model=TWICE)))

    assert (200, "1", 1) == (later.status, later.headers["X-Turnpike-Attempts"], posted(site))
    metrics = site.metrics()
    refused = 'turnpike_router_attempts_total{deployment="twice-main",result="credentials"} 1.0'
    assert refused in metrics
    assert 'turnpike_router_open_breakers{deployment="twice-main"} 1.0' in metrics


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_client_that_leaves_before_the_answer_pays_nothing(
    site: Site, is_streaming: bool
) -> None:
    key = await site.key()
    body = json.dumps(chat("fake=hang:headers_before", stream=is_streaming)).encode()

    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, body))
        await until(lambda: len(site.main.seen) == 1)
    await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    assert site.main.seen[0].is_aborted
    assert ("client_closed", 0) == (record.outcome, record.charge_nusd)
    await until(lambda: 499 in {line["status"] for line in site.logged()})


async def test_client_that_leaves_during_a_plain_answer_cancels_the_upstream(site: Site) -> None:
    key = await site.key()
    body = json.dumps(chat("fake=hang:headers_after")).encode()

    async with connected(site.gateway.port) as client:
        await client.send(request_bytes(key.secret, body))
        await until(lambda: len(site.main.seen) == 1 and site.main.seen[0].bytes_sent > 0)
    await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    assert site.main.seen[0].is_aborted
    assert ("client_closed", 0) == (record.outcome, record.charge_nusd)


@pytest.mark.parametrize("usage", ["extra", "every"])
async def test_client_that_leaves_a_stream_pays_what_was_delivered(site: Site, usage: str) -> None:
    key = await site.key()
    asked = chat(f"fake=chunks:2000;delay_ms:5;usage:{usage}", stream=True, max_tokens=2000)

    async with site.post(key, asked) as response:
        seen = await read_chunks(response, 5)
        response.close()
    await until(lambda: site.main.seen[0].is_over)

    (record,) = await site.settled(key, 1)
    upstream = site.main.seen[0]
    assert upstream.is_aborted
    assert upstream.chunks_sent < 1000
    assert "client_closed" == record.outcome
    delivered = record.usage.completion_token_count
    assert seen.count(b'"content":"tok') <= delivered + 1
    assert 4 <= delivered <= upstream.chunks_sent
    assert priced(record) == record.charge_nusd
    if usage == "every":
        assert 12 == record.usage.prompt_token_count
