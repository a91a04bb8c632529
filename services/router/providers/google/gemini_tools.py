"""Tools, and what the answer is held to, as Gemini is told; pure.

Source: Gemini API, function calling and structured output (read 2026-11).
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services.router.constraints import Constraint, Kind
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body
from services.router.providers.refusals import rejected, unsupported

FIELDS: Final = frozenset({"tools", "tool_choice"})
_MODES: Final = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
_NULL: Final = msgspec.Raw(b"null")


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = _NULL
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None


class _Name(msgspec.Struct):
    name: str


class _Allowed(msgspec.Struct):
    mode: str = "auto"
    tools: list[_Tool] = []


class _Choice(msgspec.Struct):
    type: str
    function: _Name | None = None
    allowed_tools: _Allowed | None = None


class _Schema(msgspec.Struct, rename="camel"):
    type: Any = None
    properties: dict[str, msgspec.Raw] | None = None
    additional_properties: Any = None


_tools: Final = msgspec.json.Decoder(list[_Tool] | None).decode
_choice: Final = msgspec.json.Decoder(str | _Choice | None).decode
_schema: Final = msgspec.json.Decoder(_Schema | None).decode


def tool_fields(body: Body) -> dict[str, Any]:
    """Return `tools` and `toolConfig`; empty without tools.

    Raises:
        ProviderError: UNSUPPORTED or REJECTED, with `param`.
    """
    tools = _read(_tools, body, "tools")
    choice = _read(_choice, body, "tool_choice") or "auto"
    if not tools:
        if choice not in ("auto", "none"):
            raise rejected("tool_choice", "does not have the expected form")
        return {}
    functions = [_function(index, tool) for index, tool in enumerate(tools)]
    mode, names = _mode(choice)
    if mode == "AUTO" and any(function.strict for function in functions):
        # The only mode that lets the model choose and still holds it to the schemas.
        mode = "VALIDATED"
    config: dict[str, Any] = {"mode": mode}
    if names:
        config["allowedFunctionNames"] = names
    return {
        "tools": [{"functionDeclarations": [_declaration(function) for function in functions]}],
        "toolConfig": {"functionCallingConfig": config},
    }


def format_fields(constraint: Constraint, *, has_tools: bool) -> dict[str, Any]:
    """Return the members of generationConfig that hold an answer to a constraint.

    Args:
        constraint: What the answer is held to.
        has_tools: Whether it may call tools instead and the model cannot have both.

    Raises:
        ProviderError: UNSUPPORTED: Gemini cannot keep to it.
    """
    if constraint.kind is Kind.FREE:
        return {}
    if has_tools:
        raise unsupported(constraint.param, "together with tools is not supported by this model")
    if constraint.kind is Kind.JSON_OBJECT:
        return {"responseMimeType": "application/json"}
    if constraint.kind is Kind.JSON_SCHEMA:
        return {
            "responseMimeType": "application/json",
            "responseJsonSchema": constraint.json,
        }
    if constraint.kind is Kind.CHOICE:
        choices = list(dict.fromkeys(constraint.choices))
        return {
            "responseMimeType": "text/x.enum",
            "responseSchema": {"type": "STRING", "enum": choices},
        }
    raise unsupported(constraint.param)


def _function(index: int, tool: _Tool) -> _Function:
    if tool.type != "function" or tool.function is None:
        raise unsupported(f"tools[{index}].type", "is not supported by this deployment")
    return tool.function


def _declaration(function: _Function) -> dict[str, Any]:
    found: dict[str, Any] = {"name": function.name}
    if function.description:
        found["description"] = function.description
    if not _is_without_parameters(function.parameters):
        found["parametersJsonSchema"] = function.parameters
    return found


def _is_without_parameters(raw: msgspec.Raw) -> bool:
    """Return whether a schema takes no argument at all; Gemini wants none for those."""
    if bytes(raw) in (b"null", b"{}"):
        return True
    try:
        schema = _schema(raw)
    except JUNK:
        return False
    if schema is None:
        return True
    is_closed = schema.additional_properties in (None, False)
    return schema.type == "object" and schema.properties == {} and is_closed


def _mode(choice: str | _Choice) -> tuple[str, list[str]]:
    """Return the mode, and the names that may be called where they are fewer than all."""
    if isinstance(choice, str):
        if choice not in _MODES:
            raise rejected("tool_choice", "does not have the expected form")
        return _MODES[choice], []
    if choice.type == "function" and choice.function is not None:
        return "ANY", [choice.function.name]
    allowed = choice.allowed_tools
    if choice.type == "allowed_tools" and allowed is not None:
        names = [tool.function.name for tool in allowed.tools if tool.function is not None]
        if names and len(names) == len(allowed.tools):
            return "ANY" if allowed.mode == "required" else "VALIDATED", names
    raise unsupported("tool_choice")


def _read(decode: Any, body: Mapping[str, msgspec.Raw], name: str) -> Any:  # noqa: ANN401 - any type
    try:
        return decode(body[name]) if name in body else None
    except JUNK:
        raise rejected(name, "does not have the expected form") from None
