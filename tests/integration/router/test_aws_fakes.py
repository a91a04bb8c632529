"""The fakes of AWS, asked by botocore: what it reads there is what they were told to say."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from tests.fakes.aws_server import KEY_ID, REGION, SECRET, TOKEN
from tests.fakes.bedrock_upstream import (
    BedrockUpstream,
    Said,
    Script,
    open_bedrock_upstream,
    text,
    thought,
    tool,
)
from tests.fakes.sagemaker_upstream import (
    SageMakerUpstream,
    open_sagemaker_upstream,
)
from tests.fakes.sagemaker_upstream import Script as Container

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
MESSAGES = [{"role": "user", "content": [{"text": "hello"}]}]
SCRIPTS = [
    Script(),
    Script((thought("h", "m", signature="s="), text("a", "b")), written=7),
    Script((Said("redacted", ("c2VjcmV0",)), tool("t_1", "look", '{"a"', ":1}")), "tool_use"),
]


@pytest.fixture
async def bedrock() -> AsyncIterator[BedrockUpstream]:
    async with open_bedrock_upstream() as opened:
        yield opened


@pytest.fixture
async def sagemaker() -> AsyncIterator[SageMakerUpstream]:
    async with open_sagemaker_upstream() as opened:
        yield opened


async def their(service: str, base_url: str, use: Callable[[Any], Any]) -> Any:
    """Return what `use` does with a client of botocore, which blocks."""

    def run() -> Any:
        client = botocore.session.Session().create_client(
            service,
            region_name=REGION,
            endpoint_url=base_url,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
            aws_session_token=TOKEN,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        try:
            return use(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


def streamed(client: Any) -> list[dict[str, Any]]:
    """Return the events of a stream, whose connection is closed."""
    with closing(client.converse_stream(modelId=MODEL, messages=MESSAGES)["stream"]) as events:
        return list(events)


def content_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks that a stream adds up to."""
    blocks: dict[int, dict[str, Any]] = {}
    for one in events:
        if "contentBlockStart" in one:
            start = one["contentBlockStart"]
            blocks[start["contentBlockIndex"]] = {"toolUse": {**start["start"]["toolUse"]}}
        if "contentBlockDelta" in one:
            delta = one["contentBlockDelta"]
            _add(blocks.setdefault(delta["contentBlockIndex"], {}), delta["delta"])
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return [blocks[index] for index in sorted(blocks)]


def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolUse" in delta:
        use = block["toolUse"]
        use["input"] = use.get("input", "") + delta["toolUse"]["input"]
    else:
        piece = delta["reasoningContent"]
        thought = block.setdefault("reasoningContent", {})
        if "redactedContent" in piece:
            thought["redactedContent"] = piece["redactedContent"]
            return
        told = thought.setdefault("reasoningText", {})
        for name, value in piece.items():
            told[name] = told.get(name, "") + value


@pytest.mark.parametrize("script", SCRIPTS)
async def test_converse_of_the_fake_is_converse(bedrock: BedrockUpstream, script: Script) -> None:
    bedrock.script = script

    whole = await their(
        "bedrock-runtime",
        bedrock.base_url,
        lambda client: client.converse(modelId=MODEL, messages=MESSAGES),
    )
    events = await their(
        "bedrock-runtime",
        bedrock.base_url,
        streamed,
    )

    assert script.usage == whole["usage"] == events[-1]["metadata"]["usage"]
    assert script.stop_reason == whole["stopReason"] == events[-2]["messageStop"]["stopReason"]
    assert whole["output"]["message"]["content"] == content_of(events)


async def test_errors_of_the_fake_are_errors(bedrock: BedrockUpstream) -> None:
    bedrock.script = Script(error="ThrottlingException", status=429)
    with pytest.raises(ClientError) as refused:
        await their(
            "bedrock-runtime",
            bedrock.base_url,
            lambda client: client.converse(modelId=MODEL, messages=MESSAGES),
        )
    bedrock.script = Script(exception="modelStreamErrorException", fail_at=2)
    with pytest.raises(EventStreamError) as broken:
        await their(
            "bedrock-runtime",
            bedrock.base_url,
            streamed,
        )

    assert "ThrottlingException" == refused.value.response["Error"]["Code"]
    assert "modelStreamErrorException" == broken.value.response["Error"]["Code"]


async def test_invocations_of_the_fake_are_invocations(sagemaker: SageMakerUpstream) -> None:
    details = {"finish_reason": "length", "generated_tokens": 3}
    sagemaker.script = Container("generate", details=details, part=9)
    asked = {
        "EndpointName": "my-endpoint",
        "Body": b'{"inputs":"a"}',
        "ContentType": "application/json",
    }

    def both(client: Any) -> tuple[bytes, bytes]:
        whole = client.invoke_endpoint(**asked)["Body"].read()
        events = client.invoke_endpoint_with_response_stream(**asked)["Body"]
        with closing(events):
            return whole, b"".join(one["PayloadPart"]["Bytes"] for one in events)

    whole, streamed = await their("sagemaker-runtime", sagemaker.base_url, both)

    assert [{"generated_text": "Hello wörld", "details": details}] == json.loads(whole)
    last = json.loads(streamed.strip().rpartition(b"data:")[2])
    assert ("Hello wörld", details) == (last["generated_text"], last["details"])


async def test_error_of_a_container_is_one(sagemaker: SageMakerUpstream) -> None:
    sagemaker.script = Container(error="ModelError", status=424, original=(400, "no"))

    with pytest.raises(ClientError) as refused:
        await their(
            "sagemaker-runtime",
            sagemaker.base_url,
            lambda client: client.invoke_endpoint(
                EndpointName="my-endpoint", Body=b"{}", ContentType="application/json"
            ),
        )

    assert (400, "no") == (
        refused.value.response["OriginalStatusCode"],
        refused.value.response["OriginalMessage"],
    )
