"""Requests of `POST /v1/responses` as msgspec structs; pure.

A field that a struct lacks is one that Turnpike does not honour: it is refused, by its name, unless
it is null or false. Source: OpenAI API reference, "Create a model response" (read 2026-11), and
the types of openai-python 3.52.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw

from gateway.openai.figures import Whole

NULL: Final = Raw(b"null")
_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


def _null() -> Raw:
    # A factory, because msgspec's schemas cannot show a raw default.
    return NULL


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How a stream is shaped."""

    include_obfuscation: bool | None = None


class Reasoning(msgspec.Struct, forbid_unknown_fields=True):
    """How much the model thinks; summaries are not made."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    mode: Literal["standard"] | None = None
    context: Literal["auto"] | None = None


class Text(msgspec.Struct, forbid_unknown_fields=True):
    """What form the text has."""

    format: Raw = msgspec.field(default_factory=_null)
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesRequest(msgspec.Struct):
    """What is read here; the rest of a body is a chat completion's by the same name."""

    input: str | list[Raw] | None = None
    instructions: str | None = None
    max_output_tokens: Whole | None = None
    max_tool_calls: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw = msgspec.field(default_factory=_null)
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    top_logprobs: Whole | None = None
    metadata: _Metadata | None = None
    store: bool | None = None
    truncation: str | None = None
    background: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None


class Piece(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Something that says by its `type` what it is."""

    type: str | None = None


class Head(msgspec.Struct):
    """What tells one kind of piece from another; an item with an id alone is a reference."""

    type: str | None = None
    role: str | None = None
    id: Any = None


class InputText(Piece):
    """Text of a message."""

    text: str
    prompt_cache_breakpoint: Any = None


class OutputText(Piece):
    """Text of an earlier answer."""

    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class Refusal(Piece):
    """A refusal of an earlier answer."""

    refusal: str


class InputImage(Piece):
    """An image, by its address or as a data URL."""

    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    prompt_cache_breakpoint: Any = None


class InputFile(Piece):
    """A file, as a data URL."""

    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    detail: Literal["auto"] | None = None
    prompt_cache_breakpoint: Any = None


class Message(Piece):
    """A message of anybody's."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Raw]
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class FunctionCall(Piece):
    """A call that the model made."""

    call_id: Annotated[str, Meta(min_length=1)]
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None


class FunctionCallOutput(Piece):
    """What a call gave."""

    call_id: str
    output: str | list[Raw]
    id: str | None = None
    name: str | None = None
    status: str | None = None


class Thought(msgspec.Struct):
    """A piece of reasoning, or of its summary."""

    text: str


class ReasoningItem(Piece):
    """What the model thought."""

    summary: list[Thought] | None = None
    content: list[Thought] | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: str | None = None


class FunctionTool(Piece):
    """A function that the model may call."""

    name: _Name
    description: str | None = None
    parameters: Raw = msgspec.field(default_factory=_null)
    strict: bool | None = None


class FunctionChoice(Piece):
    """The function that the model has to call."""

    name: _Name


class AllowedTools(Piece):
    """The tools that the model may call, out of those that are given."""

    mode: Literal["auto", "required"]
    tools: list[Raw]


class PlainFormat(Piece):
    """Text, or any JSON object."""


class SchemaFormat(Piece):
    """JSON by a schema."""

    name: _Name
    schema: Raw
    description: str | None = None
    strict: bool | None = None
