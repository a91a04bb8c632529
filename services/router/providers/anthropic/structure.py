"""How an answer is held to a form: by its schema, or by a tool whose input is the answer; pure.

Models that have structured outputs take the schema itself, as far as they keep to it. For the
others the answer is the input of one more tool: with the caller's own tools one of all has to be
called, without them that one.
"""

from typing import Any, Final, NamedTuple

import msgspec

from services.router.constraints import Constraint, Kind
from services.router.providers.anthropic.schemas import is_strict, object_schema
from services.router.providers.anthropic.tools import Tools, read_tools
from services.router.providers.constraint_fields import choice_schema
from services.router.providers.port import Body, Call
from services.router.providers.refusals import unsupported

NATIVE_OPTION: Final = "output_format"
NATIVE: Final = "native"
"""The option of an attempt, and its value, that tell of a model with structured outputs."""

_ANSWER: Final = "give_answer"
_TELLING: Final = "Give the answer to the user. Its input is the whole answer."
_OBJECT: Final = msgspec.Raw(b'{"type":"object"}')


class Structure(NamedTuple):
    """What is asked of an answer; `schema` is None for anything.

    `tool` is the name of the tool whose input is the answer, empty where the model is held to the
    schema itself.
    """

    schema: msgspec.Raw | None = None
    tool: str = ""

    def format(self) -> dict[str, Any] | None:
        """Return the form of the answer, if it is said by itself."""
        if self.schema is None or self.tool:
            return None
        return {"type": "json_schema", "schema": self.schema}

    def with_tool(self, tools: Tools) -> Tools:
        """Return the tools with the one whose input is the answer, if there is such."""
        if not self.tool:
            return tools
        answer = {"name": self.tool, "description": _TELLING, "input_schema": self.schema}
        is_alone = not tools.written or tools.choice == "none"
        return tools._replace(
            written=[*tools.written, answer],
            choice="tool" if is_alone else "any",
            meant=self.tool if is_alone else "",
            is_serial=True,
        )


def has_native(call: Call) -> bool:
    """Return whether the model of an attempt has structured outputs."""
    return call.options.get(NATIVE_OPTION) == NATIVE


def answer_tool(call: Call, body: Body) -> str:
    """Return the name of the tool whose input is the answer; empty if there is none.

    Raises:
        ProviderError: As `structure_of`.
    """
    if call.constraint is None:
        return ""
    return structure_of(call, read_tools(body, has_strict=has_native(call))).tool


def structure_of(call: Call, tools: Tools) -> Structure:
    """Return what is asked of an answer.

    Raises:
        ProviderError: UNSUPPORTED, with `param`: it cannot be said.
    """
    constraint = call.constraint
    if constraint is None or constraint.kind is Kind.FREE:
        return Structure()
    schema = _schema(constraint)
    if has_native(call) and constraint.kind is not Kind.JSON_OBJECT and is_strict(schema):
        return Structure(schema)
    if tools.is_forced:
        # A call is asked for, and that is no text to be held to anything.
        return Structure()
    narrowed = object_schema(schema)
    if narrowed is None:
        raise unsupported(constraint.param)
    name = _ANSWER
    while name in tools.names:
        name += "_"
    return Structure(narrowed, name)


def _schema(constraint: Constraint) -> msgspec.Raw:
    if constraint.kind is Kind.JSON_OBJECT:
        return _OBJECT
    if constraint.kind is Kind.JSON_SCHEMA:
        return constraint.json
    if constraint.kind is Kind.CHOICE:
        return choice_schema(constraint)
    raise unsupported(constraint.param)
