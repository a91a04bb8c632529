"""Keeps secrets and contents out of logs: by the name of a field, by value, and by form."""

import re
from collections.abc import Mapping, MutableMapping
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

MASK: Final = "***"
DEPTH_MAX: Final = 6
ITEMS_MAX: Final = 200
TEXT_LENGTH_MAX: Final = 4_096
SECRET_CHARS_MIN: Final = 6

HIDDEN_NAMES: Final = frozenset(
    {
        "api_key",
        "apikey",
        "authorization",
        "body",
        "completion",
        "content",
        "cookie",
        "credential",
        "credentials",
        "input",
        "key",
        "messages",
        "output",
        "passphrase",
        "password",
        "pepper",
        "private_key",
        "prompt",
        "secret",
        "text",
        "token",
    }
)
"""Field names whose values are never shown; case and `-` or `_` make no difference."""

_HIDDEN_ENDS: Final = (
    "_api_key",
    "_authorization",
    "_content",
    "_cookie",
    "_messages",
    "_password",
    "_private_key",
    "_prompt",
    "_secret",
    "_token",
)
# Credentials that nobody registered: what follows a scheme, and keys in the usual form.
_FORMS: Final = re.compile(r"(?<=Bearer )\S+|(?<=Basic )\S+|\b(?:sk|rk|pk|whsec)[-_][\w-]{12,}")
_SHOWN_AS_TEXT: Final = (PurePath, UUID, Decimal, date)


class Redactor:
    """Masks values in log events.

    `register` makes a value secret wherever it turns up as text.
    """

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def register(self, value: str) -> None:
        """Hide a value from now on, also as part of a URL.

        A very short one is left alone: it would mask half the log and is no secret.
        """
        if len(value) >= SECRET_CHARS_MIN:
            known = {*self._secrets, value, quote(value, safe="")}
            # A secret that holds another one goes first, else its rest would stay.
            self._secrets = tuple(sorted(known, key=len, reverse=True))

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Mask one event and leave only what JSON knows in it; a structlog processor."""
        for name, value in event.items():
            if not name.startswith("_"):
                event[name] = MASK if is_hidden(name) else self._clean(value, DEPTH_MAX)
        return event

    def mask(self, text: str) -> str:
        """Return a text without registered secrets and credentials, cut to a bounded length."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        text = _FORMS.sub(MASK, text)
        return text if len(text) <= TEXT_LENGTH_MAX else text[:TEXT_LENGTH_MAX] + "..."

    def _clean(self, value: Any, depth: int) -> Any:  # noqa: ANN401 - log values are anything
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, str):
            return self.mask(value)
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, _SHOWN_AS_TEXT):
            return self.mask(str(value))
        if depth and isinstance(value, Mapping):
            return self._clean_mapping(value, depth)
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._clean(item, depth - 1) for item in list(value)[:ITEMS_MAX]]
        # What an unknown object says of itself may be a prompt or a key.
        return f"<{type(value).__name__}>"

    def _clean_mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for name, item in list(value.items())[:ITEMS_MAX]:
            shown = self.mask(str(name))
            cleaned[shown] = MASK if is_hidden(shown) else self._clean(item, depth - 1)
        return cleaned


def is_hidden(name: str) -> bool:
    """Return whether a field of this name is never shown."""
    plain = name.lower().replace("-", "_")
    return plain in HIDDEN_NAMES or plain.endswith(_HIDDEN_ENDS)
