"""A text completion as Triton's vLLM backend can run it: one prompt, as text; pure."""

from typing import Final

import msgspec

from services.router.providers.port import Body, Call, Failure, ProviderError

OWN_FIELDS: Final = frozenset({"prompt", "echo"})
"""Request fields that chat has not and that are honoured here."""

_prompt: Final = msgspec.json.Decoder(str | list[str])


def single_prompt(body: Body) -> str:
    """Return the prompt.

    Raises:
        ProviderError: UNSUPPORTED: there are several, or it came as tokens.
    """
    found: str | list[str]
    try:
        found = _prompt.decode(body.get("prompt", b""))
    except msgspec.DecodeError:
        found = []
    if isinstance(found, list):
        if len(found) != 1:
            raise ProviderError(
                Failure.UNSUPPORTED,
                "This deployment takes one prompt at a time, and only as text.",
                status=400,
                param="prompt",
            )
        return found[0]
    return found


def is_echoed(call: Call, body: Body) -> bool:
    """Return whether the answer of a text completion begins with its prompt."""
    return bool(call.operation) and bytes(body.get("echo", b"")) == b"true"
