"""What refusals of the Messages API mean."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.providers.anthropic.codec import AnthropicCodec
from services.router.providers.anthropic.errors import error_in_answer, error_of_answer
from services.router.providers.port import Failure, ProviderError
from services.router.upstream_types import ResponseHead

LIMIT = "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, secret"


def body(kind: str, message: str = "secret", **error: Any) -> bytes:
    return json.dumps(
        {"type": "error", "error": {"type": kind, "message": message} | error}
    ).encode()


def refused(status: int, answer: bytes, **headers: str) -> ProviderError:
    head = ResponseHead(
        status, {n.replace("_", "-").encode(): v.encode() for n, v in headers.items()}
    )
    error = AnthropicCodec().refusal(head, answer, now_unix_s=0.0)
    assert "secret" not in error.message
    return error


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, "invalid_request_error", "secret", Failure.REJECTED),
        (401, "authentication_error", "secret", Failure.CREDENTIALS),
        (402, "billing_error", "secret", Failure.CREDENTIALS),
        (403, "permission_error", "secret", Failure.CREDENTIALS),
        (404, "not_found_error", "model: secret", Failure.NOT_FOUND),
        (413, "request_too_large", "secret", Failure.REJECTED),
        (429, "rate_limit_error", "secret", Failure.RATE_LIMITED),
        (500, "api_error", "secret", Failure.UNAVAILABLE),
        (504, "timeout_error", "secret", Failure.UNAVAILABLE),
        (529, "overloaded_error", "secret", Failure.UNAVAILABLE),
        (400, "invalid_request_error", LIMIT, Failure.CONTEXT_LENGTH),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 209353 tokens > 199999 maximum",
            Failure.CONTEXT_LENGTH,
        ),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. secret",
            Failure.CREDENTIALS,
        ),
        (
            400,
            "invalid_request_error",
            "You have reached your specified API usage limits.",
            Failure.CREDENTIALS,
        ),
        (
            400,
            "invalid_request_error",
            "Output blocked by content filtering policy",
            Failure.CONTENT_POLICY,
        ),
    ],
)
def test_a_refusal_says_whose_fault_it_is(
    status: int, kind: str, message: str, expected: Failure
) -> None:
    found = refused(status, body(kind, message))

    assert (found.failure, found.status) == (expected, status)


def test_an_account_at_its_limit_is_no_matter_of_patience() -> None:
    details = {"error_code": "contract_spend_limit_reached"}

    assert refused(429, body("rate_limit_error", details=details)).failure is Failure.CREDENTIALS


def test_the_wish_to_wait_is_passed_on() -> None:
    assert refused(429, body("rate_limit_error"), retry_after="7").retry_after_s == 7.0
    assert refused(529, b"", retry_after="3").retry_after_s == 3.0


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("max_tokens: 100000 > 64000, which is the maximum allowed", "max_tokens"),
        ("messages.0.content.0.text: secret", "messages"),
        ("thinking.enabled.budget_tokens: secret", "reasoning_effort"),
        ("output_config.format.schema: secret", "response_format"),
        ("secret: prompt", ""),
        ("no field at all", ""),
    ],
)
def test_the_field_at_fault_is_named_as_the_caller_knows_it(message: str, param: str) -> None:
    assert refused(400, body("invalid_request_error", message)).param == param


def test_the_size_of_the_context_is_told() -> None:
    untold = body("invalid_request_error", "prompt is too long")

    assert "200000 tokens" in refused(400, body("invalid_request_error", LIMIT)).message
    assert refused(400, untold).failure is Failure.CONTEXT_LENGTH


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b"{}", b'{"error":"secret"}', b"<html>"])
def test_without_a_type_the_status_decides(answer: bytes) -> None:
    assert refused(529, answer).failure is Failure.UNAVAILABLE
    assert refused(401, answer).failure is Failure.CREDENTIALS
    assert refused(429, answer).failure is Failure.RATE_LIMITED


def test_an_error_inside_an_answer_is_judged_by_its_type() -> None:
    assert error_in_answer(body("overloaded_error")).failure is Failure.UNAVAILABLE
    assert error_in_answer(body("rate_limit_error")).failure is Failure.RATE_LIMITED
    assert error_in_answer(body("new_error")).failure is Failure.UNAVAILABLE
    assert error_in_answer(b"{").status == 200


@given(st.integers(400, 599), st.binary(max_size=60))
def test_junk_is_a_failure_and_never_crashes(status: int, junk: bytes) -> None:
    assert error_of_answer(status, junk).message
