"""Reads what says by its `type` what it is, and names what is refused; pure."""

from collections.abc import Mapping
from typing import Final, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from gateway.openai.bodies import invalid
from gateway.openai.schema import decode_fields, encode
from gateway.responses.schema import Head, Piece
from kit.errors import Reason, TurnpikeError

_Kind = TypeVar("_Kind", bound=Piece)
Kinds: TypeAlias = Mapping[str, msgspec.json.Decoder[_Kind]]
_OFF: Final = (b"null", b"false")
_head: Final = msgspec.json.Decoder(Head)


def kinds(**structs: type[_Kind]) -> Kinds[_Kind]:
    """Return the decoders of what may stand in one place, by `type`."""
    return {name: msgspec.json.Decoder(struct) for name, struct in structs.items()}


def read_head(raw: Raw, path: str) -> Head:
    """Return what a piece says of itself.

    Raises:
        TurnpikeError: `INVALID_VALUE`: it is no object or its type is no text.
    """
    try:
        return _head.decode(raw)
    except msgspec.ValidationError as error:
        raise invalid(str(error), path) from error


def read_piece(raw: Raw, known: Kinds[_Kind], path: str, kind: str = "") -> _Kind:
    """Return a piece; `kind` is what it is taken for when it does not say.

    Raises:
        TurnpikeError: 400, with `param` inside `path`.
    """
    kind = read_head(raw, path).type or kind
    if not kind:
        name = f"{path}.type"
        raise TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    decoder = known.get(kind)
    if decoder is None:
        taken = ", ".join(known)
        raise unsupported(f"{path}.type", f"is not one of those that are served: {taken}")
    try:
        piece = decoder.decode(raw)
    except msgspec.ValidationError as error:
        if "unknown field" not in str(error):
            raise invalid(str(error), path) from error
        piece = _without_empty(raw, decoder, path)
    piece.type = kind
    return piece


def unsupported(param: str, what: str) -> TurnpikeError:
    """Return the refusal of what no route honours."""
    return TurnpikeError(Reason.UNSUPPORTED_PARAMETER, f"{param} {what}.", param=param)


def wrong(param: str, what: str) -> TurnpikeError:
    """Return the refusal of a value."""
    return TurnpikeError(Reason.INVALID_VALUE, f"{param} {what}.", param=param)


def missing(param: str) -> TurnpikeError:
    """Return the refusal of what lacks a field."""
    return TurnpikeError(Reason.MISSING_FIELD, f"{param} is required.", param=param)


def _without_empty(raw: Raw, decoder: msgspec.json.Decoder[_Kind], path: str) -> _Kind:
    """Read a piece without the unknown fields that ask for nothing."""
    known = decoder.type.__struct_fields__
    fields = {
        name: value
        for name, value in decode_fields(raw).items()
        if name in known or bytes(value) not in _OFF
    }
    try:
        return decoder.decode(encode(fields))
    except msgspec.ValidationError as error:
        raise invalid(str(error), path) from error
