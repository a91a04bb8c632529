"""What of a request is sent to an OpenAI-compatible upstream."""

import json

import msgspec

from services.router.providers.openai.request import choice_count, encode_request
from services.router.providers.port import Body
from tests.fakes.openai_calls import make_body, make_call


def test_request_is_edited_by_key() -> None:
    body = make_body(
        temperature=0.5,
        max_completion_tokens=9,
        max_tokens=9,
        stream_options={"include_usage": False, "x": 1},
        stream=True,
    )
    before = dict(body)

    sent = json.loads(encode_request(make_call(), body, max_tokens_field="max_completion_tokens"))

    assert before == body
    assert {
        "model": "upstream-model",
        "messages": [{"role": "user", "content": "hello"}],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 100,
    } == sent


def test_plain_request_has_no_stream_options() -> None:
    body: Body = make_body(stream_options={"include_usage": True})

    call = make_call(is_streaming=False)
    sent = msgspec.json.decode(encode_request(call, body, max_tokens_field="max_tokens"))

    assert "stream_options" not in sent
    assert (False, 100) == (sent["stream"], sent["max_tokens"])


def test_choice_count_is_what_the_request_asks_for() -> None:
    assert [1, 1, 3, 2, 1] == [
        choice_count(make_body()),
        choice_count(make_body(n=None)),
        choice_count(make_body(n=3)),
        choice_count(make_body(n=2.0)),
        choice_count(make_body(n="x")),
    ]
