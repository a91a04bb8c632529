"""From a request for a response to the chat completion that answers it; pure.

The chat body is read by `read_chat`, so every check, bound and hold is that of a chat completion;
what is refused is named as the caller wrote it. Fields of the same name pass as they came, also
Turnpike's own.
"""

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.call import ModelCall, ReadRules
from gateway.openai.bodies import parse_json
from gateway.openai.envelope import read_chat
from gateway.openai.schema import decode_fields, encode
from gateway.responses.conversation import Conversation
from gateway.responses.pieces import missing, unsupported, wrong
from gateway.responses.schema import NULL, Reasoning, ResponsesRequest, StreamOptions
from gateway.responses.tools import Tools, read_format, read_tools
from kit.errors import TurnpikeError

LOGPROBS: Final = "message.output_text.logprobs"
ENCRYPTED: Final = "reasoning.encrypted_content"
_OF_HOSTED_TOOLS: Final = (
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
)
"""What can be included of tools that are not served: there is nothing of it to leave out."""
_READ_HERE: Final = frozenset(
    {"input", "instructions", "max_output_tokens", "max_tool_calls", "stream_options", "tools"}
    | {"tool_choice", "text", "reasoning", "include", "top_logprobs", "metadata", "store"}
    | {"truncation", "background"}
)
STATEFUL: Final = {
    "previous_response_id": "nothing is stored; send the earlier items in input",
    "conversation": "nothing is stored; send the earlier items in input",
    "prompt": "there are no prompt templates",
    "context_management": "the input is taken as it is",
    "moderation": "answers are not moderated here",
}
CHAT_NAMES: Final = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
    "functions": "tools",
    "function_call": "tool_choice",
    "n": "",
    "audio": "",
    "modalities": "",
}
"""Names that a chat completion has, by what they are called here; empty: it has no place here."""
_RENAMED: Final = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "response_format.type": "text.format.type",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": "include",
    "tool_choice.function.name": "tool_choice.name",
}

_decode: Final = msgspec.json.Decoder(ResponsesRequest).decode


class Asked(NamedTuple):
    """A request for a response: what its answer tells of it, and how its fields are called."""

    request: ResponsesRequest
    tools: Tools
    text_format: dict[str, object]
    conversation: Conversation

    def named(self, error: TurnpikeError) -> TurnpikeError:
        """Return an error about the chat completion as one about this request."""
        param = error.metadata.get("param")
        found = None if param is None else self._path_of(param)
        if param is None or found is None:
            return error
        message = error.message
        if message.startswith(param + " "):
            message = found + message.removeprefix(param)
        return TurnpikeError(error.reason, message, **{**error.metadata, "param": found})

    def _path_of(self, param: str) -> str | None:
        if found := _RENAMED.get(param) or self.conversation.path_of(param):
            return found
        head, _, rest = param.partition(".json_schema")
        if head == "response_format":
            return "text.format" + rest
        head, _, rest = param.removeprefix("tools[").partition("]")
        indices = self.tools.indices
        if param.startswith("tools[") and head.isdecimal() and int(head) < len(indices):
            return f"tools[{indices[int(head)]}]" + rest.replace(".function", "", 1)
        return None


def read_responses(body: bytes, rules: ReadRules) -> tuple[ModelCall, Asked]:
    """Check a body and return the chat completion that it asks for.

    Raises:
        TurnpikeError: 400, with `param` naming the field as the caller wrote it.
    """
    # As a whole, because what is nested too deeply may show in any part that is read on its own.
    return parse_json(body, lambda checked: _read(checked, rules))


def _read(body: bytes, rules: ReadRules) -> tuple[ModelCall, Asked]:
    request, fields = _decode(body), decode_fields(body)
    _check_names(fields)
    conversation = _conversation(request)
    tools = read_tools(request.tools or [], request.tool_choice)
    shown, response_format = read_format(request.text.format if request.text else NULL)
    asked = Asked(request, tools, shown, conversation)
    chat: dict[str, object] = {n: v for n, v in fields.items() if n not in _READ_HERE}
    chat |= _translated(request, tools)
    chat["messages"] = conversation.messages
    if response_format is not None:
        chat["response_format"] = response_format
    try:
        call = read_chat(encode(chat), rules)
    except TurnpikeError as error:
        raise asked.named(error) from error
    return msgspec.structs.replace(call, ignored=_ignored(request, conversation)), asked


def _check_names(fields: dict[str, Raw]) -> None:
    """Refuse what is not served, and a chat completion's names; null asks for nothing."""
    for name in sorted(fields.keys() & (STATEFUL.keys() | CHAT_NAMES.keys())):
        if fields.pop(name) == NULL:
            continue
        if name in STATEFUL:
            raise unsupported(name, f"is not supported: {STATEFUL[name]}")
        ours = CHAT_NAMES[name]
        raise unsupported(name, f"has no place here; use {ours}" if ours else "has no place here")


def _conversation(request: ResponsesRequest) -> Conversation:
    if request.background:
        raise unsupported("background", "is not supported: answers are not kept")
    if request.truncation not in (None, "disabled"):
        raise unsupported("truncation", "must be disabled: the input is taken as it is")
    if request.stream_options is not None:
        _check_options(request.stream_options, is_streaming=request.stream is True)
    if request.input is None:
        raise missing("input")
    conversation = Conversation()
    if request.instructions is not None:
        conversation.add_text("system", request.instructions, "instructions")
    if isinstance(request.input, str):
        conversation.add_text("user", request.input, "input")
    else:
        conversation.add_items(request.input)
    return conversation


def _check_options(options: StreamOptions, *, is_streaming: bool) -> None:
    if not is_streaming:
        raise wrong("stream_options", "needs stream to be true")
    if options.include_obfuscation:
        raise unsupported("stream_options.include_obfuscation", "is not supported")


def _translated(request: ResponsesRequest, tools: Tools) -> dict[str, object]:
    """Return the fields of the chat completion that have another name or form here.

    `stream` is always given: what a dialect takes for granted is meant for chat completions.
    """
    chat: dict[str, object] = {"stream": request.stream is True}
    if request.max_output_tokens is not None:
        chat["max_completion_tokens"] = request.max_output_tokens
    if tools.sent:
        chat["tools"] = tools.sent
    if tools.choice is not None:
        chat["tool_choice"] = tools.choice
    if request.reasoning is not None and request.reasoning.effort is not None:
        chat["reasoning_effort"] = request.reasoning.effort
    if request.text is not None and request.text.verbosity is not None:
        chat["verbosity"] = request.text.verbosity
    if _wants_logprobs(request):
        chat["logprobs"] = True
        if request.top_logprobs is not None:
            chat["top_logprobs"] = request.top_logprobs
    return chat


def _wants_logprobs(request: ResponsesRequest) -> bool:
    known = (LOGPROBS, ENCRYPTED, *_OF_HOSTED_TOOLS)
    for index, name in enumerate(request.include or ()):
        if name not in known:
            raise wrong(f"include[{index}]", f"must be one of {', '.join(known)}")
    return LOGPROBS in (request.include or ()) or bool(request.top_logprobs)


def _ignored(request: ResponsesRequest, conversation: Conversation) -> tuple[str, ...]:
    """Return the best-effort fields that nothing is done about."""
    found = list(conversation.ignored)
    reasoning = request.reasoning or Reasoning()
    if request.store:
        found.append("store")
    if reasoning.summary is not None or reasoning.generate_summary is not None:
        found.append("reasoning.summary")
    if ENCRYPTED in (request.include or ()) and ENCRYPTED not in found:
        found.append(ENCRYPTED)
    return tuple(found)
