"""From a Messages request to a checked call in the chat form; pure.

The translated body is read by `read_chat`, so that every check, bound and feature is that of a
chat completion. A top-level field that the Messages API does not have is taken over as it is and
means what it means there. What cannot be honoured is refused, unless leaving it out changes
nothing but speed, price or depth: then it is listed in `ModelCall.ignored`.

`thinking` becomes `chat_template_kwargs.enable_thinking`, `output_config.effort` becomes
`reasoning_effort`, and `output_config.format` a strict `response_format`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from gateway.anthropic.conversation import Conversation, marked
from gateway.anthropic.names import Origin, renamed
from gateway.anthropic.schema import (
    NOT_SERVED,
    OWN_NAMES,
    MessagesRequest,
    Tool,
    ToolChoice,
    Whole,
    decode_tool,
    decode_tool_kind,
)
from gateway.call import ModelCall, ReadRules
from gateway.openai.envelope import read_chat
from gateway.openai.schema import decode_fields
from kit.errors import Reason, TurnpikeError

_AT: Final = re.compile(r" - at `\$\.?(.*)`$")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")
_INDEX: Final = re.compile(r"\[(\d+)\]")
_NULL: Final = msgspec.Raw(b"null")
_FIELDS: Final = frozenset(MessagesRequest.__struct_fields__)
_BYTES_PER_TOKEN_TENTHS: Final = 36
_MEDIA_TOKENS: Final = 1600
_EFFORTS: Final = frozenset({"low", "medium", "high"})
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}

_encode = msgspec.json.encode
_T = TypeVar("_T")


class Reading(NamedTuple):
    """A checked request; `prompt_tokens` is an estimate, `origins` are for errors to come."""

    call: ModelCall
    origins: Sequence[Origin]
    prompt_tokens: int


def read_messages(
    body: bytes, rules: ReadRules, decode: Callable[[bytes], MessagesRequest]
) -> Reading:
    """Check a body and translate it; `decode` is that of the endpoint.

    Raises:
        TurnpikeError: `INVALID_JSON`, `MISSING_FIELD`, `INVALID_VALUE` or `UNSUPPORTED_PARAMETER`,
            with `param` naming the field as the caller wrote it: `messages.0.content.1.source`.
    """
    request, others = _decode(body, decode)
    talk = _conversation(request)
    chat: dict[str, object] = {**others, "model": request.model, "stream": bool(request.stream)}
    messages = chat["messages"] = msgspec.Raw(_encode(talk.messages))
    text_bytes = len(messages) - talk.media_bytes
    tools = [_tool(index, raw, talk) for index, raw in enumerate(request.tools or ())]
    if tools:
        described = chat["tools"] = msgspec.Raw(_encode(tools))
        text_bytes += len(described)
    _add_choice(chat, request.tool_choice, tools)
    _add_figures(chat, request)
    _add_output(chat, request, talk.ignored)
    _add_thinking(chat, request, talk.ignored)
    _add_about(chat, request, talk.ignored)
    try:
        call = read_chat(_encode(chat), rules)
    except TurnpikeError as error:
        raise renamed(error, talk.origins) from error
    if request.top_k is not None and "top_k" not in call.features:
        features = (*call.features, "top_k")
        unknown = tuple(name for name in call.unknown_fields if name != "top_k")
        call = msgspec.structs.replace(call, features=features, unknown_fields=unknown)
    return Reading(
        msgspec.structs.replace(call, ignored=tuple(sorted(talk.ignored))),
        talk.origins,
        estimated_tokens(text_bytes, talk.media_count),
    )


def estimated_tokens(text_bytes: int, media_count: int) -> int:
    """Return how many tokens a prompt has, as far as its size tells.

    3.6 bytes of the messages' and tools' JSON count as one, rounded up; an image or a document
    counts 1,600 whatever its size, which is what a large image costs at Anthropic.
    """
    return -(-text_bytes * 10 // _BYTES_PER_TOKEN_TENTHS) + media_count * _MEDIA_TOKENS


def _decode(
    body: bytes, decode: Callable[[bytes], MessagesRequest]
) -> tuple[MessagesRequest, dict[str, msgspec.Raw]]:
    """Return what is known of a body, and its other fields."""
    try:
        if not body.isascii():
            # msgspec does not look into text that it carries along unread.
            body.decode()
        request, fields = decode(body), decode_fields(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TurnpikeError(Reason.INVALID_JSON, "The body is not valid JSON.") from error
    except RecursionError as error:
        raise TurnpikeError(Reason.INVALID_JSON, "The body is nested too deeply.") from error
    others = {name: raw for name, raw in fields.items() if name not in _FIELDS and raw != _NULL}
    for name in others:
        if name in NOT_SERVED:
            raise _unsupported(name, f"{name} is not supported by any route.")
        if name in OWN_NAMES:
            own = OWN_NAMES[name]
            what = f"use {own}" if own else "the Messages API has no such answer"
            raise _unsupported(name, f"{name} is a field of chat completions; {what}.")
    return request, others


def _invalid(text: str, above: str = "") -> TurnpikeError:
    """Return the refusal for what msgspec says; `above` is where the decoded value stands."""
    at = _AT.search(text)
    what = text[: at.start()] if at else text
    path = ".".join(filter(None, (above, _INDEX.sub(r".\1", at[1]) if at else "")))
    if missing := _MISSING.search(what):
        name = f"{path}.{missing[1]}" if path else missing[1]
        return TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    if unknown := _UNKNOWN.search(what):
        path = f"{path}.{unknown[1]}"
        return TurnpikeError(Reason.INVALID_VALUE, f"{path} is not a known field.", param=path)
    if not path:
        return TurnpikeError(Reason.INVALID_VALUE, f"The body is wrong: {what}.")
    return TurnpikeError(Reason.INVALID_VALUE, f"{path} is wrong: {what}.", param=path)


def _conversation(request: MessagesRequest) -> Conversation:
    talk = Conversation()
    if request.system is not None:
        talk.add_system(request.system, "system")
    for index, message in enumerate(request.messages):
        talk.add(index, message)
    talk.mark_end(request.cache_control)
    if request.messages[-1].role == "assistant":
        where = f"messages.{len(request.messages) - 1}"
        raise _unsupported(
            where, f"{where} is the assistant's: no route continues an answer that was begun."
        )
    return talk


def _tool(index: int, raw: msgspec.Raw, talk: Conversation) -> dict[str, Any]:
    where = f"tools.{index}"
    kind = _inner(decode_tool_kind, raw, where).type
    if kind not in (None, "custom"):
        raise _unsupported(
            f"{where}.type", f"{where}.type is {kind}, a tool of Anthropic's own; no route has it."
        )
    tool: Tool = _inner(decode_tool, raw, where)
    left_out = {
        "defer_loading": tool.defer_loading,
        "input_examples": tool.input_examples,
        # Pieces of a call's input are always sent as they come.
        "eager_input_streaming": tool.eager_input_streaming is False,
    }
    talk.ignored.update(f"tools.{name}" for name, value in left_out.items() if value)
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.input_schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return marked({"type": "function", "function": function}, tool.cache_control)


def _inner(decode: Callable[[msgspec.Raw], _T], raw: msgspec.Raw, where: str) -> _T:
    try:
        return decode(raw)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), where) from error


def _add_choice(
    chat: dict[str, object], choice: ToolChoice | None, tools: list[dict[str, Any]]
) -> None:
    if choice is None:
        return
    if not tools:
        raise _wrong("tool_choice", "tool_choice needs tools.")
    if choice.type == "tool":
        if choice.name is None:
            raise TurnpikeError(
                Reason.MISSING_FIELD, "tool_choice.name is required.", param="tool_choice.name"
            )
        if all(tool["function"]["name"] != choice.name for tool in tools):
            raise _wrong("tool_choice.name", "tool_choice.name is the name of no tool.")
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        chat["tool_choice"] = _CHOICES[choice.type]
    if choice.disable_parallel_tool_use:
        chat["parallel_tool_calls"] = False


def _add_figures(chat: dict[str, object], request: MessagesRequest) -> None:
    chat["max_tokens"] = request.max_tokens
    if request.temperature is not None:
        chat["temperature"] = request.temperature
    if request.top_p is not None:
        chat["top_p"] = request.top_p
    if request.top_k is not None:
        chat["top_k"] = _count("top_k", request.top_k)
    if request.stop_sequences:
        chat["stop"] = request.stop_sequences


def _add_output(chat: dict[str, object], request: MessagesRequest, ignored: set[str]) -> None:
    config, form = request.output_config, request.output_format
    if config is not None and config.format is not None:
        if form is not None:
            raise _wrong("output_format", "output_format and output_config.format: give one.")
        form = config.format
    if form is not None:
        schema = {"name": "output", "schema": form.schema, "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    if config is not None and config.effort is not None:
        is_exact = config.effort in _EFFORTS
        chat["reasoning_effort"] = config.effort if is_exact else "high"
        if not is_exact:
            ignored.add("output_config.effort")


def _add_thinking(chat: dict[str, object], request: MessagesRequest, ignored: set[str]) -> None:
    thinking = request.thinking
    if thinking is None:
        return
    if thinking.type == "enabled" and thinking.budget_tokens is None:
        where = "thinking.budget_tokens"
        raise TurnpikeError(Reason.MISSING_FIELD, f"{where} is required.", param=where)
    if thinking.budget_tokens is not None:
        ignored.add("thinking.budget_tokens")
    if thinking.display == "omitted":
        ignored.add("thinking.display")
    if "chat_template_kwargs" in chat:
        raise _wrong("thinking", "thinking and chat_template_kwargs: give one.")
    chat["chat_template_kwargs"] = {"enable_thinking": thinking.type != "disabled"}


def _add_about(chat: dict[str, object], request: MessagesRequest, ignored: set[str]) -> None:
    """Add what is said about a request; `auto` and `standard` are what every request gets."""
    if request.metadata is not None and request.metadata.user_id is not None:
        chat["user"] = request.metadata.user_id
    if request.service_tier == "standard_only":
        chat["service_tier"] = "default"
    if request.speed == "fast":
        ignored.add("speed")
    if request.diagnostics is not None:
        ignored.add("diagnostics")


def _count(name: str, value: Whole) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise _wrong(name, f"{name} is {value}; it must be a whole number.")
    if not 0 <= value <= 2**31:
        raise _wrong(name, f"{name} is {int(value)}; it must be from 0 to {2**31}.")
    return int(value)


def _wrong(param: str, message: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, message, param=param)


def _unsupported(param: str, message: str) -> TurnpikeError:
    return TurnpikeError(Reason.UNSUPPORTED_PARAMETER, message, param=param)
