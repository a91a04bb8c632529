"""Which fields of a request an upstream is told, for upstreams with a format of their own; pure.

A semantic parameter that cannot be said is refused, unless its value asks for nothing; everything
else that is not said is named to the caller.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from services.router.capabilities import FEATURES, param_of
from services.router.providers.port import Failure, ProviderError

FRAME: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
    | {"timeout_ms"}
)
"""What every codec says, or has been heeded before."""

_SEMANTIC: Final = frozenset(map(param_of, FEATURES)) - FRAME
_NOTHING: Final = frozenset({b"null", b"[]", b"{}", b'""', b"false", b"0", b"0.0"})
_ONE: Final = frozenset({b"null", b"1", b"1.0"})
_AT_WILL: Final = frozenset({b"null", b'"auto"', b'"none"'})
_USUAL: Final = frozenset({b"null", b"true"})
_HARMLESS: Final[Mapping[str, frozenset[bytes]]] = {
    "n": _ONE,
    "best_of": _ONE,
    "repetition_penalty": _ONE,
    "tool_choice": _AT_WILL,
    "function_call": _AT_WILL,
    "parallel_tool_calls": _USUAL,
    "skip_special_tokens": _USUAL,
    "modalities": frozenset({b"null", b"[]", b'["text"]'}),
    "top_k": frozenset({b"null", b"0", b"-1"}),
}


def check_said(body: Mapping[str, msgspec.Raw], said: frozenset[str]) -> None:
    """Refuse a request with a semantic parameter that is not among those that are said.

    Raises:
        ProviderError: UNSUPPORTED, with `param`.
    """
    for name in sorted(_SEMANTIC.intersection(body) - said):
        if bytes(body[name]) not in _HARMLESS.get(name, _NOTHING):
            raise unsupported_field(name)


def unsaid(body: Mapping[str, msgspec.Raw], said: frozenset[str]) -> list[str]:
    """Return the fields that are left aside, for the caller to know."""
    return sorted(
        name
        for name, raw in body.items()
        if name not in said
        and name not in _SEMANTIC
        and name not in FRAME
        and bytes(raw) != b"null"
    )


def unsupported_field(name: str) -> ProviderError:
    """Return the refusal of a field that this deployment cannot be told."""
    return ProviderError(
        Failure.UNSUPPORTED, f"{name} is not supported by this deployment.", status=400, param=name
    )
