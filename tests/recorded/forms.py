"""What each kind of recorded answer must be: one of openai-python's types, and a JSON Schema.

The schemas lie in `tests/golden/openai`. Vectors are recorded as numbers: as base64, which OpenAI's
own clients ask for, they are in neither its types nor its document.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import jsonschema_rs
from openai import BaseModel
from openai.pagination import SyncPage
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from openai.types.shared import ErrorObject

from tests.fixtures.responses import followed, response_events
from tests.fixtures.strict import strictly

FOLDER: Final = Path(__file__).parents[1] / "golden" / "openai"


class Recorded(NamedTuple):
    """One body or chunk that a client got; `kind` is one of `FORMS`."""

    kind: str
    value: Any


class _Form(NamedTuple):
    type: type[BaseModel]
    schema: str


FORMS: Final = {
    "chat": _Form(ChatCompletion, "CreateChatCompletionResponse"),
    "chat chunk": _Form(ChatCompletionChunk, "CreateChatCompletionStreamResponse"),
    "text": _Form(Completion, "CreateCompletionResponse"),
    "text chunk": _Form(Completion, "CreateCompletionStreamResponse"),
    "embeddings": _Form(CreateEmbeddingResponse, "CreateEmbeddingResponse"),
    "models": _Form(SyncPage[Model], "ListModelsResponse"),
    "model": _Form(Model, "Model"),
    "response": _Form(Response, "Response"),
    "error": _Form(ErrorObject, "ErrorResponse"),
}


def check(recorded: Recorded) -> None:
    """Hold an answer against its schema and its type.

    Raises:
        AssertionError: It has a fault; the message names where and shows the answer.
    """
    form = FORMS[recorded.kind]
    faults = [
        f"{'.'.join(map(str, fault.instance_path))}: {fault.message}"
        for fault in _validator(form.schema).iter_errors(recorded.value)
    ]
    assert [] == faults, recorded
    strictly(form.type, _settled(recorded))


def check_events(sse: bytes) -> int:
    """Hold a stream of a response against its types, and each state of it against the schema.

    Returns:
        How many events there were.
    """
    events = response_events(sse)
    for event in events:
        if "response" in event:
            check(Recorded("response", event["response"]))
    followed(events)
    return len(events)


def _settled(recorded: Recorded) -> Any:
    """Return an answer as its type has it."""
    if recorded.kind == "error":
        return recorded.value["error"]
    if recorded.kind == "text chunk":
        # The type is that of a whole completion; OpenAI's own chunks have null until the last.
        choices = [
            {**choice, "finish_reason": choice["finish_reason"] or "stop"}
            for choice in recorded.value["choices"]
        ]
        return {**recorded.value, "choices": choices}
    return recorded.value


@cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    definitions: dict[str, Any] = {}
    for path in sorted(FOLDER.glob("*.json")):
        found = json.loads(path.read_text())["$defs"]
        assert definitions.keys().isdisjoint(found)
        definitions |= found
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": definitions})
