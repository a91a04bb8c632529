"""The fields of Anthropic's Messages API, as msgspec structs; pure.

Nested objects take no field that is not listed, as Anthropic's own API does; a top-level field
that is not listed is read as chat completions read it. Source: the Messages API reference and the
types of the `anthropic` SDK 2.14 (read 2026-10).
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Whole = int | float
JsonObject = dict[str, Raw]


class CacheControl(msgspec.Struct, forbid_unknown_fields=True):
    """A marker that asks for the prompt up to here to be cached."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class _Block(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    cache_control: CacheControl | None = None


class TextBlock(_Block, tag="text"):
    """Text; citations are those of an earlier answer."""

    text: str
    citations: list[Any] | None = None


class Base64Image(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="base64"):
    """An image that is part of the request."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlImage(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="url"):
    """An image that lies elsewhere."""

    url: str


class ImageBlock(_Block, tag="image"):
    """An image."""

    source: Base64Image | UrlImage
    transformations: dict[str, Any] | None = None


class Base64Pdf(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="base64"):
    """A PDF that is part of the request."""

    media_type: Literal["application/pdf"]
    data: str


class PlainText(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """A document of plain text."""

    media_type: Literal["text/plain"]
    data: str


class Blocks(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="content"):
    """A document made of blocks."""

    content: str | list[TextBlock | ImageBlock]


class Citations(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the answer shall cite a document."""

    enabled: bool | None = None


class DocumentBlock(_Block, tag="document"):
    """A document."""

    source: Base64Pdf | PlainText | Blocks
    title: str | None = None
    context: str | None = None
    citations: Citations | None = None


class Caller(msgspec.Struct, forbid_unknown_fields=True):
    """Who called a tool: always the model itself."""

    type: Literal["direct"]


class ToolUseBlock(_Block, tag="tool_use"):
    """A tool call of an earlier answer."""

    id: Name
    name: Name
    input: JsonObject
    caller: Caller | None = None
    toolset_name: None = None


class ToolResultBlock(_Block, tag="tool_result"):
    """What a tool said."""

    tool_use_id: Name
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool | None = None
    toolset_name: None = None


class ThinkingBlock(_Block, tag="thinking"):
    """Reasoning of an earlier answer."""

    thinking: str
    signature: str = ""


class RedactedThinkingBlock(_Block, tag="redacted_thinking"):
    """Reasoning that only its author can read."""

    data: str


Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | ToolUseBlock
    | ToolResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
)
Part = TextBlock | ImageBlock | DocumentBlock


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ToolKind(msgspec.Struct):
    """The one field that tells whose tool it is."""

    type: str | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """A tool of the caller's own."""

    name: Name
    input_schema: JsonObject
    description: str | None = None
    type: str | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: list[JsonObject] | None = None


class ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    """Whether and which tool must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    """What the caller says of its own user."""

    user_id: str | None = None


class Thinking(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the model reasons before it answers."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=1)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(msgspec.Struct, forbid_unknown_fields=True):
    """The schema that the answer's text must keep to."""

    type: Literal["json_schema"]
    schema: JsonObject


class OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    """How the answer is made."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class MessagesRequest(msgspec.Struct, kw_only=True):
    """`POST /v1/messages`."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Whole
    system: str | list[TextBlock] | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Whole | None = None
    tools: list[Raw] | None = None
    tool_choice: ToolChoice | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    cache_control: CacheControl | None = None
    speed: Literal["standard", "fast"] | None = None
    diagnostics: JsonObject | None = None


class CountRequest(MessagesRequest, kw_only=True):
    """`POST /v1/messages/count_tokens`: the same, but nothing is generated."""

    max_tokens: Whole = 1


NOT_SERVED: Final = (
    "container",
    "context_management",
    "fallbacks",
    "inference_geo",
    "mcp_servers",
    "user_profile_id",
    "workspace_id",
)
"""Known fields that change the answer and that no route honours: refused unless null."""

OWN_NAMES: Final = {
    "audio": "",
    "function_call": "tool_choice",
    "functions": "tools",
    "logprobs": "",
    "max_completion_tokens": "max_tokens",
    "modalities": "",
    "n": "",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "prompt": "messages",
    "reasoning_effort": "output_config.effort",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
    "stream_options": "",
    "top_logprobs": "",
    "user": "metadata.user_id",
}
"""Fields of chat completions that the Messages API says otherwise or has no answer for."""

decode_messages = msgspec.json.Decoder(MessagesRequest).decode
decode_count = msgspec.json.Decoder(CountRequest).decode
decode_tool_kind = msgspec.json.Decoder(ToolKind).decode
decode_tool = msgspec.json.Decoder(Tool).decode
