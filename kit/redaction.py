"""Keeps secrets and contents out of logs: by the name of a field, and by value."""

from collections.abc import Mapping, MutableMapping
from typing import Any, Final

MASK: Final = "***"
DEPTH_MAX: Final = 6
SECRET_CHARS_MIN: Final = 8

HIDDEN_NAMES: Final = frozenset(
    {
        "api_key",
        "apikey",
        "authorization",
        "body",
        "completion",
        "content",
        "cookie",
        "input",
        "key",
        "messages",
        "output",
        "password",
        "pepper",
        "prompt",
        "secret",
        "text",
        "token",
    }
)
"""Field names whose values are never shown, in any case."""


class Redactor:
    """Masks values in log events.

    `register` makes a value secret wherever it turns up, also inside exception texts.
    """

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def register(self, value: str) -> None:
        """Hide a value from now on; short ones are left alone, they would mask half the log."""
        if len(value) >= SECRET_CHARS_MIN:
            self._secrets.add(value)

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Mask one event; a structlog processor."""
        for name, value in event.items():
            event[name] = MASK if name.lower() in HIDDEN_NAMES else self._clean(value, DEPTH_MAX)
        return event

    def _clean(self, value: Any, depth: int) -> Any:  # noqa: ANN401 - log values are anything
        if isinstance(value, str):
            return self._mask(value)
        if isinstance(value, int | float | bool | None):
            return value
        if depth == 0:
            return MASK
        if isinstance(value, Mapping):
            return {
                str(name): MASK
                if str(name).lower() in HIDDEN_NAMES
                else self._clean(item, depth - 1)
                for name, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(item, depth - 1) for item in value]
        return self._mask(str(value))

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
