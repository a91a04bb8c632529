"""What Google's refusals mean."""

from typing import Any

import pytest

from services.router.providers.google.gemini_errors import google_error
from services.router.providers.port import Failure
from tests.fakes.gemini_script import Json, dumps, status

INFO = "type.googleapis.com/google.rpc."


def reason(name: str) -> Json:
    return {"@type": INFO + "ErrorInfo", "reason": name, "domain": "googleapis.com"}


def retry(delay: str) -> Json:
    return {"@type": INFO + "RetryInfo", "retryDelay": delay}


@pytest.mark.parametrize(
    ("code", "body", "failure"),
    [
        (400, status(400, "INVALID_ARGUMENT"), Failure.REJECTED),
        (400, status(400, "INVALID_ARGUMENT", "x", reason("API_KEY_INVALID")), Failure.CREDENTIALS),
        (
            400,
            [status(400, "INVALID_ARGUMENT", "", reason("API_KEY_INVALID"))],
            Failure.CREDENTIALS,
        ),
        (400, status(400, "FAILED_PRECONDITION"), Failure.CREDENTIALS),
        (401, status(401, "UNAUTHENTICATED"), Failure.CREDENTIALS),
        (403, status(403, "PERMISSION_DENIED"), Failure.CREDENTIALS),
        (404, status(404, "NOT_FOUND"), Failure.NOT_FOUND),
        (429, status(429, "RESOURCE_EXHAUSTED"), Failure.RATE_LIMITED),
        (499, status(499, "CANCELLED"), Failure.UNAVAILABLE),
        (500, status(500, "INTERNAL"), Failure.UNAVAILABLE),
        (503, [status(503, "UNAVAILABLE")], Failure.UNAVAILABLE),
        (504, status(504, "DEADLINE_EXCEEDED"), Failure.UNAVAILABLE),
        (302, b"", Failure.INVALID_RESPONSE),
        (400, b"<html>", Failure.REJECTED),
        (400, b"[]", Failure.REJECTED),
        (200, status(503, "UNAVAILABLE"), Failure.UNAVAILABLE),
        (200, status(400, "INVALID_ARGUMENT"), Failure.REJECTED),
        (200, b"[]", Failure.UNAVAILABLE),
        (429, {"error": {"code": 429, "details": [{"reason": 3}]}}, Failure.RATE_LIMITED),
        (400, [{"error": {"status": "FAILED_PRECONDITION", "details": 1}}], Failure.CREDENTIALS),
    ],
)
def test_status_says_what_failed(code: int, body: Any, failure: Failure) -> None:
    error = google_error(code, body if isinstance(body, bytes) else dumps(body))

    assert (failure, code) == (error.failure, error.status)
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("details", "header", "wait_s"),
    [
        ([retry("34s")], b"", 34.0),
        ([retry("1.5s"), reason("RATE_LIMIT_EXCEEDED")], b"", 1.5),
        ([retry("2s")], b"9", 9.0),
        ([retry("99999s")], b"", 3600.0),
        ([retry("soon")], b"", 0.0),
        ([], b"", 0.0),
    ],
)
def test_longest_wish_to_wait_wins(details: list[Json], header: bytes, wait_s: float) -> None:
    body = dumps(status(429, "RESOURCE_EXHAUSTED", "x", *details))

    assert wait_s == google_error(429, body, retry_after=header).retry_after_s


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "The input token count (1048600) exceeds the maximum number of tokens allowed"
            " (1048576).",
            "The request has 1048600 tokens; the model takes 1048576.",
        ),
        (
            "Unable to submit request because the input token count is 70 but model only supports"
            " up to 64. Reduce the input.",
            "The request has 70 tokens; the model takes 64.",
        ),
        (
            "The input token count exceeds the maximum number of tokens allowed 1048576.",
            "The request is longer than the model's context.",
        ),
    ],
)
def test_too_long_a_prompt_is_told_with_its_counts(message: str, sentence: str) -> None:
    error = google_error(400, dumps(status(400, "INVALID_ARGUMENT", message)))

    assert (Failure.CONTEXT_LENGTH, sentence) == (error.failure, error.message)


def test_field_at_fault_is_named_and_nothing_else() -> None:
    violation = {"field": "generation_config.top_k", "description": "secret"}
    detail = {"@type": INFO + "BadRequest", "fieldViolations": [violation]}

    error = google_error(400, dumps(status(400, "INVALID_ARGUMENT", "secret", detail)))

    assert (
        "The upstream refused the request (HTTP 400, field generation_config.top_k)."
        == error.message
    )
