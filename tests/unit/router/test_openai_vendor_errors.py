"""What vendors say when they refuse: whose fault it is, and nothing of their words repeated."""

from typing import Any

import msgspec
import pytest

from services.router.providers.openai.errors import error_in_answer, error_of_status
from services.router.providers.port import Failure, ProviderError

SECRET = "sk-secret prompt"


def refused(status: int, body: Any) -> ProviderError:
    raw = msgspec.json.encode(body)
    found = error_of_status(status, raw, retry_after=b"", now_unix_s=0)
    assert SECRET not in found.message
    return found


def error(message: str = SECRET, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


XAI = "Client specified an invalid argument"
TABLE: list[tuple[int, Any, Failure, str]] = [
    (402, error(type="x", code="invalid_request_error"), Failure.CREDENTIALS, ""),
    (402, {"detail": SECRET}, Failure.CREDENTIALS, ""),
    (412, error(code="PRECONDITION_FAILED"), Failure.CREDENTIALS, ""),
    (403, {"code": "x y", "error": SECRET}, Failure.CREDENTIALS, ""),
    (400, {"code": XAI, "error": f"Incorrect API key provided: {SECRET}"}, Failure.CREDENTIALS, ""),
    (400, error(f"Insufficient credits {SECRET}"), Failure.CREDENTIALS, ""),
    (400, error(code="insufficient_quota"), Failure.CREDENTIALS, ""),
    (429, error("You exceeded your current quota"), Failure.RATE_LIMITED, ""),
    (
        400,
        {"code": XAI, "error": "Argument not supported on this model: presencePenalty"},
        Failure.UNSUPPORTED,
        "presence_penalty",
    ),
    (
        400,
        {"code": XAI, "error": "Model grok-4.5 does not support parameter reasoningEffort."},
        Failure.UNSUPPORTED,
        "reasoning_effort",
    ),
    (
        400,
        error(f"Extra inputs are not permitted, field: 'top_k', value: '{SECRET}'"),
        Failure.UNSUPPORTED,
        "top_k",
    ),
    (
        422,
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "store"], "msg": SECRET}]},
        Failure.UNSUPPORTED,
        "store",
    ),
    (
        422,
        {"object": "error", "message": {"detail": [{"type": "missing", "loc": ["body", "tools"]}]}},
        Failure.REJECTED,
        "tools",
    ),
    (422, {"detail": [{"type": 7, "loc": "body"}]}, Failure.REJECTED, ""),
    (422, {"detail": [7]}, Failure.REJECTED, ""),
    (422, {"detail": SECRET}, Failure.REJECTED, ""),
    (400, {"object": "error", "message": SECRET, "code": "3280"}, Failure.REJECTED, ""),
    (
        400,
        {"code": XAI, "error": "This model's maximum prompt length is 131072 but the request has"},
        Failure.CONTEXT_LENGTH,
        "",
    ),
    (
        400,
        {"object": "error", "message": "x too large for model with 32768 maximum context length"},
        Failure.CONTEXT_LENGTH,
        "",
    ),
    (403, error(code=403, metadata={"flagged_input": SECRET}), Failure.CONTENT_POLICY, ""),
    (403, error(code=403, metadata={"provider_name": "x"}), Failure.CREDENTIALS, ""),
    (404, error(code=404), Failure.NOT_FOUND, ""),
    (408, error(code=408), Failure.UNAVAILABLE, ""),
    (524, b"<html>", Failure.UNAVAILABLE, ""),
    (529, error(code=529, metadata={"raw": SECRET}), Failure.UNAVAILABLE, ""),
    (503, {"detail": SECRET}, Failure.UNAVAILABLE, ""),
]


@pytest.mark.parametrize(("status", "body", "failure", "param"), TABLE)
def test_refusal_is_whose_fault_it_is(status: int, body: Any, failure: Failure, param: str) -> None:
    found = refused(status, body)

    assert (failure, param, status) == (found.failure, found.param, found.status)


def test_what_a_request_says_is_not_taken_for_what_the_vendor_says() -> None:
    quoted = [
        f"{SECRET}: 'Incorrect API key provided'",
        f"{SECRET} insufficient quota",
        f"{SECRET} Argument not supported on this model: stop",
    ]

    assert {Failure.REJECTED} == {refused(400, error(text)).failure for text in quoted}


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (error(code=402, metadata={}), Failure.CREDENTIALS),
        (error(code=429), Failure.RATE_LIMITED),
        (error(code=502, metadata={"raw": SECRET}), Failure.UNAVAILABLE),
        (error(code=403, metadata={"flagged_input": SECRET}), Failure.CONTENT_POLICY),
        ({"code": "x y", "error": SECRET}, Failure.UNAVAILABLE),
        ({"object": "error", "message": SECRET, "code": 1300}, Failure.UNAVAILABLE),
    ],
)
def test_error_within_an_answer_is_whose_fault_it_is(body: Any, failure: Failure) -> None:
    found = error_in_answer(msgspec.json.encode(body))

    assert failure is found.failure
    assert SECRET not in found.message
