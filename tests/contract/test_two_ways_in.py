"""HTTP and gRPC decide, answer, charge and record the same for the same request."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.openai.schema import encode
from kit.errors import OUTWARD
from tests.fixtures.catalogues import FREE, SMALL, chat, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.grpc_caller import SERVED, Told, caller_of, shown, told_by, typed
from turnpike.router.v1 import router_pb2

OWN = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}|(?<=\"created\":)\d+")
WAYS = ("http", "body", "chat")


@dataclass(frozen=True)
class Case:
    """A request and what becomes of it, whichever way it comes.

    `records` are outcome and charge of the usage records; `first` is sent before, to use up
    something; `key` holds options of the key.
    """

    body: Any
    status: int = 200
    reason: str = ""
    param: str | None = None
    records: tuple[tuple[str, int], ...] = ()
    key: dict[str, Any] = field(default_factory=dict)
    first: Any = None
    change: Callable[[Site, Key], Any] | None = None


async def revoke(site: Site, key: Key) -> None:
    await site.revoke(key)
    await until(lambda: not site.gateway.deps.admission._verdicts._digests.get(key.key_id))


DONE = ("completed", price_nusd(12, 16))
CASES = {
    "whole": Case(chat(), records=(DONE,)),
    "by an alias": Case(chat(model="small"), records=(DONE,)),
    "stream": Case(chat(stream=True), records=(DONE,)),
    "stream with usage": Case(
        chat(stream=True, stream_options={"include_usage": True}), records=(DONE,)
    ),
    "two choices": Case(
        chat("fake=choices:2", n=2, stream=True), records=(("completed", price_nusd(12, 32)),)
    ),
    "figures": Case(
        chat(max_tokens=40, temperature=0.25, top_p=0.5, stop=["x"], user="u", seed=2**60),
        records=(DONE,),
    ),
    "free": Case(chat(model=FREE), records=(("completed", 0),), key={"credit_nusd": 0}),
    "pinned dialect": Case(chat(), records=(DONE,), key={"dialect": "vram"}),
    "no JSON": Case(b"{", 400, "INVALID_JSON"),
    "no object": Case(b"[]", 400, "INVALID_VALUE"),
    "bad field": Case(chat(temperature=3), 400, "INVALID_VALUE", "temperature"),
    "bad role": Case(
        chat() | {"messages": [{"role": "king", "content": "x"}]},
        400,
        "INVALID_VALUE",
        "messages[0].role",
    ),
    "no content": Case(
        chat() | {"messages": [{"role": "user"}]}, 400, "MISSING_FIELD", "messages[0].content"
    ),
    "no messages": Case(chat() | {"messages": []}, 400, "INVALID_VALUE", "messages"),
    "no bound": Case(chat(max_tokens=0), 400, "INVALID_VALUE", "max_tokens"),
    "not served": Case(chat(guided_regex="a+"), 400, "UNSUPPORTED_PARAMETER", "guided_regex"),
    "unknown model": Case(chat(model="acme/none"), 404, "MODEL_NOT_FOUND", "model"),
    "model of others": Case(chat(), 404, "MODEL_NOT_FOUND", "model", key={"models": [FREE]}),
    "too long": Case(chat("x" * 200_000), 400, "CONTEXT_LENGTH_EXCEEDED", "messages"),
    "no credit": Case(chat(), 402, "INSUFFICIENT_QUOTA", key={"credit_nusd": 0}),
    "rate limited": Case(
        chat(),
        429,
        "RATE_LIMIT_EXCEEDED",
        records=(DONE,),
        key={"requests_per_minute": 1},
        first=chat(),
    ),
    "tokens limited": Case(
        chat(max_tokens=200), 429, "TOKENS_LIMIT_EXCEEDED", key={"tokens_per_minute": 100}
    ),
    "wrong scope": Case(chat(), 403, "KEY_SCOPE", key={"scopes": ["models"]}),
    "revoked": Case(chat(), 401, "KEY_REVOKED", records=(DONE,), first=chat(), change=revoke),
    "upstream refuses": Case(
        chat("fake=status:400"), 400, "INVALID_VALUE", records=(("refused", 0),)
    ),
    "upstream fails": Case(
        chat("fake=status:500", stream=True),
        502,
        "ALL_PROVIDERS_FAILED",
        records=(("refused", 0),),
    ),
    "upstream is late": Case(
        chat("fake=hang:headers_before", timeout_ms=300), 504, "TIMEOUT", records=(("refused", 0),)
    ),
    "upstream breaks": Case(
        chat("fake=chunks:8;cut_after:4;usage:every;delay_ms:20", stream=True),
        200,
        "UPSTREAM_INCOMPLETE",
        records=(("upstream_failed", price_nusd(12, 4)),),
    ),
}


@dataclass
class Outcome:
    """What a caller was told, in terms that both ways have."""

    status: int
    reason: str = ""
    param: str | None = None
    text: str = ""
    raw: bytes = b""
    headers: dict[str, Any] = field(default_factory=dict)


SHARED_HEADERS = (
    "x-backend",
    "x-deployment-id",
    "x-model-used",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-tier",
    "x-route-model",
    "x-turnpike-attempts",
)


async def by_http(site: Site, key: Key, body: Any) -> Outcome:
    data = body if isinstance(body, bytes) else encode(body)
    headers = {**key.headers, "Content-Type": "application/json"}
    async with site.http.post(
        f"{site.url}/v1/chat/completions", data=data, headers=headers
    ) as response:
        raw = await response.read()
        found = Outcome(response.status, raw=OWN.sub(b"0", raw))
        found.headers = {n: response.headers[n] for n in SHARED_HEADERS if n in response.headers}
        is_stream = response.content_type == "text/event-stream"
    return _read(found, raw, is_stream=is_stream)


async def by_grpc(site: Site, key: Key, body: Any, way: str) -> Outcome:
    data = body if isinstance(body, bytes) else encode(body)
    request = router_pb2.RunRequest(body=data)
    if way == "chat":
        request = router_pb2.RunRequest(chat=typed(body))
    async with caller_of(site) as router:
        told = await told_by(router.Run(request, metadata=shown(key), timeout=20))
    found = Outcome(200, headers=_shared(told))
    if told.reason is not None:
        found.reason, found.param = told.reason.value, told.info.get("param")
        assert OUTWARD[told.reason].grpc_code == told.code.name
        assert told.trailing["x-request-id"] == told.info["request_id"]
        if not told.messages:
            found.status = OUTWARD[told.reason].http_status
    if way == "chat":
        found.text = "".join(delta.text for delta in told.deltas if delta.choice == 0)
        assert b"" == told.sse
        return found
    raw = told.sse or b"".join(message.completion for message in told.messages)
    found.raw = OWN.sub(b"0", raw)
    return _read(found, raw, is_stream=bool(told.sse)) if raw else found


def _shared(told: Told) -> dict[str, Any]:
    every = told.initial | told.trailing
    return {name: every[name] for name in SHARED_HEADERS if name in every}


def _read(found: Outcome, raw: bytes, *, is_stream: bool) -> Outcome:
    blocks = [block for block in raw.decode().split("\n\n") if block] if is_stream else []
    chunks = [json.loads(b[6:]) for b in blocks if b.startswith("data: {")]
    for answer in chunks if is_stream else [json.loads(raw)]:
        if "error" in answer:
            found.reason, found.param = _reason(answer["error"]), answer["error"]["param"]
        for choice in answer.get("choices", ()):
            said = choice.get("delta") or choice.get("message") or {}
            if choice["index"] == 0:
                found.text += said.get("content") or ""
    return found


def _reason(error: dict[str, Any]) -> str:
    return str(error.get("code", "")).upper()


@pytest.fixture
async def site(open_site: OpenSite) -> Site:
    return await open_site(Wish(gateway=SERVED))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_every_way_in_decides_answers_and_charges_the_same(site: Site, case: Case) -> None:
    found: dict[str, Outcome] = {}
    records: dict[str, list[Any]] = {}
    sent: dict[str, Any] = {}
    ways = WAYS if isinstance(case.body, dict) else WAYS[:2]
    for way in ways:
        key = await site.key(**case.key)
        for body in (case.first, case.body):
            if body is None:
                continue
            if body is case.body and case.change is not None:
                await case.change(site, key)
            go = by_http(site, key, body) if way == "http" else by_grpc(site, key, body, way)
            found[way] = await go
        metered = await site.settled(key, len(case.records))
        records[way] = [_told_of(record) for record in metered]
        assert case.records == tuple((r.outcome, r.charge_nusd) for r in metered), way
        sent[way] = site.main.seen[-1].body if case.records else None

    for way in ways:
        assert (case.status, case.reason, case.param) == (
            found[way].status,
            found[way].reason,
            found[way].param,
        ), way
        assert found["http"].text == found[way].text, way
        assert records["http"] == records[way], way
        assert sent["http"] == sent[way], way
        assert found["http"].headers == found[way].headers, way
    if not case.reason:
        assert found["http"].raw == found["body"].raw


def _told_of(record: Any) -> tuple[Any, ...]:
    return (
        record.outcome,
        record.usage.SerializeToString(deterministic=True),
        record.charge_nusd,
        record.model_id,
        record.is_streaming,
    )


@pytest.mark.parametrize("way", WAYS)
async def test_client_that_leaves_ends_its_upstream_and_pays_what_it_got(
    site: Site, way: str
) -> None:
    key = await site.key()
    body = chat("fake=chunks:3000;delay_ms:5;usage:every", stream=True, max_tokens=3000)

    if way == "http":
        async with site.post(key, body) as response:
            await response.content.readany()
    else:
        request = router_pb2.RunRequest(body=encode(body))
        if way == "chat":
            request = router_pb2.RunRequest(chat=typed(body))
        async with caller_of(site) as router:
            call = router.Run(request, metadata=shown(key))
            assert isinstance(await call.read(), router_pb2.RunResponse)
            call.cancel()
            await until(lambda: site.main.seen[0].is_over)

    await until(lambda: site.main.seen[0].is_over)
    (record,) = await site.settled(key, 1)
    assert site.main.seen[0].is_aborted
    assert "client_closed" == record.outcome
    assert 0 < record.usage.completion_token_count <= site.main.seen[0].chunks_sent
    assert price_nusd(12, record.usage.completion_token_count) == record.charge_nusd
    await until(lambda: site.gateway.deps.running.count == 0)
    assert [499] == [line["status"] for line in site.logged()]


@pytest.mark.parametrize("way", WAYS)
async def test_key_that_is_wrong_or_missing_never_reaches_a_room(site: Site, way: str) -> None:
    for secret in ("", "sk-tp-none", "guess"):
        key = Key("", "", secret)
        body = chat()
        found = await (by_http(site, key, body) if way == "http" else by_grpc(site, key, body, way))

        assert (401, "INVALID_API_KEY") == (found.status, found.reason)
    assert [] == site.main.seen


@pytest.mark.parametrize("way", WAYS)
async def test_gateway_that_is_full_says_so_whichever_way_the_others_came(
    open_site: OpenSite, way: str
) -> None:
    site = await open_site(Wish(gateway={**SERVED, "requests_max": 1}))
    key = await site.key()

    async with asyncio.TaskGroup() as tasks:
        held = tasks.create_task(by_http(site, key, chat("fake=hang:headers_before")))
        await until(lambda: len(site.main.seen) == 1)
        full = await (
            by_http(site, key, chat()) if way == "http" else by_grpc(site, key, chat(), way)
        )
        held.cancel()

    assert (503, "OVERLOADED") == (full.status, full.reason)


async def test_tenants_see_and_pay_for_their_own_alone(site: Site) -> None:
    one, two = await site.key(models=[SMALL]), await site.key(models=[FREE])

    async with caller_of(site) as router:
        seen = {
            key.key_id: [
                model.model_id
                for model in (
                    await router.ListModels(router_pb2.ListModelsRequest(), metadata=shown(key))
                ).models
            ]
            for key in (one, two)
        }
    found = await by_grpc(site, one, chat(), "body")
    others = await by_grpc(site, two, chat(), "body")

    assert {one.key_id: [SMALL], two.key_id: [FREE]} == seen
    assert (200, 404) == (found.status, others.status)
    assert [DONE] == [(r.outcome, r.charge_nusd) for r in await site.settled(one, 1)]
    assert [] == await site.settled(two, 0)
