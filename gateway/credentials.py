"""Who a request claims to be: exactly one credential, whose form can be checked offline."""

from collections.abc import Mapping
from typing import Final

from gateway.settings import GatewaySettings
from kit.errors import Reason, TurnpikeError
from kit.secrets import is_token

_BEARER: Final = "bearer "


class NoKeyError(TurnpikeError):
    """A request brings no API key; it may want to pay in another way."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.INVALID_API_KEY, message)


def credential(headers: Mapping[str, str]) -> str:
    """Return the key of `Authorization: Bearer` or `x-api-key`.

    Raises:
        NoKeyError: There is none.
        TurnpikeError: `BAD_REQUEST` when two different ones were sent.
    """
    key = _bearer(headers.get("Authorization", ""))
    other = headers.get("x-api-key")
    if other is not None:
        if key and key != other:
            raise TurnpikeError(
                Reason.BAD_REQUEST, "Two different credentials were sent; send one."
            )
        key = other
    if not key:
        raise NoKeyError("No API key was sent; send Authorization: Bearer <key>.")
    return key


def check_form(key: str, settings: GatewaySettings) -> None:
    """Refuse what cannot be a key, before anybody is asked.

    Raises:
        TurnpikeError: `INVALID_API_KEY`.
    """
    if not is_token(key, prefix=settings.key_prefix, foreign_prefixes=settings.imported_prefixes):
        raise TurnpikeError(Reason.INVALID_API_KEY, "The API key is not valid.")


def _bearer(value: str) -> str:
    if value[: len(_BEARER)].lower() == _BEARER:
        return value[len(_BEARER) :].strip()
    if value:
        raise NoKeyError("The Authorization header must be of the form Bearer <key>.")
    return ""
