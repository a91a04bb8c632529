"""The rows of `facts/features.md` section 1 that Turnpike must have, and the form of their cases.

Each row has a table of cases in one of the modules here; `test_rows_complete` finds a missing one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ROWS: Final = (
    *(f"E{number}" for number in range(1, 16)),
    *(f"P{number}" for number in range(1, 46)),
    *(f"A{number}" for number in range(1, 21)),
    *(f"H{number}" for number in range(1, 10)),
    *(f"T{number}" for number in range(1, 7)),
    *(f"X{number}" for number in range(1, 11)),
    *(f"B{number}" for number in range(1, 5)),
)
PREFIXES: Final = {
    "openai": "/v1",
    "infer": "/api/v1",
    "vram": "/vram/v1",
    "bud": "/bud/v1",
    "runinfra": "/runinfra/v1",
}

Fields = Mapping[str, Any]
Check = Callable[[Any], bool]


@dataclass(frozen=True)
class Valid:
    """A request that is served; `sent` must be part of what the upstream got.

    `absent` are fields that it must not have got; `answer` looks at the JSON of the whole answer.
    """

    name: str
    fields: Fields = field(default_factory=dict)
    sent: Fields = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    answer: Check = lambda _answer: True
    headers: Fields = field(default_factory=dict)


@dataclass(frozen=True)
class Invalid:
    """A request that is refused; `param` names the field."""

    name: str
    fields: Fields
    param: str | None
    code: str = "invalid_value"
    status: int = 400
    absent: tuple[str, ...] = ()
    headers: Fields = field(default_factory=dict)


Case = Valid | Invalid


def code_in(dialect: str, code: str, status: int) -> Any:
    """Return how a dialect writes an error code; None where it leaves it out."""
    return {"infer": code.upper(), "bud": status, "vram": None, "runinfra": None}.get(dialect, code)
