"""Triton's tensors as bytes and as JSON, whatever they mean; pure.

A model's own description says of which type and rank each tensor is; nothing is assumed.

Source: KServe v2 `grpc_service.proto` (element forms of `raw_input_contents`) and
triton-inference-server/server `docs/protocol/extension_generate.md`, read 2026-01.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from services.router.providers.port import Failure, ProviderError

Value: TypeAlias = str | bool | int | float
Outputs: TypeAlias = Mapping[str, object]
"""One response: by name the value of a tensor that has one element, the list of any other's."""

_FORMATS: Final = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
INTEGERS: Final = frozenset(name for name in _FORMATS if "INT" in name)
"""Datatypes of whole numbers."""

_FLOATS: Final = frozenset({"FP32", "FP64"})
_LENGTH_BYTES: Final = 4


class Spec(NamedTuple):
    """Type and rank of one tensor, as the model describes it."""

    datatype: str
    rank: int = 1


class ModelSettings(NamedTuple):
    """What a model's configuration says, where the server shows it.

    `is_decoupled` tells that it may give several responses to one request.
    """

    parameters: Mapping[str, str] = {}
    is_decoupled: bool = True


class Signature(NamedTuple):
    """The tensors of one model by name."""

    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]
    settings: ModelSettings = ModelSettings()


class Tensor(NamedTuple):
    """One input; the leading dimensions are 1, the last one has its elements."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[Value, ...]


Ask: TypeAlias = tuple[Tensor, ...]
"""The inputs of one request."""


def tensor(name: str, spec: Spec, values: Sequence[Value]) -> Tensor:
    """Return an input of the type and rank that the model wants.

    Raises:
        ValueError: A value cannot be said in that type.
    """
    given = tuple(_fitted(spec.datatype, value) for value in values)
    if spec.rank < 1 and len(given) != 1:
        raise ValueError("a scalar has one value")
    shape = (*(1 for _ in range(spec.rank - 1)), len(given))[: spec.rank]
    return Tensor(name, spec.datatype, shape, given)


def content(given: Tensor) -> bytes:
    """Return the elements of an input as `raw_input_contents` has them."""
    if given.datatype == "BYTES":
        return b"".join(_element(str(value)) for value in given.values)
    return struct.pack(f"<{len(given.values)}{_FORMATS[given.datatype]}", *given.values)


def json_body(request: Ask) -> bytes:
    """Return the inputs as the body of `generate_stream`."""
    return msgspec.json.encode(
        {each.name: each.values[0] if len(each.values) == 1 else each.values for each in request}
    )


def read_raw(layout: Iterable[tuple[str, str]], contents: Sequence[bytes]) -> Outputs | None:
    """Return what one response holds; None for an empty final response.

    Args:
        layout: Name and datatype of each output; those of unknown types are left out.
        contents: Their `raw_output_contents`, in the same order.

    Raises:
        ProviderError: INVALID_RESPONSE: a tensor is not what its datatype says.
    """
    if not contents:
        return None
    found: dict[str, object] = {}
    try:
        for (name, datatype), raw in zip(layout, contents, strict=True):
            if datatype == "BYTES":
                values: Sequence[object] = _texts(raw)
            elif datatype in _FORMATS:
                count = len(raw) // struct.calcsize(f"<{_FORMATS[datatype]}")
                values = struct.unpack(f"<{count}{_FORMATS[datatype]}", raw)
            else:
                continue
            found[name] = values[0] if len(values) == 1 else list(values)
    except (ValueError, struct.error):
        raise malformed() from None
    return found


def read_event(data: bytes) -> Outputs:
    """Return what one event of `generate_stream` holds; a failure has only an `error`.

    Raises:
        ProviderError: INVALID_RESPONSE: it is not what the protocol says.
    """
    try:
        return _event(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise malformed() from None


_event: Final = msgspec.json.Decoder(dict[str, object]).decode


def elements(outputs: Outputs, name: str, count: int) -> list[object] | None:
    """Return the elements of an output, None when it did not come.

    Raises:
        ProviderError: INVALID_RESPONSE: there are not `count` of them.
    """
    value = outputs.get(name)
    if value is None:
        return None
    found = value if isinstance(value, list) else [value]
    if len(found) != count:
        raise malformed()
    return found


def text_of(value: object) -> str:
    """Return an element that is text.

    Raises:
        ProviderError: INVALID_RESPONSE: it is not.
    """
    if not isinstance(value, str):
        raise malformed()
    return value


def count_of(value: object) -> int:
    """Return an element that is a count.

    Raises:
        ProviderError: INVALID_RESPONSE: it is not.
    """
    if not isinstance(value, int) or value < 0:
        raise malformed()
    return int(value)


def malformed() -> ProviderError:
    """Return the failure of a response whose tensors are not those of the contract."""
    return ProviderError(
        Failure.INVALID_RESPONSE, "The model's answer does not have the expected tensors."
    )


def _fitted(datatype: str, value: Value) -> Value:
    if isinstance(value, str):
        is_fit = datatype == "BYTES"
    elif isinstance(value, bool):
        is_fit = datatype == "BOOL"
    elif datatype in INTEGERS:
        is_fit = isinstance(value, int) or value.is_integer()
        value = int(value) if is_fit else value
    else:
        is_fit = datatype in _FLOATS
    if not is_fit:
        raise ValueError(f"no {datatype}")
    if datatype in _FORMATS:
        try:
            struct.pack(f"<{_FORMATS[datatype]}", value)
        except (struct.error, OverflowError):
            raise ValueError(f"out of the range of {datatype}") from None
    return value


def _element(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def _texts(raw: bytes) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw):
            raise ValueError("an element is cut")
        found.append(raw[start:at].decode(errors="replace"))
    return found
