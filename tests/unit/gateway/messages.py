"""Requests to the Messages API, as tests write them."""

import json
from typing import Any

from gateway.anthropic.api import MessagesApi
from gateway.call import ModelCall, ReadRules
from tests.fixtures.rules import rules

RULES = rules()
CACHE = {"type": "ephemeral"}
TOOL = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}
CHAT_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells it.",
        "parameters": {"type": "object"},
    },
}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PNG_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def said(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(of: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": of, **more}


def result(content: Any = None, **more: Any) -> dict[str, Any]:
    given = {} if content is None else {"content": content}
    return {"type": "tool_result", "tool_use_id": "toolu_1", **given, **more}


def body(**more: Any) -> dict[str, Any]:
    usual = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    return usual | more


def read(asked: dict[str, Any], rules: ReadRules = RULES) -> ModelCall:
    return MessagesApi().read(json.dumps(asked).encode(), rules)


def fields(call: ModelCall) -> dict[str, Any]:
    return {name: json.loads(bytes(raw)) for name, raw in call.fields.items()}


ASK = user(text("Oslo?"))
