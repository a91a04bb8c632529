"""What every JSON body of a client API goes through; pure."""

import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from gateway.openai.dialect import Dialect
from gateway.openai.schema import decode_fields, encode
from kit.errors import Reason, TurnpikeError

_AT: Final = re.compile(r" - at `\$\.?(.*)`$")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_UNKNOWN: Final = re.compile(r"contains unknown field `([^`]*)`")
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NULL: Final = msgspec.Raw(b"null")
_T = TypeVar("_T")


def decode(body: bytes, decoder: Callable[[bytes], _T]) -> tuple[_T, dict[str, msgspec.Raw]]:
    """Return a body as the request that `decoder` makes of it, and split at its top level.

    Raises:
        TurnpikeError: As `parse_json`.
    """
    try:
        if not body.isascii():
            # msgspec does not look into text that it carries along unread.
            body.decode()
        return decoder(body), decode_fields(body)
    except _UNREADABLE as error:
        raise _unreadable(error) from error


def parse_json(body: bytes, decoder: Callable[[bytes], _T]) -> _T:
    """Return what a body decodes to.

    Raises:
        TurnpikeError: `INVALID_JSON`, or what `invalid` makes of a wrong value.
    """
    try:
        if not body.isascii():
            body.decode()
        return decoder(body)
    except _UNREADABLE as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> TurnpikeError:
    if isinstance(error, msgspec.ValidationError):
        return invalid(str(error))
    if isinstance(error, RecursionError):
        return TurnpikeError(Reason.INVALID_JSON, "The body is nested too deeply.")
    return TurnpikeError(Reason.INVALID_JSON, "The body is not valid JSON.")


def invalid(text: str, within: str = "") -> TurnpikeError:
    """Return the refusal that msgspec's `text` amounts to; `within` is the path of what it read."""
    at = _AT.search(text)
    path = ".".join(filter(None, (within, at[1] if at else ""))).replace(".[", "[")
    what = text[: at.start()] if at else text
    prefix = f"{path}." if path else ""
    if missing := _MISSING.search(what):
        name = prefix + missing[1]
        return TurnpikeError(Reason.MISSING_FIELD, f"{name} is required.", param=name)
    if unknown := _UNKNOWN.search(what):
        name = prefix + unknown[1]
        return TurnpikeError(Reason.UNSUPPORTED_PARAMETER, f"{name} is not supported.", param=name)
    if not path:
        return TurnpikeError(Reason.INVALID_VALUE, f"The body is wrong: {what}.")
    return TurnpikeError(Reason.INVALID_VALUE, f"{path} is wrong: {what}.", param=path)


def apply_defaults(fields: dict[str, msgspec.Raw], dialect: Dialect) -> None:
    """Give a body the sampling parameters that its dialect has and it does not."""
    if dialect.temperature is not None and fields.get("temperature", _NULL) == _NULL:
        fields["temperature"] = msgspec.Raw(encode(dialect.temperature))
    if dialect.top_p is not None and fields.get("top_p", _NULL) == _NULL:
        fields["top_p"] = msgspec.Raw(encode(dialect.top_p))
