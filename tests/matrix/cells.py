"""What every provider is asked, and what it is told to answer: one table for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.matrix.reply import PIXEL, STRUCTURED, THOUGHTS, Asked, Reply

AFTER: Final = 5
"""Pieces before an answer breaks."""

ABORTS: Final = (1, 2, 3, 4, 5, 6)
"""Pieces after which a caller leaves."""

OPERATION: Final = "operation "
OPERATIONS: Final = ("completion", "embedding", "image", "speech", "transcription")
SCHEMA: Final = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def operation_name(operation: str) -> str:
    """Return what an operation is called among the cells."""
    return OPERATION + operation


def model_of(name: str, *, is_streaming: bool) -> str:
    """Return the model that a cell asks for."""
    return f"{name.replace(' ', '-')}-{'stream' if is_streaming else 'whole'}"


def _tool(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
    function = {"name": name, "description": "Looks at a place.", "parameters": schema}
    return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of each row: `fields` are asked beside the prompt.

    `column` is its place on the page. `True` among the modes is a stream.
    """

    name: str
    reply: Reply = field(default_factory=Reply)
    fields: Mapping[str, Any] = field(default_factory=dict)
    has_modes: tuple[bool, ...] = (True, False)
    column: str = ""

    @property
    def place(self) -> str:
        """The column of the page that it belongs to."""
        return self.column or self.name


_FORMAT: Final = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
}
CELLS: Final = (
    Cell("text"),
    Cell("tool call", Reply(tools=("look",)), {"tools": [_tool("look")]}),
    Cell(
        "parallel tools",
        Reply(tools=("look", "listen")),
        {"tools": [_tool("look"), _tool("listen")]},
    ),
    Cell("image", Reply(has_picture=True)),
    Cell(
        "structured",
        Reply(pieces=STRUCTURED, is_structured=True),
        {"response_format": _FORMAT},
    ),
    Cell("reasoning", Reply(thoughts=THOUGHTS), {"reasoning_effort": "low"}),
    Cell("error before", Reply(trouble="refusal")),
    Cell("error in mid stream", Reply(trouble="error", after=AFTER)),
    Cell("cut", Reply(trouble="cut", after=AFTER)),
    Cell("junk", Reply(trouble="junk", after=AFTER)),
    *(
        Cell(
            f"abort at {count}",
            Reply(trouble="silence", after=count),
            has_modes=(True,),
            column="abort at every chunk",
        )
        for count in ABORTS
    ),
)
"""Every chat."""

COLUMNS: Final = tuple(dict.fromkeys(cell.place for cell in CELLS))


def body_of(cell: Cell, asked: Asked, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat without its model and the way it is answered."""
    content: Any = asked.prompt
    if cell.reply.has_picture:
        url = {"url": f"data:image/png;base64,{PIXEL}"}
        content = [{"type": "text", "text": content}, {"type": "image_url", "image_url": url}]
    return {"messages": [{"role": "user", "content": content}], **fields, **asked.fields}
