"""Bodies that are no JSON, or no JSON that can be meant, at every endpoint that takes JSON.

Row R-B3 of facts/reliability A5: each is 400 in the endpoint's own error form, and nothing happens.
"""

import json
from typing import Any

import pytest

from gateway.docs.operations import JSON, OPERATIONS
from tests.fixtures.catalogues import chat
from tests.fixtures.gateway import Key, OpenSite, Site
from tests.integration.gateway.wire import Answer, answer_of

USER = {"role": "user", "content": "hi"}
GOOD: dict[str, dict[str, Any]] = {
    "/chat/completions": {"model": "acme/small", "messages": [USER]},
    "/responses": {"model": "acme/small", "input": "hi"},
    "/messages": {"model": "acme/small", "max_tokens": 8, "messages": [USER]},
    "/messages/count_tokens": {"model": "acme/small", "messages": [USER]},
    "/route:explain": {"model": "acme/small", "messages": [USER]},
    "/completions": {"model": "acme/small", "prompt": "hi"},
    "/embeddings": {"model": "acme/small", "input": "hi"},
    "/images/generations": {"model": "acme/small", "prompt": "hi"},
    "/audio/speech": {"model": "acme/small", "input": "hi", "voice": "alloy"},
    "/billing/checkout": {"amount_cents": 500},
    "/billing/auto-recharge": {"is_enabled": False},
    "/quotes": {"model": "acme/small", "messages": [USER]},
    "/episodes/{episode}": {"budget_nusd": 1_000},
}
NUMBERS = {
    "/chat/completions": "max_tokens",
    "/responses": "max_output_tokens",
    "/messages": "max_tokens",
    "/messages/count_tokens": "max_tokens",
    "/route:explain": "max_tokens",
    "/completions": "max_tokens",
    "/embeddings": "dimensions",
    "/images/generations": "n",
    "/audio/speech": "speed",
    "/billing/checkout": "amount_cents",
    "/billing/auto-recharge": "below_cents",
    "/quotes": "max_tokens",
    "/episodes/{episode}": "budget_nusd",
}
"""A field of each that takes a number."""

DEEP = 100_000
VALUES = {
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "-Infinity": b"-Infinity",
    "1e999": b"1e999",
    "2^64": b"18446744073709551616",
    "5,000 digits": b"9" * 5000,
    "lone surrogate": b'"\\ud800"',
    "invalid UTF-8": b'"\xff"',
    "surrogate as UTF-8": b'"\xed\xa0\x80"',
    "raw NUL": b'"\0"',
}
"""What no field takes."""

NO_JSON = {
    "NaN": b"[NaN]",
    "lone surrogate": b'{"\\udfff":1}',
    "invalid UTF-8": b'"\xc0\xaf"',
    "raw NUL": b'"\0"',
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
}
"""What is refused even in a field that nobody reads."""


def with_field(fields: dict[str, Any], name: str, value: bytes) -> bytes:
    """Return fields as JSON, and one more last, as it is."""
    return json.dumps(fields).encode()[:-1] + b',"%b":%b}' % (name.encode(), value)


def bad_bodies(path: str) -> dict[str, bytes]:
    fields = GOOD[path]
    good, no_model = json.dumps(fields).encode(), {**fields}
    no_model.pop("model", None)
    return {
        **{f"{n} as a number": with_field(fields, NUMBERS[path], v) for n, v in VALUES.items()},
        **{f"{n} as the model": with_field(no_model, "model", v) for n, v in VALUES.items()},
        **{f"{n} nobody reads": with_field(fields, "x", v) for n, v in NO_JSON.items()},
        "duplicate key, the last one wrong": with_field(fields, "model", b"7"),
        "deep arrays alone": NO_JSON["deep arrays"],
        "deep arrays without an end": b"[" * DEEP,
        "byte order mark": b"\xef\xbb\xbf" + good,
        "trailing junk": good + b"x",
        "trailing NUL": good + b"\0",
        "two values": good + good,
        "array": b"[%b]" % good,
        "text": b'"hi"',
        "number": b"7",
        "null": b"null",
        "empty": b"",
        "blank": b" \n",
        "empty object": b"{}",
    }


@pytest.fixture
async def site(open_site: OpenSite) -> Site:
    return await open_site()


async def send(site: Site, key: Key, path: str, body: bytes) -> Answer:
    headers = {**key.headers, "Content-Type": "application/json"}
    url = f"{site.url}/v1{path.format(episode='episode-1')}"
    method = "PUT" if path.startswith("/episodes") else "POST"
    return await answer_of(site.http.request(method, url, data=body, headers=headers))


def told(path: str, answer: Answer) -> tuple[int, str]:
    """Return status and error type of a refusal, checked for its endpoint's form."""
    if not path.startswith("/messages"):
        return answer.status, answer.error["type"]
    body = answer.json
    assert {"type", "error", "request_id"} == body.keys()
    assert "error" == body["type"]
    assert {"type", "message", "details"} == body["error"].keys()
    assert answer.headers["X-Request-Id"] == body["request_id"]
    return answer.status, body["error"]["type"]


def test_every_endpoint_that_takes_json_is_in_the_table() -> None:
    served = {each.path for each in OPERATIONS if each.request and each.request_type == JSON}

    assert served == GOOD.keys() == NUMBERS.keys()


@pytest.mark.parametrize("path", GOOD)
async def test_body_is_refused_in_the_endpoints_own_form(site: Site, path: str) -> None:
    key, bad = await site.key(scopes=["chat", "models", "usage", "billing"]), bad_bodies(path)

    answers = {name: await send(site, key, path, body) for name, body in bad.items()}

    found = {name: told(path, answer) for name, answer in answers.items()}
    assert dict.fromkeys(bad, (400, "invalid_request_error")) == found
    assert [] == site.main.seen
    good = await answer_of(site.post(key, chat()))
    (record,) = await site.settled(key, 1)
    assert good.headers["X-Request-Id"] == record.request_id


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/messages"])
async def test_of_a_key_that_is_given_twice_the_last_counts(site: Site, path: str) -> None:
    key = await site.key()
    twice = with_field({**GOOD[path], "model": "none"}, "model", b'"acme/small"')

    answer = await send(site, key, path, twice)

    assert 200 == answer.status
    assert [1] == [seen.raw.count(b'"model":') for seen in site.main.seen]
