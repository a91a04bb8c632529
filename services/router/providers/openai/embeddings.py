"""OpenAI's embeddings: the request by key, the answer checked, its vectors passed on as they are.

Pure. Source: OpenAI API reference, embeddings (read 2026-11).
"""

from typing import Final

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.plain import read_object
from services.router.providers.openai.usage import TOKENS_MAX, UPSTREAM, estimate
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.vectors import (
    FLOAT_BYTES,
    Wish,
    answer_of,
    decoded,
    entry_of,
    malformed,
    usage_json_of,
    wish_of,
)
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

_NULL: Final = msgspec.Raw(b"null")


class _Entry(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | float | None = None
    total_tokens: int | float | None = None


_entries: Final = msgspec.json.Decoder(list[_Entry])
_usage: Final = msgspec.json.Decoder(_Usage)


def encode_embeddings_request(call: Call, body: Body) -> bytes:
    """Return the request as the upstream gets it."""
    request: dict[str, object] = dict(body)
    request["model"] = call.adapter or call.upstream_model
    return msgspec.json.encode(request)


def read_embeddings(call: Call, body: Body, answer: bytes) -> Batch:
    """Return the only batch of an answer: as many vectors as inputs, in their order.

    They stay as they came, unless the upstream spelled them otherwise than it was asked to. Without
    usage `Finish.usage` is marked as an estimate, and `completion` has none.

    Raises:
        ProviderError: It is an error object, or not the vectors that were asked for.
    """
    wish = wish_of(body)
    found = read_object(answer)
    data = _data(found.get("data", _NULL), wish)
    tokens = _prompt_tokens(found.get("usage", _NULL))
    finish = router_pb2.Finish(usage=estimate(0))
    if tokens is not None:
        usage = usage_pb2.TokenUsage(prompt_token_count=tokens, source=UPSTREAM)
        finish = router_pb2.Finish(usage=usage, usage_json=usage_json_of(tokens))
    return Batch(completion=answer_of(call, data, finish.usage_json), finish=finish)


def _data(raw: msgspec.Raw, wish: Wish) -> msgspec.Raw | list[bytes]:
    try:
        entries = _entries.decode(raw)
    except JUNK:
        raise malformed() from None
    order = [place if e.index is None else e.index for place, e in enumerate(entries)]
    places = list(range(wish.count))
    if sorted(order) != places:
        raise malformed()
    spelled = [bytes(entry.embedding) for entry in entries]
    mark = b'"' if wish.is_base64 else b"["
    if order == places and all(one.startswith(mark) and b"\\" not in one for one in spelled):
        _check_lengths({_length(one) for one in spelled}, wish)
        return raw
    vectors = [decoded(one) for _, one in sorted(zip(order, spelled, strict=True))]
    _check_lengths({len(vector) // FLOAT_BYTES for vector in vectors}, wish)
    return [
        entry_of(index, vector, is_base64=wish.is_base64) for index, vector in enumerate(vectors)
    ]


def _length(spelled: bytes) -> int:
    """Return how many numbers a vector has, which is spelled without escapes."""
    if spelled.startswith(b"["):
        return spelled.count(b",") + 1 if len(spelled) > 2 else 0
    return (len(spelled) - 2) * 3 // 4 // FLOAT_BYTES


def _check_lengths(lengths: set[int], wish: Wish) -> None:
    is_as_long = not wish.dimension_count or lengths == {wish.dimension_count}
    if len(lengths) != 1 or 0 in lengths or not is_as_long:
        raise malformed()


def _prompt_tokens(raw: msgspec.Raw) -> int | None:
    if raw == _NULL:
        return None
    try:
        usage = _usage.decode(raw)
        tokens = usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    except JUNK:
        tokens = -1
    if tokens is None:
        return None
    if not 0 <= tokens <= TOKENS_MAX or tokens != int(tokens):
        raise ProviderError(Failure.INVALID_RESPONSE, "The upstream reported an impossible usage.")
    return int(tokens)
