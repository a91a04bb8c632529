"""How fields and errors are called where the Messages API is spoken."""

import json

import pytest

from gateway.anthropic.api import MessagesApi
from gateway.anthropic.errors import error_event
from gateway.anthropic.names import own_name
from gateway.openai.dialect import DIALECTS
from kit.errors import OUTWARD, Reason, TurnpikeError
from tests.unit.gateway.messages import ASK, PNG, RULES, USE, body, result, said, text, user

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "invalid_request_error",
    410: "invalid_request_error",
    411: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    499: "invalid_request_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def spoken() -> MessagesApi:
    """Return the API after it has read a request with everything in it."""
    picture = {"type": "image", "source": PNG}
    messages = [
        ASK,
        said(text("Let me."), USE),
        user(result([text("a"), picture]), text("b"), picture),
        {"role": "user", "content": "c"},
    ]
    api = MessagesApi()
    asked = body(messages=messages, system=[text("x"), text("y")])
    api.read(json.dumps(asked).encode(), RULES)
    return api


@pytest.mark.parametrize(
    ("param", "own"),
    [
        ("model", "model"),
        ("messages", "messages"),
        ("messages[0].content", "system"),
        ("messages[0].content[1].text", "system.1.text"),
        ("messages[1].content", "messages.0.content"),
        ("messages[2].tool_calls[0].function.arguments", "messages.1.content.1.input"),
        ("messages[2].tool_calls[0].function.name", "messages.1.content.1.name"),
        ("messages[2].tool_calls[0].id", "messages.1.content.1.id"),
        ("messages[3].tool_call_id", "messages.2.content.0.tool_use_id"),
        ("messages[3].content", "messages.2.content.0.content"),
        ("messages[3].content[1].image_url.url", "messages.2.content.0.content.1.source"),
        ("messages[4].content[0].text", "messages.2.content.1.text"),
        ("messages[4].content[1].image_url", "messages.2.content.2.source"),
        ("messages[5].role", "messages.3.role"),
        ("messages[4].content[9]", "messages.2.content"),
        ("messages[99].content", "messages.99"),
        ("tools[3].function.parameters.properties", "tools.3.input_schema.properties"),
        ("tools[3].function.name", "tools.3.name"),
        ("tools[3]", "tools.3"),
        ("tool_choice", "tool_choice"),
        ("tool_choice.function.name", "tool_choice.name"),
        ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
        ("response_format.json_schema.schema.type", "output_config.format.schema.type"),
        ("response_format", "output_config.format"),
        ("stop", "stop_sequences"),
        ("stop[2]", "stop_sequences.2"),
        ("user", "metadata.user_id"),
        ("reasoning_effort", "output_config.effort"),
        ("chat_template_kwargs.enable_thinking", "thinking.enable_thinking"),
        ("messages.0.content.1.source", "messages.0.content.1.source"),
    ],
)
def test_field_of_the_chat_form_is_called_as_the_caller_wrote_it(param: str, own: str) -> None:
    api = spoken()

    assert own == own_name(param, api.origins)
    assert own == own_name(own, api.origins)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("stop is too long; shorten stop.", "stop_sequences is too long; shorten stop_sequences."),
        ("The model does not stopper.", "stop_sequences: The model does not stopper."),
    ],
)
def test_message_of_a_late_error_has_the_callers_name(message: str, shown: str) -> None:
    error = TurnpikeError(Reason.INVALID_VALUE, message, param="stop")

    found = json.loads(spoken().error_body(error, DIALECTS["bud"], "r1"))

    assert shown == found["error"]["message"]
    assert {"error_code": "invalid_value", "param": "stop_sequences"} == found["error"]["details"]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_anthropics_type(reason: Reason) -> None:
    error = TurnpikeError(reason, "So.")

    found = json.loads(MessagesApi().error_body(error, DIALECTS["openai"], "r1"))

    assert {
        "type": "error",
        "error": {
            "type": TYPES[OUTWARD[reason].http_status],
            "message": "So.",
            "details": {"error_code": reason.value.lower()},
        },
        "request_id": "r1",
    } == found


def test_error_in_a_stream_is_an_event_of_its_own() -> None:
    error = TurnpikeError(Reason.UPSTREAM_INCOMPLETE, "It broke.")

    name, data, *rest = error_event(error, "r1").split(b"\n")

    assert (b"event: error", [b"", b""]) == (name, rest)
    assert "api_error" == json.loads(data.removeprefix(b"data: "))["error"]["type"]
