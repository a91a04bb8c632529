"""OpenAI's embeddings as a client API; pure.

Source: OpenAI API reference, embeddings (read 2026-11).
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gateway.call import ModelCall, ReadRules
from gateway.openai.answer import answer_defaults
from gateway.openai.api import OpenAiApi
from gateway.openai.bodies import decode
from gateway.openai.fields import unknown_fields
from gateway.openai.figures import Whole, whole, wrong
from gateway.openai.routing import take_wishes, timeout_ms_of
from gateway.openai.schema import RoutedRequest
from gateway.openai.texts import Prompts, prompt_sizes
from turnpike.router.v1 import router_pb2

INPUTS_MAX: Final = 2048
DIMENSIONS_MAX: Final = 65_536


class EmbeddingsRequest(RoutedRequest, kw_only=True):
    """`POST /v1/embeddings`."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Whole | None = None
    user: str | None = None
    stream: bool | None = None


_KNOWN: Final = frozenset(EmbeddingsRequest.__struct_encode_fields__)
_decode = msgspec.json.Decoder(EmbeddingsRequest).decode


def read_embeddings(body: bytes, rules: ReadRules) -> ModelCall:
    """Check a body.

    Raises:
        TurnpikeError: `INVALID_JSON`, `MISSING_FIELD`, `INVALID_VALUE` or `UNSUPPORTED_PARAMETER`,
            with `param` naming the field.
    """
    request, fields = decode(body, _decode)
    unknown = unknown_fields(fields.keys(), _KNOWN, is_strict=rules.is_strict)
    if request.stream:
        raise wrong("stream", "Embeddings cannot be streamed.")
    fields.pop("stream", None)
    prompts = prompt_sizes("input", request.input, count_max=INPUTS_MAX, is_empty_allowed=False)
    if request.dimensions is not None:
        whole("dimensions", request.dimensions, 1, DIMENSIONS_MAX)
    episode_id, routing, ignored = take_wishes(request, fields, rules)
    return ModelCall(
        model=request.model,
        fields=fields,
        is_streaming=False,
        include_usage=None,
        asked_max_tokens=None,
        timeout_ms=timeout_ms_of(request, rules.timeout_max_ms),
        prompt_bytes=len(fields["input"]),
        operation=router_pb2.OPERATION_EMBEDDING,
        features=("dimensions",) if request.dimensions is not None else (),
        unknown_fields=unknown,
        ignored=ignored,
        prompts=prompts,
        routing=routing,
        episode_id=episode_id,
        answer_defaults=answer_defaults(rules.dialect, episode_id) if episode_id else b"",
    )


class EmbeddingsApi(OpenAiApi):
    """`POST /v1/embeddings`."""

    route: Final = "POST /v1/embeddings"

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body; see `Api.read`."""
        return read_embeddings(body, rules)


EMBEDDINGS: Final = EmbeddingsApi()
