"""What fakes of vendors have in common: a refusal, and an answer of who has no refusals.

`SECRET` stands in the messages of errors, which must not be repeated.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Final

Value = dict[str, Any]
SECRET: Final = "secret prompt text"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal of a request."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


def openai_error(status: int, code: Any = None, kind: str = "invalid_request_error") -> Refusal:
    return Refusal(
        status, {"error": {"message": SECRET, "type": kind, "param": None, "code": code}}
    )


def places(value: Value) -> list[Value]:
    """Return the messages or deltas of an answer."""
    return [choice.get("message") or choice["delta"] for choice in value["choices"]]


def bare(value: Value) -> Value:
    """Return an answer of who has no refusals."""
    found = copy.deepcopy(value)
    found.pop("service_tier", None)
    for said in places(found):
        if said.get("refusal"):
            said["content"] = said["refusal"]
        said.pop("refusal", None)
    return found
