"""Tools and what may be called of them, as the Messages API has them; pure.

Source: Anthropic API reference, `tools` and `tool_choice` (read 2026-11).
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from services.router.providers.anthropic.blocks import tool_name
from services.router.providers.anthropic.fields import read_field
from services.router.providers.anthropic.schemas import is_strict
from services.router.providers.port import Body
from services.router.providers.refusals import rejected, unsupported

_EMPTY: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_COMBINED: Final = frozenset({"allOf", "anyOf", "oneOf"})
_NULL: Final = msgspec.Raw(b"null")
_MODES: Final = {"auto": "auto", "required": "any", "none": "none"}
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Function(msgspec.Struct):
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = _NULL
    strict: bool | None = None
    cache_control: msgspec.Raw = _NULL


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None
    cache_control: msgspec.Raw = _NULL


class _Named(msgspec.Struct):
    type: str = ""
    function: _Function | None = None


class Tools(NamedTuple):
    """The tools of a request, written; `choice` is `auto`, `any`, `none` or the tool that is meant.

    `is_serial` tells that there may be one call at most, `ignored` what was left aside.
    """

    written: Sequence[dict[str, Any]] = ()
    choice: str = "auto"
    meant: str = ""
    is_serial: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """What the tools are called."""
        return frozenset(tool["name"] for tool in self.written)

    @property
    def is_forced(self) -> bool:
        """Whether one has to be called."""
        return self.choice in ("any", "tool")

    def members(self) -> dict[str, object]:
        """Return the members of a request that say all this; empty without tools."""
        if not self.written:
            return {}
        choice: dict[str, object] = {"type": self.choice}
        if self.meant:
            choice["name"] = self.meant
        if self.is_serial and self.choice != "none":
            choice["disable_parallel_tool_use"] = True
        found: dict[str, object] = {"tools": self.written}
        return found if choice == {"type": "auto"} else {**found, "tool_choice": choice}


def read_tools(body: Body, *, has_strict: bool) -> Tools:
    """Return the tools of a request; `has_strict` tells that the model can be held to schemas.

    Raises:
        ProviderError: UNSUPPORTED or REJECTED, with `param`.
    """
    tools: list[_Tool] = read_field(body, "tools", list[_Tool]) or []
    written = [_written(index, tool, has_strict=has_strict) for index, tool in enumerate(tools)]
    is_loose = any(
        tool.function is not None and tool.function.strict and "strict" not in each
        for tool, each in zip(tools, written, strict=True)
    )
    choice, meant = _choice(body)
    names = {tool["name"] for tool in written}
    if (choice == "any" and not written) or (meant and meant not in names):
        raise rejected("tool_choice", "names no tool")
    return Tools(
        written,
        choice,
        meant,
        read_field(body, "parallel_tool_calls", bool) is False,
        ("tools.strict",) if is_loose else (),
    )


def _written(index: int, tool: _Tool, *, has_strict: bool) -> dict[str, Any]:
    where = f"tools[{index}]"
    function = tool.function
    if tool.type != "function" or function is None:
        raise unsupported(where, "is no function, and nothing else can be called here")
    found: dict[str, Any] = {"name": tool_name(function.name, f"{where}.function.name")}
    if function.description:
        found["description"] = function.description
    schema = found["input_schema"] = _schema(where, function.parameters)
    if function.strict and has_strict and is_strict(schema):
        found["strict"] = True
    marker = tool.cache_control if tool.cache_control != _NULL else function.cache_control
    if marker != _NULL:
        found["cache_control"] = marker
    return found


def _schema(where: str, raw: msgspec.Raw) -> msgspec.Raw:
    if raw == _NULL:
        return _EMPTY
    try:
        members = _members.decode(raw)
    except msgspec.MsgspecError:
        raise unsupported(f"{where}.function.parameters", "is no schema of an object") from None
    if combined := _COMBINED & members.keys():
        what = f"begins with {min(combined)}, which the input of a tool cannot here"
        raise unsupported(f"{where}.function.parameters", what)
    if "type" in members:
        return raw
    return msgspec.Raw(msgspec.json.encode({"type": "object", **members}))


def _choice(body: Body) -> tuple[str, str]:
    """Return how a tool is chosen, and which one if that is settled."""
    found = read_field(body, "tool_choice", str | _Named)
    if found is None:
        return "auto", ""
    if isinstance(found, str):
        if found not in _MODES:
            raise unsupported("tool_choice")
        return _MODES[found], ""
    if found.type != "function" or found.function is None or not found.function.name:
        raise unsupported("tool_choice")
    return "tool", found.function.name
