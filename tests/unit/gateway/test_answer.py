"""Where usage goes at the end of a stream, and that it never comes twice."""

import json

import pytest

from gateway.errors import error_body, error_event, error_headers
from gateway.openai.answer import last_events, wants_null_usage
from gateway.openai.dialect import DIALECTS
from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import router_pb2

USAGE = b'{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'


def finish(head: bytes) -> router_pb2.Finish:
    return router_pb2.Finish(
        chunk_head=head,
        finish_chunks=[head + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'],
        usage_json=USAGE,
    )


def events(dialect: str, include_usage: bool | None) -> list[dict[str, object]]:
    table = DIALECTS[dialect]
    head = b'{"id":"x",'
    if wants_null_usage(table, include_usage=include_usage):
        head += b'"usage":null,'
    lines = last_events(finish(head), table, include_usage=include_usage).split(b"\n\n")
    assert b"data: [DONE]" == lines[-2]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines[:-2]]


@pytest.mark.parametrize("dialect", ["openai", "infer", "runinfra"])
def test_usage_that_was_asked_for_comes_alone_without_choices(dialect: str) -> None:
    last, lone = events(dialect, True)

    assert last["usage"] is None
    assert [] == lone["choices"]
    assert json.loads(USAGE) == lone["usage"]


@pytest.mark.parametrize("dialect", ["bud", "vram"])
@pytest.mark.parametrize("include_usage", [True, None])
def test_usage_rides_on_the_finish_chunk_where_the_dialect_always_wants_it(
    dialect: str, include_usage: bool | None
) -> None:
    (last,) = events(dialect, include_usage)

    assert json.loads(USAGE) == last["usage"]
    assert last["choices"]


def test_unasked_usage_rides_on_the_finish_chunk() -> None:
    (last,) = events("openai", None)

    assert json.loads(USAGE) == last["usage"]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_refused_usage_does_not_come(dialect: str) -> None:
    (last,) = events(dialect, False)

    assert "usage" not in last


def test_runinfra_sends_usage_only_if_asked() -> None:
    (last,) = events("runinfra", None)

    assert "usage" not in last


@pytest.mark.parametrize(
    ("dialect", "code", "kind"),
    [
        ("openai", "invalid_api_key", "authentication_error"),
        ("infer", "INVALID_API_KEY", "authentication_error"),
        ("bud", 401, "authentication_error"),
        ("vram", None, "auth_error"),
        ("runinfra", None, "authentication_error"),
    ],
)
def test_error_code_has_the_dialects_form(dialect: str, code: object, kind: str) -> None:
    error = TurnpikeError(Reason.INVALID_API_KEY, "No.", param="x")

    body = json.loads(error_body(error, DIALECTS[dialect], "r1"))["error"]

    assert (code, kind) == (body.get("code"), body["type"])
    assert ("No.", "x", "r1") == (body["message"], body["param"], body["request_id"])


def test_stream_error_is_one_event() -> None:
    event = error_event(TurnpikeError(Reason.TIMEOUT, "Late."), DIALECTS["openai"], "r1")

    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"}\n\n")


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (Reason.RATE_LIMIT_EXCEEDED, "Retry-After"),
        (Reason.NO_PROVIDERS_AVAILABLE, "Retry-After"),
        (Reason.INVALID_API_KEY, "WWW-Authenticate"),
    ],
)
def test_errors_bring_their_headers(reason: Reason, name: str) -> None:
    assert name in error_headers(TurnpikeError(reason, "x"))
