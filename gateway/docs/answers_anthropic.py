"""Answers of Anthropic's Messages API, for the description of the API; pure."""

from typing import Any, Literal

import msgspec


class SaidText(msgspec.Struct, tag_field="type", tag="text"):
    """Text of the answer."""

    text: str


class SaidThought(msgspec.Struct, tag_field="type", tag="thinking"):
    """Reasoning; its signature is empty."""

    thinking: str
    signature: str


class SaidToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    """A call that the model asks for."""

    id: str
    name: str
    input: dict[str, Any]


class MessageUsage(msgspec.Struct, omit_defaults=True):
    """Tokens; those of the input are without the cached ones."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: dict[str, int] | None = None


class AnthropicAnswer(msgspec.Struct):
    """A whole message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[SaidText | SaidThought | SaidToolUse]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(msgspec.Struct):
    """How many input tokens a message would have, as far as its size tells."""

    input_tokens: int


class AnthropicErrorDetails(msgspec.Struct, omit_defaults=True):
    """The reason, as at the other endpoints, and the field."""

    error_code: str
    param: str = ""


class AnthropicErrorObject(msgspec.Struct):
    """Why a request was refused."""

    type: str
    message: str
    details: AnthropicErrorDetails


class AnthropicError(msgspec.Struct):
    """The body of every refusal of the Messages API."""

    type: Literal["error"]
    error: AnthropicErrorObject
    request_id: str
