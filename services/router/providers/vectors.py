"""Vectors of an embeddings answer: what is asked of them, and their two spellings; pure.

A vector is little-endian FP32 bytes. Source: OpenAI API reference, embeddings (read 2026-11).
"""

import math
import struct
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Final

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body, Call, Failure, ProviderError
from services.router.providers.refusals import rejected

FLOAT_BYTES: Final = 4
ANSWER_BYTES_MAX: Final = 24 * 1024 * 1024
"""Longest answer: what a message between rooms can carry, with room to spare."""

_NULL: Final = msgspec.Raw(b"null")


class Wish(msgspec.Struct, frozen=True):
    """What a request says about its vectors; None leaves a member to the model."""

    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | float | None = None

    @property
    def is_base64(self) -> bool:
        """Whether each vector is one text."""
        return self.encoding_format == "base64"

    @property
    def dimension_count(self) -> int:
        """How long each vector must be; 0 leaves it to the model."""
        return int(self.dimensions or 0)

    @property
    def texts(self) -> list[str]:
        """The inputs, if they are texts; empty when they came as tokens."""
        inputs = [self.input] if isinstance(self.input, str) else self.input
        return [text for text in inputs if isinstance(text, str)]

    @property
    def count(self) -> int:
        """How many vectors are asked for."""
        if isinstance(self.input, str) or (self.input and isinstance(self.input[0], int)):
            return 1
        return len(self.input)


def wish_of(body: Body) -> Wish:
    """Return what a request asks for.

    Raises:
        ProviderError: REJECTED: it is no embeddings request.
    """
    members = {name: body[name] for name in Wish.__struct_fields__ if name in body}
    try:
        return msgspec.json.decode(msgspec.json.encode(members), type=Wish)
    except JUNK:
        raise ProviderError(
            Failure.REJECTED, "The input does not have the expected form.", param="input"
        ) from None


def encoded(vector: bytes, *, is_base64: bool) -> object:
    """Return a vector as it stands in an answer.

    Raises:
        ProviderError: INVALID_RESPONSE: it is no vector of finite numbers.
    """
    try:
        numbers = struct.unpack(f"<{len(vector) // FLOAT_BYTES}f", vector)
    except struct.error:
        numbers = ()
    # One check for all of them: whatever is not finite makes the sum so.
    if not numbers or not math.isfinite(sum(numbers)):
        raise malformed()
    return b64encode(vector).decode() if is_base64 else numbers


def decoded(raw: bytes) -> bytes:
    """Return the vector of one entry of an answer, from either spelling.

    Raises:
        ProviderError: INVALID_RESPONSE: it has neither.
    """
    try:
        found = msgspec.json.decode(raw, type=str | list[float])
        if isinstance(found, str):
            return b64decode(found, validate=True)
        return struct.pack(f"<{len(found)}f", *found)
    except (Base64Error, OverflowError, struct.error, *JUNK):
        raise malformed() from None


def shortened(vector: bytes, dimension_count: int) -> bytes:
    """Return the first numbers of a vector, scaled to length one.

    Raises:
        ProviderError: REJECTED: it has fewer numbers than that.
    """
    length = len(vector) // FLOAT_BYTES
    if dimension_count > length:
        raise rejected("dimensions", f"is {dimension_count}; the model's vectors have {length}")
    numbers = struct.unpack_from(f"<{dimension_count}f", vector)
    norm = math.sqrt(sum(number * number for number in numbers))
    return struct.pack(f"<{dimension_count}f", *(number / (norm or 1.0) for number in numbers))


def answer_of(call: Call, data: Sequence[bytes] | msgspec.Raw, usage_json: bytes) -> bytes:
    """Return the body of an answer; without usage when `usage_json` is empty, and then `}` last.

    Args:
        call: The attempt.
        data: The entries, each as JSON; or all of them as one JSON array.
        usage_json: The usage object.

    Raises:
        ProviderError: REJECTED: it is longer than `ANSWER_BYTES_MAX`.
    """
    entries = bytes(data) if isinstance(data, msgspec.Raw) else b"[%b]" % b",".join(data)
    if len(entries) > ANSWER_BYTES_MAX:
        raise too_long()
    model = msgspec.json.encode(call.model_id)
    usage = b',"usage":' + usage_json if usage_json else b""
    return b'{"object":"list","data":%b,"model":%b%b}' % (entries, model, usage)


def entry_of(index: int, vector: bytes, *, is_base64: bool) -> bytes:
    """Return one entry of an answer's data.

    Raises:
        ProviderError: See `encoded`.
    """
    value = encoded(vector, is_base64=is_base64)
    return msgspec.json.encode({"object": "embedding", "index": index, "embedding": value})


def usage_json_of(prompt_tokens: int) -> bytes:
    """Return the usage object: nothing is generated, so there is only a prompt."""
    return b'{"prompt_tokens":%d,"total_tokens":%d}' % (prompt_tokens, prompt_tokens)


def malformed() -> ProviderError:
    """Return the failure of an answer that is not the vectors that were asked for."""
    return ProviderError(
        Failure.INVALID_RESPONSE, "The upstream's answer is not the vectors that were asked for."
    )


def too_long() -> ProviderError:
    """Return the refusal of a request whose vectors are more than can be carried."""
    return ProviderError(
        Failure.REJECTED,
        f"The vectors are longer than {ANSWER_BYTES_MAX} bytes together; send fewer inputs.",
        status=400,
        param="input",
    )
