"""What requests of Converse are made of in tests, each held against botocore's model of it."""

import base64
import json
from typing import Any

import botocore.loaders
import msgspec
import pytest
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

from services.router.constraints import CONSTRAINTS, constraint_of
from services.router.providers.aws.bedrock import BedrockCodec
from services.router.providers.port import ProviderError
from services.router.providers.translated import Outgoing
from tests.fakes.openai_calls import make_call

CLAUDE = "anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "eu.amazon.nova-pro-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
PDF = {
    "type": "file",
    "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a_b/c  (1).v2.pdf"},
}
NATIVE = {"output_format": "native"}
LOOK = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": LOOK}]
MARK = {"cache_control": {"type": "ephemeral"}}
CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "seen"}
USER = {"role": "user", "content": "hello"}
SERVICE = ServiceModel(
    botocore.loaders.Loader().load_service_model("bedrock-runtime", "service-2"),
    "bedrock-runtime",
)


def encode(
    *messages: Any, model: str = CLAUDE, options: dict[str, str] | None = None, **fields: Any
) -> Outgoing:
    request = {"model": "m", "messages": list(messages or [USER]), **fields}
    body = msgspec.json.decode(msgspec.json.encode(request), type=dict[str, msgspec.Raw])
    constraint = None if CONSTRAINTS.isdisjoint(body) else constraint_of(body)
    call = make_call(upstream_model=model, options=options or {}, constraint=constraint)
    found = BedrockCodec().encode(call, body, {})
    check(found, model)
    return found


def check(found: Outgoing, model: str) -> None:
    """Hold a request against the model of the service, and against how that writes it."""
    operation = SERVICE.operation_model("ConverseStream")
    sent = json.loads(found.body)
    params = {**with_bytes(sent), "modelId": model}
    report = ParamValidator().validate(params, operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    theirs = create_serializer("rest-json").serialize_to_request(params, operation)
    assert json.loads(theirs["body"]) == sent
    assert theirs["url_path"] == found.path


def with_bytes(value: Any) -> Any:
    """Return JSON with bytes where a blob is meant."""
    if isinstance(value, list):
        return [with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    blobs = ("bytes", "redactedContent")
    return {
        name: base64.b64decode(item) if name in blobs else with_bytes(item)
        for name, item in value.items()
    }


def sent(*messages: Any, **more: Any) -> Any:
    return json.loads(encode(*messages, **more).body)


def failure(*messages: Any, **more: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        encode(*messages, **more)
    return caught.value
