"""What a caller of the Messages API calls the fields that an error names; pure.

The request is checked in the chat form, whose paths read `messages[2].content[1].image_url.url`;
the caller wrote `messages.1.content.1.source`.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from kit.errors import TurnpikeError

_IN_MESSAGES: Final = re.compile(r"messages\[(\d+)\](?:\.(content|tool_calls)\[(\d+)\])?(.*)")
_IN_TOOLS: Final = re.compile(r"tools\[(\d+)\](.*)")
_INDEX: Final = re.compile(r"\[(\d+)\]")
_TOP: Final = (
    ("response_format.json_schema.schema", "output_config.format.schema"),
    ("response_format", "output_config.format"),
    ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
    ("tool_choice.function.name", "tool_choice.name"),
    ("chat_template_kwargs", "thinking"),
    ("reasoning_effort", "output_config.effort"),
    ("stop", "stop_sequences"),
    ("user", "metadata.user_id"),
)
_BELOW: Final = (
    (".function.parameters", ".input_schema"),
    (".function.arguments", ".input"),
    (".function", ""),
    (".tool_call_id", ".tool_use_id"),
    (".image_url", ".source"),
    (".file", ".source"),
)
_LEAVES: Final = frozenset({".source", ".input"})
"""Below these the two forms have nothing in common."""


class Origin(NamedTuple):
    """Where a message of the chat form comes from: itself, its content parts, its tool calls.

    `content` is what the caller's path of the whole content is.
    """

    path: str
    content: str
    parts: Sequence[str] = ()
    calls: Sequence[str] = ()


def own_name(param: str, origins: Sequence[Origin]) -> str:
    """Return the caller's name of a field of the chat form; its own names stay as they are."""
    if found := _IN_MESSAGES.fullmatch(param):
        return _in_message(found, origins)
    if found := _IN_TOOLS.fullmatch(param):
        return f"tools.{found[1]}{_below(found[2])}"
    for name, own in _TOP:
        if param == name or param.startswith((name + ".", name + "[")):
            return own + _INDEX.sub(r".\1", param[len(name) :])
    return _INDEX.sub(r".\1", param)


def renamed(error: TurnpikeError, origins: Sequence[Origin]) -> TurnpikeError:
    """Return an error about the chat form as one about the caller's request."""
    param = error.metadata.get("param")
    if param is None:
        return error
    own = own_name(param, origins)
    message = re.sub(rf"(?<![\w.]){re.escape(param)}(?![\w\[])", lambda _: own, error.message)
    if own not in message:
        message = f"{own}: {message}"
    return TurnpikeError(error.reason, message, **{**error.metadata, "param": own})


def _in_message(found: "re.Match[str]", origins: Sequence[Origin]) -> str:
    at, kind, inner, rest = found[1], found[2], found[3], found[4]
    if int(at) >= len(origins):
        return f"messages.{at}"
    origin = origins[int(at)]
    if kind is None:
        if rest == ".content":
            return origin.content
        return origin.path + _below(rest)
    paths = origin.parts if kind == "content" else origin.calls
    if int(inner) >= len(paths):
        return origin.content
    return paths[int(inner)] + _below(rest)


def _below(rest: str) -> str:
    for name, own in _BELOW:
        if rest == name or rest.startswith((name + ".", name + "[")):
            rest = own if own in _LEAVES else own + rest[len(name) :]
            break
    return _INDEX.sub(r".\1", rest)
