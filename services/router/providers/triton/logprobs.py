"""Log probabilities as vLLM tells them, brought to OpenAI's form; pure.

For each new token there is an object by token id. The first one is the token that was sampled,
whatever its rank is; the others are the likeliest.

Source: vllm-project/vllm `Logprob` and `RequestOutput`, triton-inference-server/vllm_backend
`src/model.py` (`logprobs`, read 2026-01); OpenAI API reference, `logprobs` (read 2026-11).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from services.router.providers.triton.wire import malformed

LEAST: Final = -9999.0
"""Stands for a token that cannot be: JSON has no infinity."""

_UNWRITTEN: Final = "\ufffd"


def logprob_entries(text: str, top_count: int) -> Iterator[bytes]:
    """Yield the entry of each token, as JSON.

    Args:
        text: What vLLM says: a JSON list, or null for nothing.
        top_count: How many of the likeliest tokens an entry has, at most.

    Raises:
        ProviderError: INVALID_RESPONSE: it is something else.
    """
    try:
        # Not msgspec, which does not read Python's `-Infinity`.
        found = json.loads(text)
        for tokens in found or ():
            yield _entry([_alternative(each) for each in tokens.values()], top_count)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, IndexError):
        raise malformed() from None


def _entry(alternatives: list[tuple[int, dict[str, object]]], top_count: int) -> bytes:
    sampled = alternatives[0][1]
    ranked = sorted(alternatives, key=lambda each: each[0])
    top = [entry for rank, entry in ranked if rank <= top_count][:top_count]
    return msgspec.json.encode({**sampled, "top_logprobs": top})


def _alternative(said: Mapping[str, Any]) -> tuple[int, dict[str, object]]:
    token = said["decoded_token"] or ""
    # A part of a character has no text, and its bytes are not told.
    data = None if _UNWRITTEN in token else list(token.encode())
    logprob = max(LEAST, float(said["logprob"]))
    rank = said["rank"]
    return 1 if rank is None else int(rank), {"token": token, "logprob": logprob, "bytes": data}
