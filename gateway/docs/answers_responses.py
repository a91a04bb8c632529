"""The response object of OpenAI's Responses, for the description of the API; pure."""

from typing import Any, Literal

import msgspec

Status = Literal["in_progress", "completed", "incomplete"]


class ResponseText(msgspec.Struct, tag_field="type", tag="output_text"):
    """Text of a message."""

    text: str
    annotations: list[Any]
    logprobs: list[dict[str, Any]]


class ResponseRefusal(msgspec.Struct, tag_field="type", tag="refusal"):
    """Why the model does not answer."""

    refusal: str


class ResponseMessage(msgspec.Struct, tag_field="type", tag="message"):
    """What the model said."""

    id: str
    role: Literal["assistant"]
    status: Status
    content: list[ResponseText | ResponseRefusal]


class ResponseThought(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    """A piece of reasoning."""

    text: str


class ResponseReasoning(msgspec.Struct, tag_field="type", tag="reasoning"):
    """What the model thought; there are no summaries."""

    id: str
    summary: list[Any]
    content: list[ResponseThought]
    status: Status


class ResponseFunctionCall(msgspec.Struct, tag_field="type", tag="function_call"):
    """A call that the model asks for; `arguments` is JSON as text."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


class ResponseUsage(msgspec.Struct):
    """Tokens; those of the input include cached ones, those of the output reasoning."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ResponseAnswer(msgspec.Struct):
    """A response, with what was asked; nothing of it is stored."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[ResponseMessage | ResponseReasoning | ResponseFunctionCall]
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    usage: ResponseUsage
    error: None = None
    store: Literal[False] = False
