"""How each vendor and engine that speaks OpenAI's API differs from OpenAI; a table, pure.

One `Profile` each; what it means for a request is in `openai_vendor_request`, for an answer in
`openai_vendor_answer`. Which features a vendor honours is in `services.router.capabilities`.
Source: the vendors' API references and guides as they were found in 2026-11: DeepSeek (thinking
mode, chat and FIM completions), Fireworks (chat and text completions, inference error codes),
Hyperbolic (OpenAPI of its chat and text completions), Mistral (types of its Python SDK 3.7),
OpenAI (reasoning models), OpenRouter (reasoning tokens, usage accounting, errors), TensorRT-LLM
`tensorrt_llm/serve/openai_protocol.py`, Together (structured outputs, its OpenAPI document, audio),
xAI (chat completions). And what their users report: Mistral's ids of tool calls
(jackmpcollins/magentic 276), members it refuses (charmbracelet/crush 1590,
editor-code-assistant/eca 231), DeepSeek's `response_format` (llm-exe/llm-exe 662), xAI's penalties
(miaoxworld/NativeTavern 83), Fireworks' members of messages (earendil-works/pi 4514).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

Names = frozenset[str]
Operation = Literal["chat", "completion", "embedding", "image", "speech", "transcription"]

VENDORS: Final = (
    "openai",
    "together",
    "deepseek",
    "fireworks",
    "mistral",
    "hyperbolic",
    "xai",
    "openrouter",
)
"""Kinds of providers that are a vendor of their own."""

BEST_EFFORT: Final = frozenset(
    {"metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "store", "user"}
    | {"safety_identifier", "reasoning_effort", "verbosity", "chat_template_kwargs", "seed"}
    | {"include_reasoning", "reasoning"}
)
"""Request fields that may be left aside if the caller is told."""

_TEXTS: Final[frozenset[Operation]] = frozenset({"chat", "completion", "embedding"})
_ALL: Final[frozenset[Operation]] = _TEXTS | {"image", "speech", "transcription"}
_NOTHING: Final[Names] = frozenset()
_EFFORT: Final = "reasoning_effort"
_ONE: Final = frozenset({b"null", b"1", b"1.0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRules:
    """How a conversation is spelled.

    `roles` are exchanged; of the members of a message `renamed` get another name and `dropped` are
    left out, for the caller to know. A refusal that is dropped is said as text if nothing else is.
    `has_thoughts_in_parts`: what an assistant thought stands in its content, before the text.
    `has_short_ids`: ids of tool calls are nine letters and digits. `drops_strict`: a tool has no
    `strict`. `needs_parameters`: a tool without parameters says so.
    """

    roles: Mapping[bytes, bytes] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: Names = _NOTHING
    has_thoughts_in_parts: bool = False
    has_short_ids: bool = False
    drops_strict: bool = False
    needs_parameters: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingRules:
    """What is different where a deployment is said to reason.

    `takes` are best-effort fields that mean something then. `fixed` fields have one of these values
    or the request is refused; `unheard` ones are taken and change nothing. `switch` is what
    `enable_thinking` is called, by its value; `is_none_a_switch` tells that a `reasoning_effort` of
    none is said by it. `has_parts`: earlier thoughts are taken as parts of content. `wants_back`:
    members of messages that have to come back with the calls they were said beside, to every
    deployment if `always_wants_back`.
    """

    takes: Names = frozenset({_EFFORT})
    fixed: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    unheard: Names = _NOTHING
    switch: Mapping[bool, Mapping[str, object]] = field(default_factory=dict)
    is_none_a_switch: bool = False
    has_parts: bool = False
    wants_back: Names = _NOTHING
    always_wants_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRules:
    """How an answer is spelled.

    A read of a stream that holds one of `marks` is looked at chunk by chunk, and a whole answer
    always is: `reasoning` is called `reasoning_content`, content in parts becomes text, and what
    is not OpenAI's is left out. `finish_reasons` are exchanged. `has_own_usage` tells that usage
    has members that are not for callers. Of `think_tags` see `openai_think`.
    """

    marks: tuple[bytes, ...] = ()
    finish_reasons: Mapping[str, str] = field(default_factory=dict)
    has_own_usage: bool = False
    think_tags: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRules:
    """How images, speech and transcriptions are spelled; None for OpenAI's fields.

    `image_formats` are exchanged, as JSON; `has_sides`: a size is said as width and height.
    `speech_formats` are what a wanted format is said by, names and JSON. A transcription may have
    `sound_fields` beside its file, in one of `sound_formats`.
    """

    image_fields: Names | None = None
    image_formats: Mapping[bytes, bytes] = field(default_factory=dict)
    has_sides: bool = False
    speech_fields: Names | None = None
    speech_formats: Mapping[bytes, Mapping[str, bytes]] = field(default_factory=dict)
    sound_fields: Names = _NOTHING
    sound_formats: Names = _NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One vendor or engine.

    `operations` is what it serves, `paths` where, if elsewhere than OpenAI; `text_lacks` are the
    fields of a chat that a text completion does not have there. `has_template`: prompts are made
    by a template of its own, which takes arguments. `takes` are the
    best-effort fields that it knows; None for all. `renamed` fields have another name there;
    `values` are exchanged, as JSON; `forced` stands in each request for a chat or a text.
    `takes_cache_marks`: it knows prompt-cache markers.
    """

    base_url: str = ""
    capacity: Literal["native", "quota", "external"] = "quota"
    operations: frozenset[Operation] = _ALL
    paths: Mapping[Operation, str] = field(default_factory=dict)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    text_lacks: Names = _NOTHING
    has_stream_options: bool = True
    has_template: bool = False
    takes: Names | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[bytes, bytes]] = field(default_factory=dict)
    forced: Mapping[str, object] = field(default_factory=dict)
    media: MediaRules = MediaRules()
    messages: MessageRules = MessageRules()
    answer: AnswerRules = AnswerRules()
    thinking: ThinkingRules = ThinkingRules()
    takes_cache_marks: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether a request and an answer are just OpenAI's."""
        spelling = (
            self.paths,
            self.has_stream_options,
            self.takes,
            self.renamed,
            self.values,
            self.forced,
            self.media,
            self.messages,
            self.answer,
        )
        return spelling == ({}, True, None, {}, {}, {}, MediaRules(), MessageRules(), AnswerRules())

    def for_deployment(self, *, reasons: bool, think_tags: bool) -> "Profile":
        """Return the profile of a deployment: one that reasons, or thinks in its text."""
        found = self
        if reasons and self.takes is not None:
            found = replace(found, takes=self.takes | self.thinking.takes)
        if reasons and self.thinking.has_parts:
            dropped = self.messages.dropped - {"reasoning_content"}
            spelling = replace(self.messages, dropped=dropped, has_thoughts_in_parts=True)
            found = replace(found, messages=spelling)
        if think_tags:
            found = replace(found, answer=replace(found.answer, think_tags=True))
        return found


_IMAGE: Final = frozenset({"model", "prompt", "n", "response_format"})
_SYSTEM: Final = {b'"developer"': b'"system"'}
_THOUGHTS: Final = frozenset({"reasoning_content", "reasoning", "reasoning_details"})
_SWITCH: Final = {True: {_EFFORT: "medium"}, False: {_EFFORT: "none"}}

PROFILES: Final[Mapping[str, Profile]] = {
    "openai": Profile(
        base_url="https://api.openai.com/v1",
        max_tokens_field="max_completion_tokens",
        thinking=ThinkingRules(fixed={"temperature": _ONE, "top_p": _ONE}, switch=_SWITCH),
    ),
    "vllm": Profile(capacity="native", has_template=True),
    "sglang": Profile(capacity="native", has_template=True),
    "trtllm": Profile(
        capacity="native",
        operations=_TEXTS,
        has_template=True,
        takes=frozenset({"user", "seed", "chat_template_kwargs"}),
        messages=MessageRules(roles=_SYSTEM, dropped=frozenset({"reasoning_details"})),
        answer=AnswerRules(marks=(b'"reasoning":', b'"avg_decoded_tokens_per_iter":')),
    ),
    "together": Profile(
        base_url="https://api.together.xyz/v1",
        takes=frozenset({"seed"}),
        media=MediaRules(
            image_fields=_IMAGE | {"size"},
            image_formats={b'"b64_json"': b'"base64"'},
            has_sides=True,
            speech_fields=frozenset({"model", "input", "voice", "response_format"}),
            speech_formats={
                b'"mp3"': {"response_format": b'"mp3"'},
                b'"wav"': {"response_format": b'"wav"', "response_encoding": b'"pcm_s16le"'},
                b'"pcm"': {
                    "response_format": b'"raw"',
                    "response_encoding": b'"pcm_s16le"',
                    "sample_rate": b"24000",
                },
            },
            sound_fields=frozenset(
                {"model", "language", "prompt", "response_format", "temperature"}
                | {"timestamp_granularities[]"}
            ),
            sound_formats=frozenset({"json", "text", "verbose_json"}),
        ),
        messages=MessageRules(
            roles=_SYSTEM,
            renamed={"reasoning_content": "reasoning"},
            dropped=frozenset({"reasoning_details", "refusal"}),
            drops_strict=True,
        ),
        answer=AnswerRules(
            marks=(b'"text":', b'"token_id":', b'"reasoning":', b'"seed":'),
            finish_reasons={"eos": "stop"},
            has_own_usage=True,
        ),
        thinking=ThinkingRules(
            switch={
                True: {"reasoning": {"enabled": True}},
                False: {"reasoning": {"enabled": False}},
            }
        ),
    ),
    "deepseek": Profile(
        base_url="https://api.deepseek.com",
        operations=frozenset({"chat", "completion"}),
        paths={"completion": "/beta/completions"},
        takes=_NOTHING,
        messages=MessageRules(
            roles=_SYSTEM, dropped=frozenset({"reasoning", "reasoning_details", "refusal"})
        ),
        answer=AnswerRules(has_own_usage=True),
        thinking=ThinkingRules(
            unheard=frozenset({"temperature", "top_p"}),
            switch={
                True: {"thinking": {"type": "enabled"}},
                False: {"thinking": {"type": "disabled"}},
            },
            is_none_a_switch=True,
            wants_back=frozenset({"reasoning_content"}),
        ),
    ),
    "fireworks": Profile(
        base_url="https://api.fireworks.ai/inference/v1",
        operations=_TEXTS,
        has_stream_options=False,
        takes=frozenset({"user", "seed", "metadata"}),
        forced={"context_length_exceeded_behavior": "error"},
        messages=MessageRules(
            roles=_SYSTEM,
            dropped=frozenset({"reasoning", "reasoning_details", "refusal"}),
            drops_strict=True,
        ),
        answer=AnswerRules(
            marks=(b'"perf_metrics":', b'"token_ids":', b'"raw_output":'), has_own_usage=True
        ),
        thinking=ThinkingRules(switch=_SWITCH),
    ),
    "mistral": Profile(
        base_url="https://api.mistral.ai/v1",
        operations=_TEXTS,
        paths={"completion": "/fim/completions"},
        text_lacks=frozenset(
            {"n", "frequency_penalty", "presence_penalty", "top_k", "repetition_penalty"}
        ),
        has_stream_options=False,
        takes=frozenset({"metadata", "prompt_cache_key", "seed"}),
        renamed={"seed": "random_seed", "dimensions": "output_dimension"},
        values={"tool_choice": {b'"required"': b'"any"'}},
        messages=MessageRules(
            roles=_SYSTEM,
            dropped=_THOUGHTS | {"refusal", "name", "audio", "function_call"},
            has_short_ids=True,
            needs_parameters=True,
        ),
        answer=AnswerRules(
            marks=(b'"content":[', b'"p":', b'"tool_calls":['),
            finish_reasons={"model_length": "length"},
            has_own_usage=True,
        ),
        thinking=ThinkingRules(
            switch={True: {_EFFORT: "high"}, False: {_EFFORT: "none"}}, has_parts=True
        ),
    ),
    "hyperbolic": Profile(
        base_url="https://api.hyperbolic.xyz/v1",
        operations=frozenset({"chat", "completion"}),
        takes=frozenset({"seed", "user"}),
        messages=MessageRules(roles=_SYSTEM, dropped=_THOUGHTS | {"refusal"}),
        answer=AnswerRules(finish_reasons={"eos": "stop"}, has_own_usage=True),
    ),
    "xai": Profile(
        base_url="https://api.x.ai/v1",
        operations=frozenset({"chat", "image"}),
        media=MediaRules(image_fields=_IMAGE | {"user"}),
        takes=frozenset({"user", "seed"}),
        messages=MessageRules(
            dropped=frozenset({"reasoning", "reasoning_details", "refusal"}), drops_strict=True
        ),
        answer=AnswerRules(has_own_usage=True),
        thinking=ThinkingRules(switch=_SWITCH),
    ),
    "openrouter": Profile(
        base_url="https://openrouter.ai/api/v1",
        capacity="external",
        operations=_TEXTS,
        takes=BEST_EFFORT - {"store", "prompt_cache_retention"},
        forced={"provider": {"require_parameters": True}, "usage": {"include": True}},
        messages=MessageRules(renamed={"reasoning_content": "reasoning"}),
        answer=AnswerRules(
            marks=(b'"reasoning":', b'"native_finish_reason":', b'"provider":'),
            has_own_usage=True,
        ),
        takes_cache_marks=True,
        thinking=ThinkingRules(
            wants_back=frozenset({"reasoning_details"}),
            always_wants_back=True,
            switch={
                True: {"reasoning": {"enabled": True}},
                False: {"reasoning": {"enabled": False}},
            },
        ),
    ),
}
"""By the name of the vendor or the engine."""
