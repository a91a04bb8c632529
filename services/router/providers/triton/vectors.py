"""The tensors of embedding models on Triton; pure.

Two contracts. A plain one, whose names the owner may set: BYTES texts in, FP32 `[n, d]` out, and
if the model has it a count of each text's tokens. And that of the vLLM backend, one
`embedding_request` at a time, whose vector comes back as JSON in `text_output`; a model that has
this input is asked that way.

Source: KServe v2 `grpc_service.proto` (element forms of `raw_input_contents`), Triton's
`model_config.proto`, and triton-inference-server/vllm_backend `src/utils/request.py`, read 2026-11.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Failure, ProviderError
from services.router.providers.triton.wire import Ask, Outputs, Tensor, count_of, text_of
from services.router.providers.vectors import FLOAT_BYTES, decoded, malformed

BATCH_MAX: Final = 64
"""Texts in one call, also of a model that takes any number: its answer is read in one go."""

_VLLM_INPUT: Final = "embedding_request"
_VLLM_TOKENS: Final = "return_num_input_tokens"
_COUNTS: Final = {"INT32": "i", "UINT32": "I", "INT64": "q", "UINT64": "Q"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingTensors:
    """What an embedding model's tensors are called; `counts`, its tokens, if the model has it.

    `is_shortenable` says that the first numbers of a vector are a vector too.
    """

    text: str = "text"
    embedding: str = "embedding"
    counts: str = "num_input_tokens"
    is_shortenable: bool = False


class TensorLayout(msgspec.Struct):
    """One tensor of a model's configuration; `dims` are without the batch."""

    name: str
    data_type: str = ""
    dims: list[int] = []


class ModelLayout(msgspec.Struct, rename={"inputs": "input", "outputs": "output"}):
    """What of a model's configuration matters here; the JSON form is Triton's own."""

    inputs: list[TensorLayout]
    outputs: list[TensorLayout]
    max_batch_size: int = 0


class Plan(NamedTuple):
    """How a model is asked: `batch_max` texts in one call, `output_names` to ask for."""

    is_vllm: bool
    batch_max: int
    has_batch_dim: bool = False
    output_names: tuple[str, ...] = ()


class TextsAsk(NamedTuple):
    """One call of the plain contract."""

    input_name: str
    shape: list[int]
    texts: Sequence[str]
    output_names: tuple[str, ...]


class Output(NamedTuple):
    """One output tensor: its content is in row-major order, little-endian."""

    name: str
    datatype: str
    shape: Sequence[int]
    content: bytes


class Vectors(NamedTuple):
    """What one call gave: vectors in the order of its texts, and their tokens if it counts them."""

    vectors: list[bytes]
    token_count: int | None


def plan_of(layout: ModelLayout, tensors: EmbeddingTensors) -> Plan:
    """Return how a model is asked.

    Raises:
        ProviderError: INVALID_RESPONSE: it has not the tensors that are needed.
    """
    inputs = {tensor.name: tensor for tensor in layout.inputs}
    outputs = {tensor.name: tensor for tensor in layout.outputs}
    if _VLLM_INPUT in inputs:
        return Plan(is_vllm=True, batch_max=1)
    text, embedding = inputs.get(tensors.text), outputs.get(tensors.embedding)
    if text is None or text.data_type != "TYPE_STRING":
        raise _unfit(f"has no text input `{tensors.text}`")
    if embedding is None or embedding.data_type != "TYPE_FP32":
        raise _unfit(f"has no FP32 output `{tensors.embedding}`")
    names = [tensors.embedding]
    if tensors.counts in outputs:
        names.append(tensors.counts)
    batch_max = layout.max_batch_size
    if not batch_max:
        batch_max = 1 if text.dims == [1] else BATCH_MAX
    has_batch_dim = layout.max_batch_size > 0
    return Plan(
        is_vllm=False,
        batch_max=min(batch_max, BATCH_MAX),
        has_batch_dim=has_batch_dim,
        output_names=tuple(names),
    )


def texts_ask(texts: Sequence[str], plan: Plan, tensors: EmbeddingTensors) -> TextsAsk:
    """Return the call for some texts."""
    shape = [len(texts), 1] if plan.has_batch_dim else [len(texts)]
    return TextsAsk(tensors.text, shape, texts, plan.output_names)


def texts_content(texts: Sequence[str]) -> bytes:
    """Return texts as the content of a BYTES tensor: each behind its length, 4 bytes."""
    elements = [text.encode() for text in texts]
    return b"".join(len(data).to_bytes(4, "little") + data for data in elements)


def read_vectors(outputs: Sequence[Output], tensors: EmbeddingTensors, text_count: int) -> Vectors:
    """Return what a call of the plain contract gave.

    Raises:
        ProviderError: INVALID_RESPONSE: a tensor is not what the contract says.
    """
    found = {output.name: output for output in outputs}
    embedding = found.get(tensors.embedding)
    if embedding is None or embedding.datatype != "FP32":
        raise malformed()
    size = len(embedding.content) // text_count
    length = embedding.shape[-1] if embedding.shape else 0
    if length < 1 or size != length * FLOAT_BYTES or size * text_count != len(embedding.content):
        raise malformed()
    content = embedding.content
    vectors = [content[at : at + size] for at in range(0, len(content), size)]
    counts = found.get(tensors.counts)
    return Vectors(vectors, None if counts is None else _total(counts, text_count))


def vllm_ask(given: str | list[int], dimension_count: int) -> Ask:
    """Return the call for one text or its tokens, to the vLLM backend."""
    request: dict[str, object] = {"input": given}
    if dimension_count:
        request["pooling_params"] = {"dimensions": [dimension_count]}
    text = msgspec.json.encode(request).decode()
    return (
        Tensor(_VLLM_INPUT, "BYTES", (1,), (text,)),
        Tensor(_VLLM_TOKENS, "BOOL", (1,), (True,)),
    )


def read_vllm_vector(outputs: Outputs) -> Vectors:
    """Return what the vLLM backend gave.

    Raises:
        ProviderError: INVALID_RESPONSE: it is no vector.
    """
    text = text_of(outputs.get("text_output")).encode()
    if not text.startswith(b"["):
        raise malformed()
    count = outputs.get("num_input_tokens")
    return Vectors([decoded(text)], None if count is None else count_of(count))


def read_layout(data: bytes) -> ModelLayout:
    """Return a model's configuration from its JSON form.

    Raises:
        ProviderError: INVALID_RESPONSE: it is none.
    """
    try:
        return msgspec.json.decode(data, type=ModelLayout)
    except JUNK:
        raise _unfit("is not described by its server") from None


def _total(counts: Output, text_count: int) -> int:
    kind = _COUNTS.get(counts.datatype, "")
    try:
        numbers = struct.unpack(f"<{text_count}{kind}", counts.content) if kind else ()
    except struct.error:
        numbers = ()
    if not numbers or min(numbers) < 0:
        raise malformed()
    return sum(numbers)


def _unfit(what: str) -> ProviderError:
    return ProviderError(Failure.INVALID_RESPONSE, f"The embedding model {what}.")
