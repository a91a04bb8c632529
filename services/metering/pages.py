"""Page tokens and page sizes of listings; pure.

A token is the key of the last entry that was shown, as JSON in base64 for URLs. It names nothing
that its holder has not seen.
"""

import base64
from typing import Final

import msgspec

from kit.errors import Reason, TurnpikeError

_TOKEN_LENGTH_MAX: Final = 2_048
_INT64_MAX: Final = 2**63 - 1


def encode_token(kind: str, *key: int | str) -> str:
    """Return the token that goes on after `key` in listings of this kind."""
    text = base64.urlsafe_b64encode(msgspec.json.encode([kind, *key]))
    return text.rstrip(b"=").decode()


def decode_token(token: str, kind: str, *types: type[int] | type[str]) -> tuple[int | str, ...]:
    """Return the key in a token.

    Raises:
        TurnpikeError: INVALID_VALUE; it was not made by `encode_token` for this kind and types.
    """
    if len(token) > _TOKEN_LENGTH_MAX:
        raise _bad_token()
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        found, *key = msgspec.json.decode(text, type=list[int | str])
    except (ValueError, msgspec.DecodeError) as error:
        raise _bad_token() from error
    if found != kind or [type(part) for part in key] != list(types):
        raise _bad_token()
    if not all(_is_storable(part) for part in key):
        raise _bad_token()
    return tuple(key)


def page_size(asked: int, *, default: int, size_max: int) -> int:
    """Return how many entries a page has; 0 asks for the default.

    Raises:
        TurnpikeError: INVALID_VALUE.
    """
    if not 0 <= asked <= size_max:
        message = f"page_size is {asked}; 1 to {size_max} is allowed."
        raise TurnpikeError(Reason.INVALID_VALUE, message, param="page_size")
    return asked or default


def _is_storable(part: int | str) -> bool:
    return abs(part) <= _INT64_MAX if isinstance(part, int) else part.isprintable()


def _bad_token() -> TurnpikeError:
    message = "page_token is not one that this listing gave; start with an empty one."
    return TurnpikeError(Reason.INVALID_VALUE, message, param="page_token")
