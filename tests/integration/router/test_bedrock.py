"""Bedrock's Converse against a fake on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from kit.clock import SystemClock
from services.router.aws_adapters import open_bedrock
from services.router.aws_entries import BedrockEntry
from services.router.constrained import constrained
from services.router.constraints import constraint_of
from services.router.providers.fetch import FetchRules, ImageFetcher
from services.router.providers.port import Batch, Failure, ProviderError
from services.router.providers.translated import Translated
from services.router.upstream import HttpLimits, HttpPool, open_http_pool
from tests.fakes.aws_calls import ask, folded, tokens_of, whole
from tests.fakes.aws_server import API_KEY, KEY_ID, REGION, SECRET, TOKEN
from tests.fakes.bedrock_upstream import (
    BedrockUpstream,
    Said,
    Script,
    open_bedrock_upstream,
    text,
    thought,
    tool,
)
from tests.fakes.openai_calls import eventually, make_body, make_call
from turnpike.type.v1 import usage_pb2

CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
CALL = {"upstream_model": CLAUDE, "options": {"engine": "bedrock"}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}
CLOSED = {**SCHEMA, "additionalProperties": False}
PNG = "iVBORw0KGgo="


@pytest.fixture
async def upstream() -> AsyncIterator[BedrockUpstream]:
    async with open_bedrock_upstream() as opened:
        yield opened


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    async with open_http_pool(HttpLimits()) as opened:
        yield opened


def entry(upstream: BedrockUpstream, **fields: Any) -> BedrockEntry:
    keys = {"access_key_id": KEY_ID, "secret_access_key": SECRET, "session_token": TOKEN}
    usual = {"kind": "bedrock", "region": REGION, "base_url": upstream.base_url}
    return BedrockEntry.model_validate({**usual, **(fields or keys)})


@pytest.fixture
async def provider(pool: HttpPool, upstream: BedrockUpstream) -> AsyncIterator[Translated]:
    fetcher = ImageFetcher(FetchRules())
    async with open_bedrock(
        entry(upstream), pool=pool, fetcher=fetcher, clock=SystemClock()
    ) as opened:
        yield opened
    fetcher.close()


SCRIPTS = {
    "text": Script(),
    "tool": Script(
        (text("I look."), tool("tooluse_1", "look", '{"at"', ': "x"}')), "tool_use", read=30
    ),
    "parallel": Script(
        (tool("a", "look", '{"n": 1}'), tool("b", "look"), tool("c", "look", "{", "}")), "tool_use"
    ),
    "thought": Script((thought("hm", "m", signature="sig=="), text("yes")), written=9),
    "redacted": Script((Said("redacted", ("c2VjcmV0",)), text("yes"))),
    "length": Script((text("a"),), "max_tokens"),
    "empty": Script((), "end_turn"),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("split", [0, 1, 7, 100])
async def test_stream_says_what_the_whole_answer_says(
    provider: Translated, upstream: BedrockUpstream, name: str, split: int
) -> None:
    upstream.script = SCRIPTS[name]
    upstream.script.split = split

    streamed = await ask(provider, call=CALL, tools=TOOLS)
    (plain,) = await ask(provider, plain=True, call=CALL, tools=TOOLS)

    assert whole(plain) == folded(streamed)
    for batch, seen in zip((streamed[-1], plain), upstream.seen, strict=True):
        assert seen.usage is not None
        prompt = seen.usage["totalTokens"] - seen.usage["outputTokens"]
        assert (prompt, seen.usage["outputTokens"]) == tokens_of(batch)
        assert usage_pb2.USAGE_SOURCE_UPSTREAM == batch.finish.usage.source


async def test_request_is_signed_for_the_path_that_is_sent(
    provider: Translated, upstream: BedrockUpstream
) -> None:
    await ask(provider, call=CALL)
    arn = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude"
    await ask(provider, plain=True, call={**CALL, "upstream_model": arn})

    first, second = upstream.seen
    assert "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream" == first.path
    assert second.path.endswith("inference-profile%2Feu.anthropic.claude/converse")
    assert TOKEN == first.headers["x-amz-security-token"]
    assert 100 == first.body["inferenceConfig"]["maxTokens"]


async def test_bedrock_key_is_shown_in_place_of_a_signature(
    pool: HttpPool, upstream: BedrockUpstream
) -> None:
    fetcher = ImageFetcher(FetchRules())
    config = entry(upstream, api_key=API_KEY)
    async with open_bedrock(config, pool=pool, fetcher=fetcher, clock=SystemClock()) as provider:
        batches = await ask(provider, call=CALL)
        assert await provider.probe()

    assert "Hello wörld" == folded(batches)["content"]
    assert f"Bearer {API_KEY}" == upstream.seen[0].headers["authorization"]


async def test_without_keys_nothing_is_sent(pool: HttpPool, upstream: BedrockUpstream) -> None:
    fetcher = ImageFetcher(FetchRules())
    config = entry(upstream, family="claude")
    async with open_bedrock(config, pool=pool, fetcher=fetcher, clock=SystemClock()) as provider:
        with pytest.raises(ProviderError) as caught:
            await ask(provider, call=CALL)

    assert Failure.CREDENTIALS is caught.value.failure
    assert [] == upstream.seen


async def test_image_of_the_request_arrives_as_bytes(
    provider: Translated, upstream: BedrockUpstream
) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    await ask(provider, [{"type": "text", "text": "what"}, image], call=CALL)

    content = upstream.seen[0].body["messages"][0]["content"]
    assert [{"text": "what"}, {"image": {"format": "png", "source": {"bytes": PNG}}}] == content


@pytest.mark.parametrize("plain", [False, True])
async def test_schema_is_the_form_of_the_text_where_the_model_knows_that(
    provider: Translated, upstream: BedrockUpstream, plain: bool
) -> None:
    upstream.script = Script((text('{"age"', ": 3}"),))
    part = {"name": "person", "schema": CLOSED, "strict": True}
    batches = await ask(
        provider,
        plain=plain,
        call={**CALL, "options": {"engine": "bedrock", "output_format": "native"}},
        response_format={"type": "json_schema", "json_schema": part},
    )

    asked = upstream.seen[0].body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert CLOSED == json.loads(asked["schema"])
    said = whole(batches[0]) if plain else folded(batches)
    assert '{"age": 3}' == said["content"]


@pytest.mark.parametrize("plain", [False, True])
async def test_any_other_schema_is_a_tool_whose_input_is_the_answer(
    provider: Translated, upstream: BedrockUpstream, plain: bool
) -> None:
    upstream.script = Script((text("Sure:"), tool("t", "give_answer", '{"age"', ":3}")), "tool_use")
    batches = await ask(provider, plain=plain, call=CALL, guided_json=SCHEMA)

    config = upstream.seen[0].body["toolConfig"]
    assert {"tool": {"name": "give_answer"}} == config["toolChoice"]
    assert SCHEMA == config["tools"][0]["toolSpec"]["inputSchema"]["json"]
    said = whole(batches[0]) if plain else folded(batches)
    assert ('{"age":3}', "stop") == (said["content"], said["finish_reason"])
    assert "tool_calls" not in said


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("how", ["native", "tool"])
async def test_choice_is_taken_out_of_its_object(
    provider: Translated, upstream: BedrockUpstream, plain: bool, how: str
) -> None:
    pieces = ('{"choi', 'ce":"b', '"}')
    by_tool = Script((tool("t", "give_answer", *pieces),), "tool_use")
    upstream.script = by_tool if how == "tool" else Script((text(*pieces),))
    body = make_body(guided_choice=["a", "b"])
    constraint = constraint_of(body)
    options = {"engine": "bedrock", "output_format": how}
    call = make_call(**{**CALL, "options": options}, is_streaming=not plain, constraint=constraint)
    stream = provider.stream(call, body, deadline_s=asyncio.get_running_loop().time() + 9)

    judged = constrained(stream, call, constraint, on_unjudged=lambda: None)
    batches = [batch async for batch in judged]

    said = whole(batches[0]) if plain else folded(batches)
    assert ("b", "stop") == (said["content"], said["finish_reason"])


REFUSALS = [
    ("ThrottlingException", 429, "secret", Failure.RATE_LIMITED),
    ("ModelNotReadyException", 429, "secret", Failure.UNAVAILABLE),
    ("AccessDeniedException", 403, "secret", Failure.CREDENTIALS),
    ("ExpiredTokenException", 403, "secret", Failure.CREDENTIALS),
    ("ValidationException", 400, "secret", Failure.REJECTED),
    ("ValidationException", 400, "secret: Input is too long for model", Failure.CONTEXT_LENGTH),
    ("ValidationException", 400, "The provided model identifier is invalid.", Failure.NOT_FOUND),
    ("ServiceQuotaExceededException", 400, "secret", Failure.RATE_LIMITED),
    ("ModelErrorException", 424, "secret", Failure.UNAVAILABLE),
    ("ResourceNotFoundException", 404, "secret", Failure.NOT_FOUND),
    ("SomethingNewException", 503, "secret", Failure.UNAVAILABLE),
]


@pytest.mark.parametrize(("name", "status", "message", "failure"), REFUSALS)
async def test_refusal_is_told_by_its_name_and_not_repeated(
    provider: Translated,
    upstream: BedrockUpstream,
    name: str,
    status: int,
    message: str,
    failure: Failure,
) -> None:
    upstream.script = Script(error=name, status=status, message=message)

    with pytest.raises(ProviderError) as caught:
        await ask(provider, call=CALL)

    assert (failure, status) == (caught.value.failure, caught.value.status)
    assert "secret" not in caught.value.message


FAILURES = {
    "throttlingException": Failure.RATE_LIMITED,
    "modelStreamErrorException": Failure.UNAVAILABLE,
    "internalServerException": Failure.UNAVAILABLE,
    "serviceUnavailableException": Failure.UNAVAILABLE,
    "validationException": Failure.REJECTED,
    "newException": Failure.UNAVAILABLE,
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("at", [0, 2])
async def test_error_in_the_stream_is_told_by_its_name(
    provider: Translated, upstream: BedrockUpstream, name: str, at: int
) -> None:
    upstream.script = Script(exception=name, fail_at=at)

    with pytest.raises(ProviderError) as caught:
        await ask(provider, call=CALL)

    assert FAILURES[name] is caught.value.failure
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("how", "failure"), [("cut", Failure.INCOMPLETE), ("junk", Failure.INVALID_RESPONSE)]
)
@pytest.mark.parametrize("at", range(5))
async def test_answer_that_breaks_off_is_no_answer(
    provider: Translated, upstream: BedrockUpstream, how: str, failure: Failure, at: int
) -> None:
    upstream.script = Script(fail=how, fail_at=at)
    handed_over: list[Batch] = []

    with pytest.raises(ProviderError) as caught:
        await ask(provider, call=CALL, into=handed_over)

    assert failure is caught.value.failure
    # What is charged for then is a token for each event that was handed over.
    count = sum(batch.content_event_count for batch in handed_over)
    assert count <= min(max(0, at - 1), upstream.script.usage["outputTokens"])
    assert not any(batch.HasField("running_usage") for batch in handed_over)


async def test_usage_that_got_lost_is_estimated(
    provider: Translated, upstream: BedrockUpstream
) -> None:
    upstream.script = Script(has_metadata=False)

    last = (await ask(provider, call=CALL))[-1]

    assert usage_pb2.USAGE_SOURCE_ESTIMATED == last.finish.usage.source
    assert 3 == last.finish.usage.completion_token_count


@pytest.mark.parametrize("at", range(1, 4))
async def test_caller_that_goes_away_takes_the_upstream_along(
    provider: Translated, upstream: BedrockUpstream, at: int
) -> None:
    upstream.script = Script(fail="hang", fail_at=at + 1)
    stream = provider.stream(
        make_call(**CALL), make_body(), deadline_s=asyncio.get_running_loop().time() + 9
    )
    async with aclosing(stream) as batches:
        said = ""
        while len(said) < len("Hello wörld"[: 3 * at]):
            said += folded([await anext(batches)])["content"]

    await eventually(lambda: upstream.seen[0].is_over)
    assert upstream.seen[0].is_aborted
    assert upstream.seen[0].usage is None


async def test_silence_is_a_timeout(provider: Translated, upstream: BedrockUpstream) -> None:
    upstream.script = Script(fail="hang", fail_at=2)

    with pytest.raises(ProviderError) as caught:
        await ask(provider, call=CALL, wait_s=0.2)

    assert Failure.TIMEOUT is caught.value.failure
