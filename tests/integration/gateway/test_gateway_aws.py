"""Models at AWS through a whole site, asked by OpenAI's own client: what is said and what is paid.

Rows of facts/features: 5.7, 6.2, 6.3 and the rows of Bedrock and SageMaker of 6.4.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.fakes.aws_server import KEY_ID, REGION, SECRET
from tests.fakes.bedrock_upstream import (
    BedrockUpstream,
    Script,
    open_bedrock_upstream,
    text,
    thought,
    tool,
)
from tests.fakes.sagemaker_upstream import SageMakerUpstream, open_sagemaker_upstream
from tests.fixtures.catalogues import PRICE, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish

CLAUDE, OWN = "acme/claude", "acme/own"
USER: Any = {"role": "user", "content": "look around"}
TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class AwsSite:
    """A site over Bedrock, which falls back to SageMaker, and SageMaker alone."""

    site: Site
    bedrock: BedrockUpstream
    sagemaker: SageMakerUpstream
    key: Key
    client: openai.AsyncOpenAI

    async def charged(self) -> tuple[int, int, int]:
        """Return tokens of prompt and completion, and the charge, of the only request so far."""
        (record,) = await self.site.settled(self.key, 1)
        usage = record.usage
        return usage.prompt_token_count, usage.completion_token_count, record.charge_nusd


def catalogue(bedrock: BedrockUpstream, sagemaker: SageMakerUpstream) -> dict[str, Any]:
    keys = {"region": REGION, "access_key_id": KEY_ID, "secret_access_key": SECRET}

    def deployment(name: str, provider: str, model: str, priority: int = 0) -> dict[str, Any]:
        usual = {"upstream_model": model, "price": PRICE, "priority": priority}
        return {"name": name, "provider": provider, **usual}

    bounds = {"context_length": 8192, "default_max_tokens": 64}
    return {
        "providers": {
            "bedrock": {"kind": "bedrock", "base_url": bedrock.base_url, **keys},
            "sagemaker": {"kind": "sagemaker", "base_url": sagemaker.base_url, **keys},
        },
        "models": {
            CLAUDE: {
                **bounds,
                "deployments": [
                    {
                        **deployment("claude", "bedrock", "eu.anthropic.claude-x-v1:0"),
                        "supports": ["response_format>native"],
                    },
                    deployment("claude-spare", "sagemaker", "spare", 1),
                ],
            },
            OWN: {**bounds, "deployments": [deployment("own", "sagemaker", "own")]},
        },
    }


@pytest.fixture
async def aws(open_site: OpenSite) -> AsyncIterator[AwsSite]:
    async with AsyncExitStack() as stack:
        bedrock = await stack.enter_async_context(open_bedrock_upstream())
        sagemaker = await stack.enter_async_context(open_sagemaker_upstream())
        site = await open_site(Wish(catalogue=catalogue(bedrock, sagemaker)))
        key = await site.key()
        client = await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{site.url}/v1", api_key=key.secret, max_retries=0)
        )
        yield AwsSite(site, bedrock, sagemaker, key, client)


async def streamed(aws: AwsSite, **fields: Any) -> tuple[Any, Any]:
    """Return the message and the usage that the client's own stream adds up to."""
    async with aws.client.chat.completions.stream(
        model=CLAUDE, messages=[USER], stream_options={"include_usage": True}, **fields
    ) as stream:
        completion = await stream.get_final_completion()
    return completion.choices[0].message, completion.usage


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_tokens_that_the_upstream_counted_are_paid_with_its_cache(
    aws: AwsSite, is_streaming: bool
) -> None:
    aws.bedrock.script = Script(prompt=9, read=30, written=5)

    if is_streaming:
        message, usage = await streamed(aws)
    else:
        whole = await aws.client.chat.completions.create(model=CLAUDE, messages=[USER])
        message, usage = whole.choices[0].message, whole.usage

    assert "Hello wörld" == message.content
    assert (44, 3, 30) == (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens_details.cached_tokens,
    )
    assert (44, 3, price_nusd(44, 3)) == await aws.charged()


async def test_tools_are_called_in_parallel_and_answered(aws: AwsSite) -> None:
    called = (thought("hm", signature="s="), tool("a", "look", '{"n":1}'), tool("b", "look"))
    aws.bedrock.script = Script(called, "tool_use")
    message, _ = await streamed(aws, tools=TOOLS)
    results: Any = [
        {"role": "tool", "tool_call_id": call.id, "content": "seen"} for call in message.tool_calls
    ]
    aws.bedrock.script = Script()

    said: Any = message.model_dump(exclude_none=True, exclude={"parsed"})
    for call in said["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    await aws.client.chat.completions.create(
        model=CLAUDE, messages=[USER, said, *results], tools=TOOLS
    )

    assert ['{"n":1}', "{}"] == [call.function.arguments for call in message.tool_calls]
    sent = aws.bedrock.seen[1].body["messages"]
    blocks = [next(iter(block)) for block in sent[1]["content"]]
    assert ["reasoningContent", "toolUse", "toolUse"] == blocks
    assert ["a", "b"] == [block["toolResult"]["toolUseId"] for block in sent[2]["content"]]


@pytest.mark.parametrize("is_strict", [False, True])
async def test_answer_keeps_to_its_schema(aws: AwsSite, is_strict: bool) -> None:
    schema = SCHEMA if is_strict else {**SCHEMA, "additionalProperties": True}
    by_tool = Script((tool("t", "give_answer", '{"age"', ":3}"),), "tool_use")
    aws.bedrock.script = Script((text('{"age"', ":3}"),)) if is_strict else by_tool
    part = {"name": "person", "schema": schema, "strict": is_strict}
    wanted: Any = {"type": "json_schema", "json_schema": part}

    whole = await aws.client.chat.completions.create(
        model=CLAUDE, messages=[USER], response_format=wanted
    )

    assert {"age": 3} == json.loads(whole.choices[0].message.content or "")
    assert "stop" == whole.choices[0].finish_reason
    assert is_strict == ("outputConfig" in aws.bedrock.seen[0].body)


@pytest.mark.parametrize(
    "broken",
    [
        Script(error="ThrottlingException", status=429),
        Script(error="AccessDeniedException", status=403),
        Script(exception="internalServerException", fail_at=0),
        Script(fail="cut", fail_at=1),
        Script(fail="junk", fail_at=0),
    ],
)
async def test_who_fails_before_its_first_word_is_followed_by_the_next(
    aws: AwsSite, broken: Script
) -> None:
    aws.bedrock.script = broken

    message, usage = await streamed(aws)

    assert message.content.startswith("tok0 tok1")
    assert (1, 1) == (len(aws.bedrock.seen), len(aws.sagemaker.seen))
    assert (12, 16) == (usage.prompt_tokens, usage.completion_tokens)
    assert (12, 16, price_nusd(12, 16)) == await aws.charged()


async def test_answer_that_breaks_off_costs_no_more_than_was_said(aws: AwsSite) -> None:
    aws.bedrock.script = Script(exception="modelStreamErrorException", fail_at=3)

    with pytest.raises(openai.APIError) as caught:
        await streamed(aws)

    assert "secret" not in str(caught.value)
    _, completion, _ = await aws.charged()
    assert completion <= 2
    assert [] == aws.sagemaker.seen


async def test_what_no_route_can_honour_is_refused_by_name(aws: AwsSite) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await aws.client.chat.completions.create(
            model=CLAUDE, messages=[USER], extra_body={"guided_regex": "a+"}
        )

    assert "guided_regex" == caught.value.param
    assert [] == aws.bedrock.seen == aws.sagemaker.seen


async def test_endpoint_of_our_own_is_paid_by_what_its_container_counts(aws: AwsSite) -> None:
    whole = await aws.client.chat.completions.create(model=OWN, messages=[USER])

    assert whole.usage is not None
    assert (12, 16) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)
    assert "model" not in aws.sagemaker.seen[0].body
    assert (12, 16, price_nusd(12, 16)) == await aws.charged()
