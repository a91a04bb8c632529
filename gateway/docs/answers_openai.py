"""Answers of OpenAI's endpoints but Responses, for the description of the API; pure."""

from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class CalledFunction(msgspec.Struct):
    """The function of a tool call; `arguments` is JSON as text."""

    name: str
    arguments: str


class AnswerToolCall(msgspec.Struct):
    """A call that the model asks for."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(msgspec.Struct, omit_defaults=True):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    tool_calls: list[AnswerToolCall] = []
    reasoning_content: str | None = None


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


class TextChoice(msgspec.Struct):
    """One text; those of one prompt follow one another."""

    index: int
    text: str
    finish_reason: Literal["stop", "length", "content_filter"]
    logprobs: dict[str, Any] | None = None


class TextCompletion(msgspec.Struct, omit_defaults=True):
    """A whole answer of text."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
    episode_id: str = ""


class Embedding(msgspec.Struct):
    """The vector of one input; as text it is base64 of little-endian 32-bit floats."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class PromptUsage(msgspec.Struct):
    """Tokens of what was only read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, omit_defaults=True):
    """The vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: PromptUsage | None = None
    episode_id: str = ""


class Image(msgspec.Struct, omit_defaults=True):
    """One image, as base64 or where it lies."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class ImageList(msgspec.Struct, omit_defaults=True):
    """The images."""

    created: int
    data: list[Image]
    usage: dict[str, Any] | None = None


class Transcription(msgspec.Struct, omit_defaults=True):
    """The text of a recording; what stands beside it depends on `response_format`."""

    text: str
    language: str | None = None
    duration: float | str | None = None
    segments: list[dict[str, Any]] | None = None
    words: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
