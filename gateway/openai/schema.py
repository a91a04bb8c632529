"""The request fields Turnpike reads or checks, as msgspec structs; pure.

Everything else in a body is carried as it came. A number that is whole may be written as a float.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from gateway.openai.figures import Whole
from gateway.openai.messages import Message
from gateway.openai.provider_wishes import ProviderWishes

Penalty = Annotated[float, Meta(ge=-2, le=2)]
ModelName = Annotated[str, Meta(min_length=1, max_length=256)]
Label = Annotated[str, Meta(max_length=512)]


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How a stream is shaped; padding against eavesdroppers who count bytes is not made."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None

    @property
    def ignored(self) -> tuple[str, ...]:
        """What is asked for and not honoured, as `X-Turnpike-Ignored` names it."""
        return ("stream_options.include_obfuscation",) if self.include_obfuscation else ()


class RoutedRequest(msgspec.Struct, kw_only=True):
    """What every request may say of its route and of those it belongs together with."""

    timeout_ms: Whole | None = None
    routing_strategy: Literal["cheapest", "fastest", "balanced"] | None = None
    allow_external: bool | None = None
    max_input_price_per_million: Whole | None = None
    max_output_price_per_million: Whole | None = None
    episode_id: str | None = None
    tensorzero_episode_id: str | None = msgspec.field(default=None, name="tensorzero::episode_id")
    session_id: Label | None = None
    prompt_cache_key: Label | None = None
    provider: ProviderWishes | None = None


class ChatRequest(RoutedRequest, kw_only=True):
    """`POST /v1/chat/completions`."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1)]
    models: Annotated[list[ModelName], Meta(max_length=8)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Whole | None = None
    max_completion_tokens: Whole | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    seed: Whole | None = None
    n: Whole | None = None
    logprobs: bool | None = None
    top_logprobs: Whole | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    store: bool | None = None
    chat_template: Annotated[str, Meta(min_length=1)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None


decode_chat = msgspec.json.Decoder(ChatRequest).decode
decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
encode = msgspec.json.encode
