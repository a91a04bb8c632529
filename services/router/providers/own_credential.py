"""What a request shows in place of the provider's own key; pure."""

from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from services.router.providers.port import Failure, ProviderError

_OF_THE_OWNER: Final = frozenset(
    {
        "api-key",
        "authorization",
        "cookie",
        "openai-organization",
        "openai-project",
        "proxy-authorization",
        "x-api-key",
        "x-goog-api-key",
        "x-goog-user-project",
    }
)
"""Headers that say who pays at a provider: none goes along with a key of somebody else."""


def without_owner(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that say nothing about the provider's own account."""
    return {name: value for name, value in fields.items() if name.lower() not in _OF_THE_OWNER}


def as_bearer(fields: Mapping[str, str], credential: SecretStr) -> dict[str, str]:
    """Return the headers with an account's own key as the only credential."""
    shown = f"Bearer {credential.get_secret_value()}"
    return {**without_owner(fields), "authorization": shown}


def refuse_credential(credential: SecretStr | None) -> None:
    """Refuse to go on where an account's own key cannot be shown.

    Raises:
        ProviderError: UNSUPPORTED: the provider's own would be shown in its place.
    """
    if credential is not None:
        raise ProviderError(Failure.UNSUPPORTED, "This provider takes no key of a caller's own.")
