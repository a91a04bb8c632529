"""What requests' structs leave open and their readers look at by hand, said exactly; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from gateway.anthropic.schema import CountRequest, MessagesRequest, Tool
from gateway.billing import CENTS_MAX, AutoRechargeRequest, CheckoutRequest
from gateway.openai.completions import BEST_OF_MAX, LOGPROBS_MAX, CompletionRequest
from gateway.openai.embeddings import DIMENSIONS_MAX, EmbeddingsRequest
from gateway.openai.envelope import N_MAX, SEED_MAX, TOKENS_MAX, TOP_LOGPROBS_MAX
from gateway.openai.media import IMAGES_MAX, RANGES, ImageRequest, SpeechRequest
from gateway.openai.messages import BLOCK_TYPES, Block
from gateway.openai.routing import CEILING_CENTS_MAX
from gateway.openai.schema import ChatRequest
from gateway.openai.transcription import TranscriptionRequest
from gateway.responses.conversation import INPUT_PARTS, ITEMS, SAID_PARTS
from gateway.responses.schema import (
    AllowedTools,
    FunctionCallOutput,
    FunctionTool,
    Message,
    ResponsesRequest,
    SchemaFormat,
    Text,
)
from gateway.responses.tools import CHOICES, FORMATS, FUNCTIONS, MODE_NAMES, TOOLS

Struct = type[msgspec.Struct]
Form = dict[str, Any]
Kinds = Mapping[str, "msgspec.json.Decoder[Any]"]

TEXT: Final[Form] = {"type": "string"}
OBJECT: Final[Form] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Place:
    """What may stand in one field: `others`, or objects of `structs`, alone or in a list.

    `is_required` for a field that the struct takes as absent only to refuse it by name.
    """

    structs: tuple[Struct, ...] = ()
    is_list: bool = True
    others: tuple[Form, ...] = ()
    is_required: bool = False


def _of(*tables: Kinds, is_list: bool = True, others: tuple[Form, ...] = ()) -> Place:
    structs = [decoder.type for table in tables for decoder in table.values()]
    return Place(tuple(dict.fromkeys(structs)), is_list, others)


_TOOL: Final = Place((Tool,))

PLACES: Final[Mapping[Struct, Mapping[str, Place]]] = {
    MessagesRequest: {"tools": _TOOL},
    CountRequest: {"tools": _TOOL},
    ResponsesRequest: {
        "input": replace(_of(ITEMS, others=(TEXT,)), is_required=True),
        "tools": _of(TOOLS),
        "tool_choice": _of(CHOICES, is_list=False, others=({"enum": list(MODE_NAMES)},)),
    },
    Text: {"format": _of(FORMATS, is_list=False)},
    Message: {"content": _of(INPUT_PARTS, SAID_PARTS, others=(TEXT,))},
    FunctionCallOutput: {"output": _of(INPUT_PARTS, others=(TEXT,))},
    AllowedTools: {"tools": _of(FUNCTIONS)},
    FunctionTool: {"parameters": Place(others=(OBJECT,))},
    SchemaFormat: {"schema": Place(others=(OBJECT,))},
}
"""By struct and field."""


def _types() -> dict[Struct, list[str]]:
    found: dict[Struct, list[str]] = {Block: list(BLOCK_TYPES), Tool: ["custom"]}
    for table in (ITEMS, INPUT_PARTS, SAID_PARTS, TOOLS, CHOICES, FORMATS):
        for name, decoder in table.items():
            names = found.setdefault(decoder.type, [])
            if name not in names:
                names.append(name)
    return found


TYPES: Final[Mapping[Struct, list[str]]] = _types()
"""What the `type` of a struct may say."""

TYPE_IS_OPTIONAL: Final[frozenset[Struct]] = frozenset({Message, Tool})

_TOKENS: Final = (1, TOKENS_MAX)
_SEED: Final = (-SEED_MAX - 1, SEED_MAX)
_TIMEOUT: Final = (1, None)
_CEILING: Final = (0, CEILING_CENTS_MAX)
_CENTS: Final = (1, CENTS_MAX)
_ROUTED: Final[Mapping[str, tuple[int, int | None]]] = {
    "timeout_ms": _TIMEOUT,
    "max_input_price_per_million": _CEILING,
    "max_output_price_per_million": _CEILING,
}

BOUNDS: Final[Mapping[Struct, Mapping[str, tuple[int, int | None]]]] = {
    ChatRequest: {
        **_ROUTED,
        "max_tokens": _TOKENS,
        "max_completion_tokens": _TOKENS,
        "n": (1, N_MAX),
        "seed": _SEED,
        "top_logprobs": (0, TOP_LOGPROBS_MAX),
    },
    MessagesRequest: {"max_tokens": _TOKENS},
    CountRequest: {"max_tokens": _TOKENS},
    ResponsesRequest: {"max_output_tokens": _TOKENS, "top_logprobs": (0, TOP_LOGPROBS_MAX)},
    CompletionRequest: {
        **_ROUTED,
        "max_tokens": _TOKENS,
        "n": (1, N_MAX),
        "best_of": (1, BEST_OF_MAX),
        "logprobs": (0, LOGPROBS_MAX),
        "seed": _SEED,
    },
    EmbeddingsRequest: {**_ROUTED, "dimensions": (1, DIMENSIONS_MAX)},
    ImageRequest: {**_ROUTED, **RANGES, "n": (1, IMAGES_MAX)},
    SpeechRequest: _ROUTED,
    TranscriptionRequest: {"timeout_ms": _TIMEOUT},
    CheckoutRequest: {"amount_cents": _CENTS},
    AutoRechargeRequest: dict.fromkeys(("below_cents", "amount_cents", "daily_max_cents"), _CENTS),
}
"""From where to where numbers go that readers check by hand; None for what a setting says."""
