"""Completions and embeddings through a whole site: shapes by dialect, refusals, failures, bills.

Rows of facts/features: E2, P11-P13, P21, A1-A5, A10, A12, A16, A18-A20, H1, T1, X10, B1, the end
of 1.6 and the OpenAI row of 6.4, as these endpoints have them.
"""

import asyncio
import base64
import json
import struct
from typing import Any

import openai
import pytest

from tests.fakes.openai_script import Script
from tests.fakes.openai_texts import vector_of
from tests.fixtures.catalogues import COMPLETION_PUSD, PRICE, PROMPT_PUSD, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, until
from tests.integration.gateway.wire import Answer, answer_of, events_of, tokens

TEXT, EMBED, BOTH = "acme/text", "acme/embed", "acme/both"
CHAT = "acme/chat"
WORDS = "a few words to begin with"
PREFIXES = {"openai": "/v1", "infer": "/api/v1", "vram": "/vram/v1", "bud": "/bud/v1",
            "runinfra": "/runinfra/v1"}  # fmt: skip
MODELS = {
    TEXT: ["completion"],
    EMBED: ["embedding"],
    BOTH: ["chat", "completion"],
    CHAT: ["chat"],
}


@pytest.fixture
async def texts(open_site: OpenSite) -> Site:
    """A site whose models serve other things than chat, each on two upstreams."""
    site = await open_site()
    upstreams = {"main": site.main, "spare": site.spare}
    site.write_catalogue(
        {
            "providers": {
                name: {"kind": "openai_compat", "base_url": upstream.base_url}
                for name, upstream in upstreams.items()
            },
            "models": {
                model: {
                    "context_length": 8192,
                    "operations": operations,
                    "deployments": [
                        {
                            "name": f"{model}-{name}",
                            "provider": name,
                            "upstream_model": "upstream-small",
                            "price": PRICE,
                            "priority": priority,
                        }
                        for priority, name in enumerate(upstreams)
                    ],
                }
                for model, operations in MODELS.items()
            },
        }
    )

    async def is_loaded() -> bool:
        await site.gateway.deps.models.refresh()
        return {model.model_id for model in site.gateway.deps.models._models} == set(MODELS)

    await until(is_loaded)
    return site


async def ask(site: Site, key: Key, path: str, body: Any, prefix: str = "/v1") -> Answer:
    url = f"{site.url}{prefix}/{path}"
    return await answer_of(site.http.post(url, json=body, headers=key.headers))


def prompt(text: Any = WORDS, **fields: Any) -> dict[str, Any]:
    return {"model": TEXT, "prompt": text, **fields}


def said(events: list[Any]) -> str:
    return "".join(c["text"] for e in events if e != "[DONE]" for c in e.get("choices", ()))


@pytest.mark.parametrize("dialect", PREFIXES)
async def test_completion_has_its_dialects_shape_streamed_and_whole(
    texts: Site, dialect: str
) -> None:
    key, prefix = await texts.key(), PREFIXES[dialect]

    whole = await ask(texts, key, "completions", prompt(stream=False), prefix)
    streamed = await ask(texts, key, "completions/", prompt(stream=True), prefix)

    *chunks, done = events_of(streamed.body)
    records = await texts.settled(key, 2)
    ids = [whole.json["id"], chunks[0]["id"]]
    start = "" if dialect == "bud" else "cmpl-"
    assert sorted(ids) == sorted(start + record.request_id for record in records)
    assert {TEXT} == {whole.json["model"]} | {chunk["model"] for chunk in chunks}
    assert {"text_completion"} == {whole.json["object"]} | {chunk["object"] for chunk in chunks}
    assert tokens(16) == whole.json["choices"][0]["text"] == said(chunks)
    assert ("[DONE]", "stop") == (done, chunks[-1]["choices"][0]["finish_reason"])
    rides = dialect != "runinfra"
    assert rides == ("usage" in chunks[-1])
    assert 28 == whole.json["usage"]["total_tokens"]
    assert {price_nusd(12, 16)} == {record.charge_nusd for record in records}
    assert {"/v1/completions"} == {seen.path for seen in texts.main.seen}
    sent = [seen.body for seen in texts.main.seen]
    assert {4096 if dialect == "vram" else 512 if dialect == "runinfra" else 16} == {
        body["max_tokens"] for body in sent
    }
    assert {"upstream-small"} == {body["model"] for body in sent}


async def test_usage_that_is_asked_for_comes_last_and_alone(texts: Site) -> None:
    key = await texts.key()
    body = prompt(stream=True, stream_options={"include_usage": True})

    *chunks, last, _ = events_of((await ask(texts, key, "completions", body)).body)

    assert ([], 28) == (last["choices"], last["usage"]["total_tokens"])
    assert {None} == {chunk["usage"] for chunk in chunks}
    await texts.settled(key, 1)


async def test_every_prompt_and_choice_is_answered_held_and_charged(texts: Site) -> None:
    key = await texts.key()
    texts.main.handler = lambda _seen: Script(chunks=4, choices=6)
    body = prompt([WORDS, "b"], n=3)

    whole = await ask(texts, key, "completions", body)
    streamed = await ask(texts, key, "completions", {**body, "stream": True})

    chunks = [event for event in events_of(streamed.body) if event != "[DONE]"]
    ends = [c["index"] for e in chunks for c in e["choices"] if c["finish_reason"]]
    assert list(range(6)) == [choice["index"] for choice in whole.json["choices"]] == sorted(ends)
    assert {24} == {record.usage.completion_token_count for record in await texts.settled(key, 2)}


async def test_upstream_with_too_few_choices_is_no_answer(texts: Site) -> None:
    key = await texts.key()
    script = Script(choices=1, delay_ms=2)
    texts.main.handler = texts.spare.handler = lambda _seen: script
    body = prompt(stream=True, n=2)

    answer = await ask(texts, key, "completions", body)

    assert "upstream_incomplete" == events_of(answer.body)[-1]["error"]["code"]
    await texts.settled(key, 1)


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
async def test_vectors_come_as_asked_and_cost_their_prompts(
    texts: Site, encoding: str | None
) -> None:
    key = await texts.key()
    body: dict[str, Any] = {"model": EMBED, "input": [WORDS, "b"], "dimensions": 4, "user": "u"}
    if encoding is not None:
        body["encoding_format"] = encoding

    answer = await ask(texts, key, "embeddings", body)

    (record,) = await texts.settled(key, 1)
    found = [entry["embedding"] for entry in answer.json["data"]]
    if encoding == "base64":
        found = [list(struct.unpack("<4f", base64.b64decode(text))) for text in found]
    assert [vector_of(0, 4), vector_of(1, 4)] == found
    assert {"prompt_tokens": 12, "total_tokens": 12} == answer.json["usage"]
    assert (12, 0, "completed") == (
        record.usage.prompt_token_count,
        record.usage.completion_token_count,
        record.outcome,
    )
    assert price_nusd(12, 0) == record.charge_nusd > 0
    assert answer.headers["X-Request-Id"] == record.request_id
    assert "0.0000018" == answer.headers["X-Turnpike-Cost"]
    (seen,) = texts.main.seen
    assert ("/v1/embeddings", {**body, "model": "upstream-small"}) == (seen.path, seen.body)


async def test_vectors_nobody_counted_cost_half_the_bound_and_say_so(texts: Site) -> None:
    key = await texts.key()
    texts.main.handler = lambda _seen: Script(usage="never")

    answer = await ask(texts, key, "embeddings", {"model": EMBED, "input": "x" * 1000})

    (record,) = await texts.settled(key, 1)
    assert (504 // 2, 0) == (
        record.usage.prompt_token_count,
        record.usage.completion_token_count,
    )
    assert {"prompt_tokens": 252, "total_tokens": 252} == answer.json["usage"]
    assert price_nusd(252, 0) == record.charge_nusd


@pytest.mark.parametrize(
    "script", ["status:500", "vectors:fewer", "vectors:ragged", "body:junk", "usage:absurd"]
)
async def test_vectors_that_fail_are_tried_elsewhere_and_else_cost_nothing(
    texts: Site, script: str
) -> None:
    key = await texts.key()
    body = {"model": EMBED, "input": [WORDS, f"fake={script}"]}
    texts.spare.handler = lambda _seen: Script()

    saved = await ask(texts, key, "embeddings", body)
    texts.spare.handler = texts.main.handler
    lost = await ask(texts, key, "embeddings", body)

    records = await texts.settled(key, 2)
    assert (200, "2") == (saved.status, saved.headers["X-Turnpike-Attempts"])
    assert (502, "all_providers_failed") == (lost.status, lost.error["code"])
    assert [("completed", price_nusd(12, 0)), ("refused", 0)] == sorted(
        (record.outcome, record.charge_nusd) for record in records
    )


@pytest.mark.parametrize(
    ("path", "model", "served"),
    [
        ("completions", CHAT, "serves chat completions, not text completions"),
        ("completions", EMBED, "serves embeddings, not text completions"),
        ("embeddings", BOTH, "serves chat completions and text completions, not embeddings"),
        ("chat/completions", EMBED, "serves embeddings, not chat completions"),
        ("chat/completions", TEXT, "serves text completions, not chat completions"),
    ],
)
async def test_model_is_asked_only_for_what_it_serves(
    texts: Site, path: str, model: str, served: str
) -> None:
    key = await texts.key()
    messages = [{"role": "user", "content": "x"}]
    body = {"model": model, "prompt": "x", "input": "x", "messages": messages}
    if path == "completions":
        del body["messages"]

    error = (await ask(texts, key, path, body)).error

    assert ("invalid_value", "model") == (error["code"], error["param"])
    assert f"{model} {served}." == error["message"]
    assert [] == texts.main.seen
    assert [] == await texts.records(key)


async def test_refusals_speak_the_dialect(texts: Site) -> None:
    key = await texts.key()
    body = {"model": EMBED, "input": ""}

    codes = {
        dialect: (await ask(texts, key, "embeddings", body, prefix)).json["error"].get("code")
        for dialect, prefix in PREFIXES.items()
    }

    assert {"openai": "invalid_value", "infer": "INVALID_VALUE", "vram": None, "bud": 400,
            "runinfra": None} == codes  # fmt: skip


async def test_caller_without_enough_credit_is_refused_by_the_prompts_alone(texts: Site) -> None:
    poor = await texts.key(credit_nusd=10_000)

    answer = await ask(texts, poor, "embeddings", {"model": EMBED, "input": ["x" * 4000] * 5})
    small = await ask(texts, poor, "embeddings", {"model": EMBED, "input": "x" * 100})

    assert (402, "insufficient_quota") == (answer.status, answer.error["code"])
    assert 200 == small.status


async def test_stream_that_is_left_costs_exactly_what_was_handed_over(texts: Site) -> None:
    key = await texts.key()
    body = prompt("shape=c400-d5 fake=usage:every", stream=True, max_tokens=400)
    seen = b""

    async with texts.http.post(
        f"{texts.url}/v1/completions", json=body, headers=key.headers
    ) as answer:
        while seen.count(b'"text":"tok') < 10:
            seen += await answer.content.readany()
        answer.close()

    (record,) = await texts.settled(key, 1)
    await until(lambda: texts.main.seen[0].is_over)
    delivered = record.usage.completion_token_count
    assert "client_closed" == record.outcome
    assert 9 <= delivered <= texts.main.seen[0].chunks_sent < 400
    assert -(-(12 * PROMPT_PUSD + delivered * COMPLETION_PUSD) // 1000) == record.charge_nusd


async def test_failure_after_content_is_one_event_and_charged_as_delivered(texts: Site) -> None:
    key = await texts.key()
    script = "chunks:40;delay_ms:2;cut_after:9;usage:every"

    answer = await ask(texts, key, "completions", prompt(f"fake={script}", stream=True))

    *chunks, last = events_of(answer.body)
    (record,) = await texts.settled(key, 1)
    assert ("upstream_incomplete", tokens(9)) == (last["error"]["code"], said(chunks))
    assert ("upstream_failed", price_nusd(12, 9)) == (record.outcome, record.charge_nusd)


async def test_caller_that_leaves_before_its_vectors_pays_nothing(texts: Site) -> None:
    key = await texts.key()
    texts.main.handler = lambda _seen: Script(hang="headers_before")

    call = asyncio.ensure_future(ask(texts, key, "embeddings", {"model": EMBED, "input": WORDS}))
    await until(lambda: bool(texts.main.seen))
    call.cancel()

    (record,) = await texts.settled(key, 1)
    await until(lambda: texts.main.seen[0].is_over)
    assert ("client_closed", 0) == (record.outcome, record.charge_nusd)


async def test_both_are_counted_and_logged_under_their_own_route(texts: Site) -> None:
    key = await texts.key()
    await ask(texts, key, "completions", prompt(), "/bud/v1")
    await ask(texts, key, "embeddings", {"model": EMBED, "input": WORDS}, "/api/v1")
    await texts.settled(key, 2)

    lines = {line["route"]: line for line in texts.logged() if "model" in line}
    metrics = texts.metrics()

    embedded = lines["POST /v1/embeddings"]
    assert (EMBED, 12, 0) == (embedded["model"], embedded["tokens_in"], embedded["tokens_out"])
    assert (TEXT, 16) == (
        lines["POST /v1/completions"]["model"],
        lines["POST /v1/completions"]["tokens_out"],
    )
    for route, model in (("completions", TEXT), ("embeddings", EMBED)):
        labels = f'model="{model}",route="POST /v1/{route}",status="200"'
        assert f"turnpike_gateway_requests_total{{{labels}}} 1.0" in metrics


async def test_official_client_speaks_to_both(texts: Site) -> None:
    key = await texts.key()
    async with openai.AsyncOpenAI(
        base_url=f"{texts.url}/v1", api_key=key.secret, max_retries=0
    ) as client:
        whole = await client.completions.create(model=TEXT, prompt=WORDS, max_tokens=16)
        stream = await client.completions.create(model=TEXT, prompt=WORDS, stream=True)
        parts = [chunk.choices[0].text async for chunk in stream]
        vectors = await client.embeddings.create(model=EMBED, input=[WORDS, "b"])
        floats = await client.embeddings.create(
            model=EMBED, input=[WORDS, "b"], encoding_format="float"
        )
        with pytest.raises(openai.BadRequestError) as refused:
            await client.embeddings.create(model=TEXT, input="a")

    assert tokens(16) == whole.choices[0].text == "".join(parts)
    assert [vector_of(0), vector_of(1)] == [entry.embedding for entry in vectors.data]
    assert [entry.embedding for entry in floats.data] == [vector_of(0), vector_of(1)]
    assert (12, 12) == (vectors.usage.prompt_tokens, vectors.usage.total_tokens)
    assert "model" == refused.value.param
    assert 4 == len(await texts.settled(key, 4))


async def test_bodies_that_are_no_json_are_refused_at_both(texts: Site) -> None:
    key = await texts.key()
    headers = {**key.headers, "Content-Type": "application/json"}
    found = []
    for path in ("completions", "embeddings"):
        for raw in (b"", b"{", b'{"model":"\\ud800"}', b"[" * 100_000, json.dumps([1]).encode()):
            call = texts.http.post(f"{texts.url}/v1/{path}", data=raw, headers=headers)
            found.append((await answer_of(call)).status)

    assert {400} == set(found)
    assert [] == texts.main.seen
