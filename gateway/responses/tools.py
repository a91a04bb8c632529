"""Tools, the choice among them and the text's format, as a chat completion has them; pure."""

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.responses.pieces import Kinds, kinds, read_piece, wrong
from gateway.responses.schema import (
    NULL,
    AllowedTools,
    FunctionChoice,
    FunctionTool,
    PlainFormat,
    SchemaFormat,
)

TOOLS: Final = kinds(function=FunctionTool)
CHOICES: Final[Kinds[FunctionChoice | AllowedTools]] = kinds(
    function=FunctionChoice, allowed_tools=AllowedTools
)
FUNCTIONS: Final = kinds(function=FunctionChoice)
FORMATS: Final[Kinds[PlainFormat | SchemaFormat]] = kinds(
    text=PlainFormat, json_object=PlainFormat, json_schema=SchemaFormat
)
_MODES: Final = msgspec.json.Decoder(str)
MODE_NAMES: Final = ("auto", "none", "required")
PLAIN_TEXT: Final[dict[str, object]] = {"type": "text"}


class Tools(NamedTuple):
    """The tools of a request.

    `shown` and `shown_choice` are told in the answer; `sent` and `choice` are the chat
    completion's; `indices` says which tool of the request each of `sent` is.
    """

    shown: list[dict[str, object]]
    shown_choice: object
    sent: list[dict[str, object]]
    choice: object
    indices: list[int]


def read_tools(tools: list[Raw], choice: Raw) -> Tools:
    """Return the tools and the choice among them.

    A choice among allowed tools is the mode with these tools alone.

    Raises:
        TurnpikeError: 400, with `param` naming the tool's field; hosted tools are not served.
    """
    functions = [_tool(raw, f"tools[{index}]") for index, raw in enumerate(tools)]
    shown, sent = [_shown(tool) for tool in functions], [_sent(tool) for tool in functions]
    indices = list(range(len(functions)))
    if choice == NULL:
        return Tools(shown, "auto", sent, None, indices)
    if bytes(choice).startswith(b'"'):
        mode = _MODES.decode(choice)
        if mode not in MODE_NAMES:
            raise wrong("tool_choice", f"must be one of {', '.join(MODE_NAMES)}, or an object")
        return Tools(shown, mode, sent, mode, indices)
    wanted = read_piece(choice, CHOICES, "tool_choice")
    if isinstance(wanted, FunctionChoice):
        named = {"type": "function", "name": wanted.name}
        forced = {"type": "function", "function": {"name": wanted.name}}
        return Tools(shown, named, sent, forced, indices)
    indices = _allowed(wanted, [tool.name for tool in functions])
    allowed = [{"type": "function", "name": functions[index].name} for index in indices]
    told = {"type": "allowed_tools", "mode": wanted.mode, "tools": allowed}
    return Tools(shown, told, [sent[index] for index in indices], wanted.mode, indices)


def read_format(raw: Raw) -> tuple[dict[str, object], dict[str, object] | None]:
    """Return `text.format` as the answer tells it, and the chat completion's `response_format`.

    Raises:
        TurnpikeError: 400, with `param` inside `text.format`.
    """
    if raw == NULL:
        return PLAIN_TEXT, None
    wanted = read_piece(raw, FORMATS, "text.format")
    if not isinstance(wanted, SchemaFormat):
        shown: dict[str, object] = {"type": wanted.type}
        return shown, None if wanted.type == "text" else shown
    _check_object(wanted.schema, "text.format.schema")
    schema: dict[str, object] = {"name": wanted.name, "schema": wanted.schema}
    if wanted.description is not None:
        schema["description"] = wanted.description
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    return {"type": "json_schema", **schema}, {"type": "json_schema", "json_schema": schema}


def _tool(raw: Raw, path: str) -> FunctionTool:
    tool = read_piece(raw, TOOLS, path)
    if tool.parameters != NULL:
        _check_object(tool.parameters, f"{path}.parameters")
    return tool


def _check_object(raw: Raw, path: str) -> None:
    if not bytes(raw).startswith(b"{"):
        raise wrong(path, "must be an object")


def _shown(tool: FunctionTool) -> dict[str, object]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict is True,
    }


def _sent(tool: FunctionTool) -> dict[str, object]:
    function: dict[str, object] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters != NULL:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _allowed(wanted: AllowedTools, names: list[str]) -> list[int]:
    found = set()
    for index, raw in enumerate(wanted.tools):
        path = f"tool_choice.tools[{index}]"
        tool = read_piece(raw, FUNCTIONS, path)
        if tool.name not in names:
            raise wrong(f"{path}.name", "names no tool of this request")
        found.add(names.index(tool.name))
    if not found:
        raise wrong("tool_choice.tools", "is empty; it needs a tool")
    return sorted(found)
