"""OpenAI's embeddings as a client API; pure.

Source: OpenAI API reference, embeddings (read 2026-11).
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gateway.call import ModelCall, ReadRules
from gateway.openai.api import OpenAiApi
from gateway.openai.bodies import decode
from gateway.openai.figures import whole, wrong
from gateway.openai.schema import Whole
from gateway.openai.texts import Prompts, checked_timeout_ms, prompt_sizes, unknown_fields
from turnpike.router.v1 import router_pb2

INPUTS_MAX: Final = 2048
DIMENSIONS_MAX: Final = 65_536


class EmbeddingsRequest(msgspec.Struct):
    """`POST /v1/embeddings`."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Whole | None = None
    user: str | None = None
    stream: bool | None = None
    timeout_ms: Whole | None = None


_KNOWN: Final = frozenset(EmbeddingsRequest.__struct_fields__)
_decode = msgspec.json.Decoder(EmbeddingsRequest).decode


def read_embeddings(body: bytes, rules: ReadRules) -> ModelCall:
    """Check a body.

    Raises:
        TurnpikeError: `INVALID_JSON`, `MISSING_FIELD`, `INVALID_VALUE` or `UNSUPPORTED_PARAMETER`,
            with `param` naming the field.
    """
    request, fields = decode(body, _decode)
    unknown = unknown_fields(fields, _KNOWN, rules)
    if request.stream:
        raise wrong("stream", "Embeddings cannot be streamed.")
    fields.pop("stream", None)
    prompts = prompt_sizes("input", request.input, count_max=INPUTS_MAX, is_empty_allowed=False)
    if request.dimensions is not None:
        whole("dimensions", request.dimensions, 1, DIMENSIONS_MAX)
    return ModelCall(
        model=request.model,
        fields=fields,
        is_streaming=False,
        include_usage=None,
        asked_max_tokens=None,
        timeout_ms=checked_timeout_ms(request.timeout_ms, rules),
        prompt_bytes=len(fields["input"]),
        operation=router_pb2.OPERATION_EMBEDDING,
        features=("dimensions",) if request.dimensions is not None else (),
        unknown_fields=unknown,
        prompts=prompts,
    )


class EmbeddingsApi(OpenAiApi):
    """`POST /v1/embeddings`."""

    route: Final = "POST /v1/embeddings"

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body; see `Api.read`."""
        return read_embeddings(body, rules)


EMBEDDINGS: Final = EmbeddingsApi()
