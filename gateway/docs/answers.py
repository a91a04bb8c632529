"""Answers as msgspec structs, for the description of the API; pure.

Answers are forwarded, not built from these; the tests hold every recorded one to them.
"""

from typing import Any, Literal

import msgspec


class FunctionCall(msgspec.Struct):
    """The function of a tool call; `arguments` is JSON as text."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct):
    """A call that the model asks for."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AnswerMessage(msgspec.Struct, omit_defaults=True):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    tool_calls: list[ToolCall] = []
    reasoning_content: str | None = None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Choice(msgspec.Struct):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: dict[str, Any] | None = None


class Usage(msgspec.Struct, omit_defaults=True):
    """Tokens; the prompt's include cached ones, the completion's include reasoning."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None


class ChatCompletion(msgspec.Struct, omit_defaults=True):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    episode_id: str = ""


class ModelObject(msgspec.Struct, omit_defaults=True):
    """A model, an adapter on one, or a function."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    aliases: list[str] = []
    context_length: int = 0
    pricing: dict[str, str] = {}
    supported_parameters: list[str] = []
    parent: str = ""


class ModelList(msgspec.Struct):
    """What the key may use."""

    object: Literal["list"]
    data: list[ModelObject]


class ErrorObject(msgspec.Struct, omit_defaults=True):
    """Why a request was refused; a dialect may write `code` in capitals, as a number or not."""

    message: str
    type: str
    param: str | None
    request_id: str
    code: str | int | None = None
    details: dict[str, str] = {}


class ErrorAnswer(msgspec.Struct):
    """The body of every refusal."""

    error: ErrorObject
