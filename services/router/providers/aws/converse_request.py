"""An OpenAI chat completion as a request of Bedrock's Converse; pure.

Tools and the form of the answer are read as for Claude's own API, and said in Converse's words.
Source: botocore service model `bedrock-runtime`, shape `ConverseRequest` (1.44, read 2026-11).
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from services.router.constraints import CONSTRAINTS
from services.router.providers.anthropic.fields import read_field
from services.router.providers.anthropic.structure import (
    Structure,
    has_native,
    structure_of,
)
from services.router.providers.anthropic.tools import Tools, read_tools
from services.router.providers.aws.converse_content import Block, Conversation
from services.router.providers.aws.converse_models import (
    CLAUDE,
    NAMING,
    Thinking,
    thinking_fields,
    top_k_fields,
)
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body, Call
from services.router.providers.refusals import unsupported
from services.router.providers.turns import read_dialogue
from services.router.providers.unsaid import unsaid

_SAID: Final = (
    frozenset({"temperature", "top_p", "top_k", "stop", "tools", "tool_choice"}) | CONSTRAINTS
)
_THINKING: Final = ("reasoning_effort", "chat_template_kwargs")
THINKING: Final = frozenset(_THINKING)
"""The request fields that ask for thinking."""

_FORM_NAME: Final = "answer"
_names: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Encoded(NamedTuple):
    """A request's body, and the names of fields that were left aside."""

    body: bytes
    ignored: tuple[str, ...]


def encode_converse(
    call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]], *, family: str
) -> Encoded:
    """Return the body for both of Converse's paths; `family` is whose the model is.

    Raises:
        ProviderError: UNSUPPORTED or REJECTED, with `param`.
    """
    unsaid(body, _SAID)
    tools = read_tools(body, has_strict=has_native(call))
    structure = structure_of(call, tools)
    tools = structure.with_tool(tools)
    dialogue = read_dialogue(body, fetched)
    conversation = Conversation(dialogue, family)
    request: Block = {"messages": conversation.messages}
    if conversation.system:
        request["system"] = conversation.system
    sampling = _Sampling(call, body, family)
    request["inferenceConfig"] = {"maxTokens": call.max_tokens, **sampling.config}
    _put_tools(request, tools, conversation, family)
    _put_form(request, structure)
    extra = dict(sampling.extra)
    asked = None
    if (effort := _effort(body)) == "none" or _may_think(request, sampling, conversation):
        asked = _put_thinking(request, call, effort)
    extra |= asked or {}
    if extra:
        request["additionalModelRequestFields"] = extra
    heard = _SAID.union(_heard(body) if asked is not None else ())
    ignored = {*unsaid(body, heard), *conversation.ignored, *dialogue.left_out}
    ignored |= {*sampling.ignored, *tools.ignored}
    return Encoded(msgspec.json.encode(request), tuple(sorted(ignored)))


class _Sampling:
    """How tokens are chosen and where they end: Converse's own fields, and the model's."""

    def __init__(self, call: Call, body: Body, family: str) -> None:
        """Read a request.

        Raises:
            ProviderError: UNSUPPORTED or REJECTED, with `param`.
        """
        self.config: Block = {}
        self.extra: dict[str, object] = {}
        chosen = self._chosen(body, family)
        mode = call.options.get("sampling", "sent")
        if mode == "refused" and chosen:
            raise unsupported(min(chosen))
        self.ignored = frozenset(chosen if mode == "ignored" else ())
        self.is_usual = not chosen or mode == "ignored"
        if mode == "sent":
            self._say(chosen, family)
        stop = read_field(body, "stop", str | list[str])
        if stop:
            self.config["stopSequences"] = [stop] if isinstance(stop, str) else stop

    def _chosen(self, body: Body, family: str) -> dict[str, float]:
        """Return what differs from what the model does by itself, as far as that is known."""
        found = {name: read_field(body, name, float) for name in ("temperature", "top_p", "top_k")}
        if (found["temperature"] or 0) > 1:
            raise unsupported("temperature")
        if found["top_k"] is not None and found["top_k"] <= 0:
            found["top_k"] = None
        # New Claudes take no values at all, not even the usual ones.
        usual = 1 if family == CLAUDE else None
        return {
            name: value
            for name, value in found.items()
            if value is not None and (value != usual or name == "top_k")
        }

    def _say(self, chosen: dict[str, float], family: str) -> None:
        if "temperature" in chosen:
            self.config["temperature"] = chosen["temperature"]
        if "top_p" in chosen:
            self.config["topP"] = chosen["top_p"]
        if "top_k" in chosen:
            fields = top_k_fields(family, int(chosen["top_k"]))
            if fields is None:
                raise unsupported("top_k")
            self.extra |= fields


def _put_tools(request: Block, tools: Tools, conversation: Conversation, family: str) -> None:
    if tools.choice == "none" or not tools.written:
        if conversation.has_tool_use:
            # Converse takes no calls in a conversation without the tools.
            raise unsupported("tool_choice" if tools.written else "tools")
        return
    written: list[Block] = []
    for tool in tools.written:
        spec: Block = {name: tool[name] for name in ("name", "strict") if name in tool}
        if tool.get("description", "").strip():
            spec["description"] = tool["description"]
        spec["inputSchema"] = {"json": tool["input_schema"]}
        written.append({"toolSpec": spec})
        written += conversation.tool_cache_point(tool.get("cache_control"))
    config: Block = {"tools": written}
    is_only = len(tools.written) == 1 and family not in NAMING
    if tools.choice == "any" or (tools.choice == "tool" and is_only):
        config["toolChoice"] = {"any": {}}
    elif tools.choice == "tool":
        config["toolChoice"] = {"tool": {"name": tools.meant}}
    request["toolConfig"] = config


def _put_form(request: Block, structure: Structure) -> None:
    """Put in the form of the text, if the model is held to that."""
    if form := structure.format():
        definition: dict[str, Any] = {"schema": bytes(form["schema"]).decode(), "name": _FORM_NAME}
        structured = {"type": "json_schema", "structure": {"jsonSchema": definition}}
        request["outputConfig"] = {"textFormat": structured}


def _effort(body: Body) -> str:
    """Return how hard to think; what has no known form asks for nothing."""
    fields = {name: body[name] for name in _THINKING if name in body}
    try:
        return msgspec.json.decode(msgspec.json.encode(fields), type=Thinking).effort
    except JUNK:
        return ""


def _put_thinking(request: Block, call: Call, effort: str) -> dict[str, object] | None:
    """Return the model's own fields that ask for thinking; None when that cannot be said."""
    mode = call.options.get("thinking", "none")
    found = thinking_fields(mode, effort, max_tokens=call.max_tokens)
    if found is None:
        return None
    fields, level = found
    if level:
        request.setdefault("outputConfig", {})["effort"] = level
    return fields


def _may_think(request: Block, sampling: _Sampling, conversation: Conversation) -> bool:
    """Return whether the rest of the request leaves it to the model to think.

    Claude thinks at temperature 1 only, never when it must call a tool, and not in the middle of
    a use of tools whose thoughts were lost.
    """
    is_forced = "toolChoice" in request.get("toolConfig", {})
    return not is_forced and sampling.is_usual and conversation.is_thought_kept


def _heard(body: Body) -> tuple[str, ...]:
    """Return which fields about thinking were said in whole."""
    if bytes(body.get("reasoning_effort", b"null")) != b"null":
        return _THINKING[:1]
    return _THINKING if len(_names(body.get("chat_template_kwargs", b"{}"))) == 1 else ()
