"""Constrained output through the whole stack, and upstreams that fail open."""

import json
from typing import Any

import pytest

from kit.bus.port import StreamSpec
from tests.fakes.openai_script import Script
from tests.fixtures.catalogues import SMALL, TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import OpenSite, Site, until
from tests.integration.gateway.wire import Answer, answer_of, events_of, text_of
from turnpike.events.v1 import events_pb2

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
NAMED = {"type": "json_schema", "json_schema": {"name": "p", "schema": SCHEMA, "strict": True}}
GOOD = '{"age": 41}'
BOMBS: list[Any] = [
    json.loads('{"not":' * 400 + "{}" + "}" * 400),
    {"pattern": "((a{100}){100}){100}"},
    {"pattern": "(" * 3_000},
    {"$ref": "#"},
    {"$ref": "https://example.com/schema.json"},
    {"$ref": "file:///etc/passwd"},
    {
        "$ref": "#/$defs/d0",
        "$defs": {
            f"d{n}": {"oneOf": [{"$ref": f"#/$defs/d{(n + 1) % 30}"} for _ in range(9)]}
            for n in range(30)
        },
    },
]


async def with_engine(site: Site, engine: str) -> None:
    """Say what runs behind both upstreams, and wait until the router knows."""
    catalogue = usual_catalogue(site.main, site.spare)
    for provider in catalogue["providers"].values():
        provider["engine"] = engine
        provider["backend"] = engine
    site.write_catalogue(catalogue)
    key = await site.key()

    async def is_known() -> bool:
        answer = await answer_of(site.post(key, chat()))
        return answer.headers["X-Backend"] == engine

    await until(is_known)
    site.main.seen.clear()


def scripted(site: Site, text: str, spare: str = GOOD, **more: Any) -> None:
    site.main.handler = lambda _seen: Script(text=text, **more)
    site.spare.handler = lambda _seen: Script(text=spare, **more)


async def outcomes(site: Site, request_id: str) -> list[events_pb2.UsageEvent]:
    """Return what the router said of how a request ended."""
    spec = StreamSpec(name="USAGE", subjects=("usage.v1.>",))
    found: list[events_pb2.UsageEvent] = []
    async with site.bus.consume(spec, durable=f"read-{site.new_id()}") as consumer:

        async def is_there() -> bool:
            for delivery in await consumer.fetch(count_max=100, wait_s=0.05):
                events = events_pb2.UsageBatch.FromString(delivery.data).events
                found.extend(e for e in events if e.event_id == f"{request_id}:outcome")
            return bool(found)

        await until(is_there)
    return found


def content(answer: Answer) -> Any:
    return answer.json["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": NAMED},
        {"response_format": {"type": "json_object"}},
        {"guided_json": SCHEMA},
        {"guided_json": json.dumps(SCHEMA)},
    ],
)
@pytest.mark.parametrize("is_streaming", [False, True])
async def test_answer_that_keeps_to_its_constraint_is_charged(
    site: Site, fields: dict[str, Any], is_streaming: bool
) -> None:
    key = await site.key()
    scripted(site, GOOD, chunks=3)

    answer = await answer_of(site.post(key, chat(stream=is_streaming, **fields)))

    (record,) = await site.settled(key, 1)
    text = text_of(events_of(answer.body)) if is_streaming else content(answer)
    sent = site.main.seen[0].body
    assert (200, GOOD) == (answer.status, text)
    assert ("completed", price_nusd(12, 3)) == (record.outcome, record.charge_nusd)
    assert sent["response_format"]["type"].startswith("json")
    assert "guided_json" not in sent


async def test_plain_answer_that_fails_open_is_answered_by_the_next_route(site: Site) -> None:
    key = await site.key()
    scripted(site, "I am 41.")

    answer = await answer_of(site.post(key, chat(model=TWICE, guided_json=SCHEMA)))
    again = await answer_of(site.post(key, chat(model=TWICE, guided_json=SCHEMA)))

    records = await site.settled(key, 2)
    assert [(200, "2", GOOD), (200, "1", GOOD)] == [
        (one.status, one.headers["X-Turnpike-Attempts"], content(one)) for one in (answer, again)
    ]
    assert ["twice-spare"] * 2 == [record.deployment for record in records]
    assert [price_nusd(12, 16)] * 2 == [record.charge_nusd for record in records]
    assert 1 == len(site.main.seen)
    assert 'turnpike_router_invalid_output_total{deployment="twice-main"} 1.0' in site.metrics()


async def test_plain_answer_that_fails_open_everywhere_costs_nothing(site: Site) -> None:
    key = await site.key()
    scripted(site, "I am 41.", "So am I.")

    answer = await answer_of(site.post(key, chat(model=TWICE, response_format=NAMED)))

    (record,) = await site.settled(key, 1)
    assert (502, "upstream_invalid_response") == (answer.status, answer.error["code"])
    assert "response_format" in answer.error["message"]
    assert "I am" not in answer.body.decode()
    assert ("refused", 0) == (record.outcome, record.charge_nusd)
    assert (1, 1) == (len(site.main.seen), len(site.spare.seen))


async def test_stream_that_fails_open_ends_in_an_error_and_is_refunded(site: Site) -> None:
    key = await site.key()
    scripted(site, "I am 41 years old.", chunks=6, delay_ms=5)

    answer = await answer_of(site.post(key, chat(model=TWICE, guided_json=SCHEMA, stream=True)))

    *chunks, last = events_of(answer.body)
    (outcome,) = await outcomes(site, answer.headers["X-Request-Id"])
    assert "I am 41 years old." == text_of(chunks)
    assert "[DONE]" not in chunks
    assert ("upstream_invalid_response", "server_error") == (
        last["error"]["code"],
        last["error"]["type"],
    )
    assert "refunded" in last["error"]["message"]
    assert events_pb2.UsageEvent.OUTCOME_INVALID_OUTPUT == outcome.outcome
    assert price_nusd(12, 6) == outcome.charge_nusd == outcome.refund_nusd
    assert [] == site.spare.seen


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_choice_is_shown_without_the_object_it_came_in(
    site: Site, is_streaming: bool
) -> None:
    key = await site.key()
    wrapped = '{ "choice" : "né" }'
    scripted(site, wrapped, chunks=len(wrapped))

    answer = await answer_of(site.post(key, chat(guided_choice=["ja", "né"], stream=is_streaming)))

    (record,) = await site.settled(key, 1)
    sent = site.main.seen[0].body["response_format"]["json_schema"]
    text = text_of(events_of(answer.body)) if is_streaming else content(answer)
    assert (200, "né") == (answer.status, text)
    assert ["ja", "né"] == sent["schema"]["properties"]["choice"]["enum"]
    assert price_nusd(12, len(wrapped)) == record.charge_nusd


async def test_wrong_choice_in_a_stream_is_tried_elsewhere(site: Site) -> None:
    key = await site.key()
    scripted(site, '{"choice":"perhaps"}', '{"choice":"ja"}', delay_ms=2)

    answer = await answer_of(
        site.post(key, chat(model=TWICE, guided_choice=["ja", "né"], stream=True))
    )

    assert ("ja", "2") == (text_of(events_of(answer.body)), answer.headers["X-Turnpike-Attempts"])


@pytest.mark.parametrize(
    ("engine", "fields", "text", "wanted", "ignored"),
    [
        ("vllm", {"guided_regex": "[a-z]+"}, "abc", {"structured_outputs": {"regex": "[a-z]+"}},
         None),
        ("vllm", {"guided_json": SCHEMA, "guided_whitespace_pattern": "[ ]?"}, GOOD,
         {"structured_outputs": {"json": SCHEMA, "whitespace_pattern": "[ ]?"}}, None),
        ("vllm", {"guided_grammar": "root ::= x", "guided_decoding_backend": "xgrammar"}, "any",
         {"structured_outputs": {"grammar": "root ::= x"}}, "guided_decoding_backend"),
        ("sglang", {"guided_choice": ["a", "b"], "guided_whitespace_pattern": " "}, "a",
         {"regex": "(a|b)"}, "guided_whitespace_pattern"),
        ("openai", {"guided_decoding_backend": "xgrammar"}, "any", {}, "guided_decoding_backend"),
    ],
)  # fmt: skip
async def test_engine_is_told_in_its_own_words_and_hints_it_ignores_are_named(
    open_site: OpenSite,
    engine: str,
    fields: dict[str, Any],
    text: str,
    wanted: dict[str, Any],
    ignored: str | None,
) -> None:
    site = await open_site()
    await with_engine(site, engine)
    key = await site.key()
    scripted(site, text, chunks=2)

    answers = [
        await answer_of(site.post(key, chat(stream=is_streaming, **fields)))
        for is_streaming in (False, True)
    ]

    usual = ("model", "messages", "stream", "stream_options", "max_tokens")
    assert [200, 200] == [answer.status for answer in answers]
    assert [ignored] * 2 == [answer.headers.get("X-Turnpike-Ignored") for answer in answers]
    assert text == content(answers[0]) == text_of(events_of(answers[1].body))
    for seen in site.main.seen:
        assert wanted == {name: seen.body[name] for name in seen.body if name not in usual}


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_regex": "a+"},
        {"guided_grammar": "root ::= x"},
        {"structural_tag": {"format": {"type": "any_text"}}},
    ],
)
async def test_constraint_that_no_route_can_keep_is_refused_by_name(
    site: Site, fields: dict[str, Any]
) -> None:
    key = await site.key()

    answer = await answer_of(site.post(key, chat(**fields)))

    assert (400, "unsupported_parameter", *fields) == (
        answer.status,
        answer.error["code"],
        answer.error["param"],
    )
    assert [] == site.main.seen


async def test_schema_bombs_are_refused_before_any_money_moves(site: Site) -> None:
    key = await site.key(credit_nusd=0)

    answers = [await answer_of(site.post(key, chat(guided_json=bomb))) for bomb in BOMBS]

    assert [(400, "invalid_value", "guided_json")] * len(BOMBS) == [
        (answer.status, answer.error["code"], answer.error["param"]) for answer in answers
    ]
    assert [] == site.main.seen


async def test_request_of_one_tenant_is_not_held_up_by_a_schema_that_explodes(site: Site) -> None:
    """The schema is sound and the text short, but judging it naively would take for ever."""
    branch = {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}}
    schema = {"$defs": {"n": {"oneOf": [branch, branch]}}, "$ref": "#/$defs/n"}
    key = await site.key()
    scripted(site, '{"a":' * 60 + "1" + "}" * 60, chunks=9)

    answer = await answer_of(site.post(key, chat(model=SMALL, guided_json=schema)))

    assert 200 == answer.status
    assert 'turnpike_router_unjudged_output_total{deployment="small-main"} 1.0' in site.metrics()
