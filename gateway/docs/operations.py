"""What the API offers, as data: the source of `/openapi.json`, `/docs` and `/llms.txt`; pure."""

from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.docs.answers import ChatCompletion, ModelList, ModelObject
from gateway.openai.fields import KNOWN
from gateway.openai.schema import ChatRequest

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint below a prefix such as `/v1`; `answer` is of its JSON form.

    `raw_fields` are fields of the request that its struct does not hold.
    """

    method: str
    path: str
    name: str
    summary: str
    request: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    raw_fields: frozenset[str] = frozenset()
    is_streamable: bool = False
    request_type: str = JSON
    answer_type: str = JSON


OPERATIONS: Final = (
    Operation(
        "POST",
        "/chat/completions",
        "createChatCompletion",
        "Answers a conversation, whole or as a stream of chunks.",
        ChatRequest,
        ChatCompletion,
        KNOWN,
        is_streamable=True,
    ),
    Operation(
        "GET",
        "/models",
        "listModels",
        "Lists the models that the key may use, with prices and supported parameters.",
        answer=ModelList,
    ),
    Operation(
        "GET",
        "/models/{model}",
        "getModel",
        "Returns one model, by any of its names.",
        answer=ModelObject,
    ),
)
