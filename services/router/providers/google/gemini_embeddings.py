"""Vectors from Gemini's two embedding calls; pure.

AI Studio takes a batch of contents, Vertex AI instances to predict. Neither may cut a text short.
Source: Gemini API, batchEmbedContents; Vertex AI, text embeddings (read 2026-11).
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from services.router.providers.google.gemini_errors import google_error
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.usage import TOKENS_MAX, UPSTREAM, estimate
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.refusals import unsupported
from services.router.providers.unsaid import unsaid
from services.router.providers.vectors import (
    Wish,
    answer_of,
    entry_of,
    malformed,
    usage_json_of,
    wish_of,
)
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

_NULL: Final = msgspec.Raw(b"null")
_SAID: Final = frozenset({"input", "encoding_format", "dimensions"})


class _Values(msgspec.Struct):
    values: list[float]


class _BatchUsage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None


class _BatchAnswer(msgspec.Struct, rename="camel"):
    embeddings: list[_Values] = []
    usage_metadata: _BatchUsage | None = None
    error: msgspec.Raw = _NULL


class _Statistics(msgspec.Struct):
    token_count: int | float | None = None
    truncated: bool = False


class _Embeddings(msgspec.Struct):
    values: list[float]
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct):
    embeddings: _Embeddings


class _PredictAnswer(msgspec.Struct):
    predictions: list[_Prediction] = []
    error: msgspec.Raw = _NULL


_decode_batch: Final = msgspec.json.Decoder(_BatchAnswer).decode
_decode_predict: Final = msgspec.json.Decoder(_PredictAnswer).decode


def encode_batch(call: Call, body: Body, model: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a batch for AI Studio, and the fields that were left aside.

    Args:
        call: The attempt.
        body: The OpenAI request.
        model: The model's resource name, such as `models/gemini-embedding-001`.

    Raises:
        ProviderError: UNSUPPORTED: the input is tokens. REJECTED: it is no embeddings request.
    """
    del call
    ignored, wish = unsaid(body, _SAID), wish_of(body)
    more = {"outputDimensionality": wish.dimension_count} if wish.dimension_count else {}
    requests = [
        {"model": model, "content": {"parts": [{"text": text}]}, **more} for text in _texts(wish)
    ]
    return msgspec.json.encode({"requests": requests}), ignored


def encode_predict(call: Call, body: Body) -> tuple[bytes, tuple[str, ...]]:
    """Return instances for Vertex AI, and the fields that were left aside.

    Raises:
        ProviderError: UNSUPPORTED: the input is tokens. REJECTED: it is no embeddings request.
    """
    del call
    ignored, wish = unsaid(body, _SAID), wish_of(body)
    parameters: dict[str, Any] = {"autoTruncate": False}
    if wish.dimension_count:
        parameters["outputDimensionality"] = wish.dimension_count
    instances = [{"content": text} for text in _texts(wish)]
    return msgspec.json.encode({"instances": instances, "parameters": parameters}), ignored


def read_batch(call: Call, body: Body, answer: bytes) -> Batch:
    """Return the only batch of AI Studio's answer.

    Raises:
        ProviderError: It is an error object, or not the vectors that were asked for.
    """
    try:
        found = _decode_batch(answer)
    except JUNK:
        raise malformed() from None
    if found.error != _NULL:
        raise google_error(200, answer)
    usage = found.usage_metadata
    tokens = usage.prompt_token_count if usage is not None else None
    return _batch(call, wish_of(body), [one.values for one in found.embeddings], tokens)


def read_predict(call: Call, body: Body, answer: bytes) -> Batch:
    """Return the only batch of Vertex AI's answer.

    Raises:
        ProviderError: It is an error object, or not the vectors that were asked for.
    """
    try:
        found = _decode_predict(answer)
    except JUNK:
        raise malformed() from None
    if found.error != _NULL:
        raise google_error(200, answer)
    vectors = [one.embeddings for one in found.predictions]
    counts = [one.statistics.token_count if one.statistics else None for one in vectors]
    if any(one.statistics is not None and one.statistics.truncated for one in vectors):
        raise malformed()
    tokens: int | None = 0
    for count in counts:
        if count is None or count != int(count):
            tokens = None
            break
        tokens = (tokens or 0) + int(count)
    return _batch(call, wish_of(body), [one.values for one in vectors], tokens)


def _texts(wish: Wish) -> list[str]:
    texts = wish.texts
    if len(texts) != wish.count:
        raise unsupported("input", "must be texts for this deployment")
    return texts


def _batch(call: Call, wish: Wish, vectors: Sequence[Sequence[float]], tokens: int | None) -> Batch:
    lengths = {len(vector) for vector in vectors}
    is_as_long = not wish.dimension_count or lengths == {wish.dimension_count}
    if len(vectors) != wish.count or len(lengths) != 1 or not is_as_long:
        raise malformed()
    data = [
        entry_of(index, _packed(vector), is_base64=wish.is_base64)
        for index, vector in enumerate(vectors)
    ]
    finish = router_pb2.Finish(usage=estimate(0))
    if tokens is not None:
        if not 0 <= tokens <= TOKENS_MAX:
            raise ProviderError(
                Failure.INVALID_RESPONSE, "The upstream reported an impossible usage."
            )
        usage = usage_pb2.TokenUsage(prompt_token_count=tokens, source=UPSTREAM)
        finish = router_pb2.Finish(usage=usage, usage_json=usage_json_of(tokens))
    return Batch(completion=answer_of(call, data, finish.usage_json), finish=finish)


def _packed(vector: Sequence[float]) -> bytes:
    try:
        return struct.pack(f"<{len(vector)}f", *vector)
    except (OverflowError, struct.error):
        raise malformed() from None
