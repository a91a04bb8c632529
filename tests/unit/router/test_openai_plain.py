"""Whole completions, usage objects and refusals of OpenAI-compatible upstreams."""

import json
from email.utils import formatdate
from typing import Any

import pytest

from services.router.providers.openai.errors import (
    RETRY_AFTER_MAX_S,
    error_in_answer,
    error_of_status,
    retry_after_s,
)
from services.router.providers.openai.plain import read_completion
from services.router.providers.openai.usage import read_usage
from services.router.providers.port import Batch, Failure, ProviderError
from tests.fakes.openai_calls import make_call
from tests.fakes.openai_script import Script, dumps, odd_body, plain_body
from turnpike.type.v1 import usage_pb2

SECRET = "my secret prompt sk-12345"


def read(body: bytes, choice_count: int = 1) -> Batch:
    return read_completion(make_call(is_streaming=False), body, choice_count=choice_count)


def failure_of(body: bytes, choice_count: int = 1) -> Failure:
    with pytest.raises(ProviderError) as caught:
        read(body, choice_count)
    assert "secret" not in caught.value.message
    return caught.value.failure


def test_completion_is_put_under_our_identity_and_the_rest_is_kept() -> None:
    body, _ = plain_body(Script(chunks=3, blank=4), {})

    batch = read(body)

    answer = json.loads(batch.completion)
    assert ("chatcmpl-ours", "ours/model", 1_760_000_000) == (
        answer["id"],
        answer["model"],
        answer["created"],
    )
    assert "fp_fake" == answer["system_fingerprint"]
    assert "tok0 tok1 tok2 " == answer["choices"][0]["message"]["content"]
    assert 15 == answer["usage"]["total_tokens"]
    assert ("stop", 3) == (batch.finish.finish_reason, batch.finish.usage.completion_token_count)


def test_plain_answer_without_usage_is_estimated_by_its_length() -> None:
    body, _ = plain_body(Script(chunks=2, usage="never"), {})

    batch = read(body)

    assert usage_pb2.USAGE_SOURCE_ESTIMATED == batch.finish.usage.source
    assert 3 == batch.finish.usage.completion_token_count
    assert "usage" not in json.loads(batch.completion)


@pytest.mark.parametrize("finish", ["never", "unknown"])
def test_plain_answer_that_did_not_end_is_an_invalid_response(finish: str) -> None:
    body, _ = plain_body(Script(finish=finish), {})

    assert Failure.INVALID_RESPONSE is failure_of(body)


@pytest.mark.parametrize("kind", ["junk", "html", "empty", "list", "deep", "latin"])
def test_body_that_is_no_completion_is_an_invalid_response(kind: str) -> None:
    assert Failure.INVALID_RESPONSE is failure_of(odd_body(Script(body=kind)))


def test_too_few_choices_are_an_invalid_response() -> None:
    body, _ = plain_body(Script(choices=2), {})

    assert Failure.INVALID_RESPONSE is failure_of(body, 3)
    assert 2 == len(json.loads(read(body, 2).completion)["choices"])


def calling(*calls: Any) -> bytes:
    """Return a completion whose message has these tool calls."""
    return plain_body(Script(said={"tool_calls": list(calls)}), {})[0]


@pytest.mark.parametrize(
    "call",
    [
        {},
        5,
        {"id": "a"},
        {"type": "function"},
        {"function": {}},
        {"function": {"name": ""}},
        {"function": {"name": 7}},
        {"id": 7, "function": {"name": "f"}},
        {"index": "x", "function": {"name": "f"}},
    ],
    ids=str,
)
def test_call_of_nothing_is_an_invalid_response(call: Any) -> None:
    assert Failure.INVALID_RESPONSE is failure_of(calling({"function": {"name": "f"}}, call))


@pytest.mark.parametrize(
    "call",
    [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}},
        {"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}},
    ],
    ids=str,
)
def test_call_is_kept_as_it_came(call: Any) -> None:
    (choice,) = json.loads(read(calling(call)).completion)["choices"]

    assert [call] == choice["message"]["tool_calls"]


def test_error_in_a_plain_answer_is_a_failure() -> None:
    assert Failure.UNAVAILABLE is failure_of(odd_body(Script(body="error")))


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4, 0, 0)),
        ({"prompt_tokens": 3, "total_tokens": 9}, (3, 6, 0, 0)),
        ({"completion_tokens": 3, "total_tokens": 9}, (6, 3, 0, 0)),
        ({"prompt_tokens": 3.0, "completion_tokens": 4}, (3, 4, 0, 0)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "total_tokens": 20,
                "completion_tokens_details": {"reasoning_tokens": 6},
            },
            (10, 10, 0, 6),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 5},
            (9, 4, 5, 0),
        ),
        (
            {
                "prompt_tokens": 2,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 5},
                "completion_tokens_details": None,
            },
            (2, 4, 2, 0),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, 0, 0)),
        ({"prompt_tokens": 2**31, "completion_tokens": 1}, (2**31, 1, 0, 0)),
    ],
)
def test_usage_in_any_spelling_is_read(
    usage: dict[str, Any], counts: tuple[int, int, int, int]
) -> None:
    found = read_usage(dumps(usage))

    assert found is not None
    tokens = found.tokens
    assert counts == (
        tokens.prompt_token_count,
        tokens.completion_token_count,
        tokens.cached_prompt_token_count,
        tokens.reasoning_token_count,
    )
    shown = json.loads(found.json)
    assert counts[0] + counts[1] == shown["total_tokens"]
    assert counts[:2] == (shown["prompt_tokens"], shown["completion_tokens"])


def test_usage_keeps_fields_that_are_not_ours() -> None:
    found = read_usage(b'{"prompt_tokens":1,"cost":0.5,"completion_tokens":2}')

    assert found is not None
    assert 0.5 == json.loads(found.json)["cost"]


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": 4}, {"total_tokens": 4}, {"completion_tokens": None}]
)
def test_usage_that_does_not_say_enough_is_none(usage: dict[str, Any]) -> None:
    assert read_usage(dumps(usage)) is None


@pytest.mark.parametrize(
    "raw",
    [
        b'{"prompt_tokens":-1,"completion_tokens":1}',
        b'{"prompt_tokens":1,"completion_tokens":2147483649}',
        b'{"prompt_tokens":1,"completion_tokens":1e18}',
        b'{"prompt_tokens":1,"completion_tokens":1e999}',
        b'{"prompt_tokens":1,"completion_tokens":"4"}',
        b'{"prompt_tokens":1.5,"completion_tokens":4}',
        b'{"prompt_tokens":5,"total_tokens":4}',
        b'{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":-2}}',
        b"[]",
        b"7",
        b'{"prompt_tokens":' + b"9" * 5_000 + b"}",
    ],
)
def test_impossible_usage_is_refused(raw: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_usage(raw)

    assert Failure.INVALID_RESPONSE is caught.value.failure


@pytest.mark.parametrize(
    ("status", "error", "failure"),
    [
        (400, {"code": "x"}, Failure.REJECTED),
        (400, {"code": "context_length_exceeded"}, Failure.CONTEXT_LENGTH),
        (400, {"code": "content_filter"}, Failure.CONTENT_POLICY),
        (403, {"code": "content_policy_violation"}, Failure.CONTENT_POLICY),
        (400, {"code": "insufficient_quota"}, Failure.CREDENTIALS),
        (401, {}, Failure.CREDENTIALS),
        (402, {}, Failure.CREDENTIALS),
        (403, {}, Failure.CREDENTIALS),
        (404, {}, Failure.NOT_FOUND),
        (408, {}, Failure.UNAVAILABLE),
        (413, {}, Failure.REJECTED),
        (422, {}, Failure.REJECTED),
        (429, {"code": "insufficient_quota"}, Failure.RATE_LIMITED),
        (500, {}, Failure.UNAVAILABLE),
        (503, {}, Failure.UNAVAILABLE),
        (504, {}, Failure.UNAVAILABLE),
        (529, {}, Failure.UNAVAILABLE),
        (302, {}, Failure.INVALID_RESPONSE),
        (418, {}, Failure.INVALID_RESPONSE),
    ],
)
def test_status_and_code_decide_what_a_refusal_means(
    status: int, error: dict[str, Any], failure: Failure
) -> None:
    body = dumps({"error": {"message": SECRET, **error}})

    found = error_of_status(status, body, retry_after=b"", now_unix_s=0)

    assert (failure, status) == (found.failure, found.status)
    assert "secret" not in found.message


def test_refusal_names_code_and_param_only_when_they_are_identifiers() -> None:
    good = dumps({"error": {"message": SECRET, "param": "tools[0].name", "code": "bad_tool"}})
    bad = dumps({"error": {"message": SECRET, "param": SECRET, "code": SECRET}})

    named = error_of_status(400, good, retry_after=b"", now_unix_s=0)
    plain = error_of_status(400, bad, retry_after=b"", now_unix_s=0)

    assert (
        "The upstream refused the request (HTTP 400, code bad_tool, param tools[0].name)."
        == named.message
    )
    assert "The upstream refused the request (HTTP 400)." == plain.message


def test_context_error_without_a_code_is_known_by_its_words_and_keeps_the_number() -> None:
    text = f"This model's maximum context length is 4096 tokens. You sent: {SECRET}"

    found = error_of_status(
        400, dumps({"object": "error", "message": text, "code": 400}), retry_after=b"", now_unix_s=0
    )

    assert Failure.CONTEXT_LENGTH is found.failure
    assert "The request is longer than the model's 4096 tokens of context." == found.message


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'[{"error":7}]']
)
def test_refusal_with_a_junk_body_is_known_by_its_status(body: bytes) -> None:
    assert Failure.REJECTED is error_of_status(400, body, retry_after=b"", now_unix_s=0).failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"error": {"code": 429}}, Failure.RATE_LIMITED),
        ({"error": {"type": "invalid_request_error"}}, Failure.REJECTED),
        ({"error": {"type": "overloaded_error"}}, Failure.UNAVAILABLE),
        ([{"error": {"code": 404, "status": "NOT_FOUND"}}], Failure.NOT_FOUND),
        ({"error": {"code": True}}, Failure.UNAVAILABLE),
    ],
)
def test_error_object_tells_its_meaning_by_code_or_type(error: object, failure: Failure) -> None:
    found = error_in_answer(dumps(error))

    assert (failure, 200) == (found.failure, found.status)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7.0),
        (b" 1.5 ", 1.5),
        (b"99999999", RETRY_AFTER_MAX_S),
        (formatdate(1_000_030, usegmt=True).encode(), 30.0),
        (formatdate(999_000, usegmt=True).encode(), 0.0),
        (b"-5", 0.0),
        (b"soon", 0.0),
        (b"", 0.0),
        (b"nan", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float) -> None:
    assert seconds == retry_after_s(value, 1_000_000.0)
