"""The fake of Anthropic's API against Anthropic's own client, which nobody here wrote."""

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from tests.fakes.anthropic_script import (
    Script,
    events_of,
    message_of,
    numbered,
    redacted,
    text,
    thinking,
    tool,
)
from tests.fakes.anthropic_upstream import AnthropicUpstream

ASKED: dict[str, Any] = {
    "model": "claude-fake",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello"}],
}
SCRIPTS = [
    Script(says=(numbered(5),), cache_read=7, cache_written=3),
    Script(says=(thinking("Let me", " see"), redacted("sealed"), text("Well")), split=5),
    Script(
        says=(
            text("I look."),
            tool("toolu_1", "look", '{"at":', '"sea"}'),
            tool("toolu_2", "listen", '{"to":[1,2', "]}"),
        ),
        stop_reason="tool_use",
        is_interleaved=True,
    ),
    Script(says=(tool("toolu_1", "now"),), stop_reason="tool_use", line="\r\n"),
    Script(says=(text("Cut"),), stop_reason="max_tokens", usage="running"),
    Script(says=(), stop_reason="refusal"),
]
_EVENT = TypeAdapter[Any](RawMessageStreamEvent)


@pytest.fixture
async def client(
    anthropic_upstream: AnthropicUpstream,
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=anthropic_upstream.base_url, max_retries=0
    ) as opened:
        yield opened


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_the_fake_says_is_of_the_types(script: Script) -> None:
    Message.model_validate(message_of(script), strict=True)
    for event in events_of(script):
        if event["type"] != "ping":
            _EVENT.validate_python(event, strict=True)


@pytest.mark.parametrize("script", SCRIPTS)
async def test_the_client_reads_the_same_from_a_stream_and_a_whole_answer(
    client: anthropic.AsyncAnthropic, anthropic_upstream: AnthropicUpstream, script: Script
) -> None:
    anthropic_upstream.script = script

    whole = await client.messages.create(**ASKED)
    async with client.messages.stream(**ASKED) as stream:
        streamed = await stream.get_final_message()

    expected = message_of(script)
    assert whole.to_dict() == expected
    found = streamed.to_dict()
    for block in found["content"]:  # type: ignore[attr-defined]
        block.pop("parsed_output", None)
    assert found == expected
    assert [seen.is_complete for seen in anthropic_upstream.seen] == [True, True]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (Script(status=400, error="invalid_request_error"), anthropic.BadRequestError),
        (Script(status=401, error="authentication_error"), anthropic.AuthenticationError),
        (Script(status=404, error="not_found_error"), anthropic.NotFoundError),
        (Script(status=413, error="request_too_large"), anthropic.RequestTooLargeError),
        (Script(status=429, error="rate_limit_error"), anthropic.RateLimitError),
        (Script(status=529, error="overloaded_error"), anthropic.OverloadedError),
    ],
)
async def test_the_client_knows_the_errors(
    client: anthropic.AsyncAnthropic,
    anthropic_upstream: AnthropicUpstream,
    script: Script,
    kind: type[anthropic.APIStatusError],
) -> None:
    anthropic_upstream.script = script

    with pytest.raises(kind) as caught:
        await client.messages.create(**ASKED)

    assert script.message in caught.value.message


@pytest.mark.parametrize("error_after", [0, 5])
async def test_the_client_knows_an_error_inside_a_stream(
    client: anthropic.AsyncAnthropic, anthropic_upstream: AnthropicUpstream, error_after: int
) -> None:
    anthropic_upstream.script = Script(error="overloaded_error", error_after=error_after)

    with pytest.raises(anthropic.APIStatusError):
        async with client.messages.stream(**ASKED) as stream:
            await stream.until_done()
