"""What containers on SageMaker speak: OpenAI's API, or vectors of texts; pure.

Source: vLLM `entrypoints/sagemaker`; SageMaker JumpStart, text embedding models; Hugging Face
text-embeddings-inference, `/embed` (read 2026-11).
"""

import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from services.router.providers.fetch import ImageUrl
from services.router.providers.openai.content import PROMPT_FIELDS, ignored_prompt_fields
from services.router.providers.openai.embeddings import encode_embeddings_request, read_embeddings
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import StreamForwarder
from services.router.providers.openai.plain import read_completion
from services.router.providers.openai.request import choice_count, encode_request
from services.router.providers.openai.texts import (
    TextForwarder,
    read_text_completion,
    text_choice_count,
)
from services.router.providers.openai.usage import estimate
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.refusals import unsupported
from services.router.providers.translated import Translator
from services.router.providers.unsaid import unsaid
from services.router.providers.vectors import answer_of, entry_of, malformed, wish_of
from turnpike.router.v1 import router_pb2

_EMBEDDING: Final = router_pb2.OPERATION_EMBEDDING
_TEXT: Final = (router_pb2.OPERATION_UNSPECIFIED, router_pb2.OPERATION_COMPLETION)
_EMBEDDING_FIELDS: Final = frozenset({"input", "encoding_format", "dimensions"})
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Written(NamedTuple):
    """A request's body, and the names of fields that were left aside."""

    body: bytes
    ignored: tuple[str, ...] = ()


class ContainerBody(Protocol):
    """What one kind of container takes and answers."""

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return the images that have to be fetched before `write`."""

    def write(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Written:
        """Return the request.

        Raises:
            ProviderError: UNSUPPORTED or REJECTED, with `param`.
        """

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer.

        Raises:
            ProviderError: It makes no sense, or is an error.
        """

    def translator(self, call: Call, body: Body) -> Translator:
        """Return what reads the container's own stream, as server-sent events."""


class OpenAiBody:
    """A container that speaks OpenAI's API: vLLM, SGLang, TGI's messages, LMI's chat."""

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return none: the container fetches them itself."""
        del body
        return []

    def write(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Written:
        """Return the request, which names no model: the endpoint has one."""
        del fetched
        if call.operation == _EMBEDDING:
            request = encode_embeddings_request(call, body)
        elif call.operation in _TEXT:
            request = encode_request(call, body, max_tokens_field="max_tokens")
        else:
            raise not_served()
        ignored = () if PROMPT_FIELDS.isdisjoint(body) else ignored_prompt_fields(call, body)
        if not call.adapter:
            fields = _fields.decode(request)
            del fields["model"]
            request = msgspec.json.encode(fields)
        return Written(request, tuple(ignored))

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of a whole answer."""
        if call.operation == _EMBEDDING:
            return read_embeddings(call, body, answer)
        if call.operation:
            return read_text_completion(call, body, answer)
        return read_completion(call, answer, choice_count=choice_count(body))

    def translator(self, call: Call, body: Body) -> Translator:
        """Return what reads the container's own stream."""
        if call.operation:
            return TextForwarder(call, choice_count=text_choice_count(body))
        return StreamForwarder(
            call, choice_count=choice_count(body), has_logprobs="logprobs" in body
        )


class EmbeddingBody:
    """A container that makes vectors of texts; `field` is how it calls those."""

    def __init__(self, field: str) -> None:
        self._field = field

    def remote_images(self, body: Body) -> list[ImageUrl]:
        """Return none."""
        del body
        return []

    def write(self, call: Call, body: Body, fetched: Mapping[str, tuple[str, bytes]]) -> Written:
        """Return the request."""
        del fetched
        if call.operation != _EMBEDDING:
            raise not_served()
        wish = wish_of(body)
        if len(wish.texts) != wish.count:
            raise unsupported("input", "as tokens is not supported by this deployment")
        if wish.dimension_count:
            raise unsupported("dimensions")
        ignored = unsaid(body, _EMBEDDING_FIELDS)
        return Written(msgspec.json.encode({self._field: wish.texts}), ignored)

    def read(self, call: Call, body: Body, answer: bytes) -> Batch:
        """Return the only batch of an answer; nobody counts its tokens."""
        wish = wish_of(body)
        vectors = _read_vectors(answer)
        if len(vectors) != wish.count or len({len(vector) for vector in vectors}) != 1:
            raise malformed()
        data = [
            entry_of(index, _packed(vector), is_base64=wish.is_base64)
            for index, vector in enumerate(vectors)
        ]
        finish = router_pb2.Finish(usage=estimate(0))
        return Batch(completion=answer_of(call, data, b""), finish=finish)

    def translator(self, call: Call, body: Body) -> Translator:
        """Refuse: vectors are not streamed."""
        del call, body
        raise not_served()


def not_served() -> ProviderError:
    """Return the refusal of something else than the container does."""
    return ProviderError(Failure.UNSUPPORTED, "The deployment does not serve this.")


def _read_vectors(answer: bytes) -> list[list[float]]:
    """Return the vectors of an answer, which are bare or in a member."""
    try:
        found: Any = msgspec.json.decode(answer)
        if isinstance(found, dict):
            found = found.get("embedding", found.get("embeddings"))
        if isinstance(found, list) and found and isinstance(found[0], int | float):
            found = [found]
        return msgspec.convert(found, list[list[float]])
    except JUNK:
        raise malformed() from None


def _packed(vector: list[float]) -> bytes:
    try:
        return struct.pack(f"<{len(vector)}f", *vector)
    except (OverflowError, struct.error):
        raise malformed() from None
