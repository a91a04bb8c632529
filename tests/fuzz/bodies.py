"""Requests that are answered, and how generated ones are mixed with them.

Most of what a schema allows is refused for how its fields belong together. So that a good share
gets as far as an upstream, three in four are a request that is answered with a few of the
generated fields in it; the rest stay as they were generated, but for the model.
"""

import zlib
from typing import Any, Final

from tests.fixtures.media import wav

_FUNCTION: Final = "turnpike::function_name::assistant"
CHAT_MODELS: Final = ("sea", "sea-vllm", "bare", "far", "sea:salt", _FUNCTION)
_USER: Final = {"role": "user", "content": "Why is the sea salty?"}
GOOD: Final[dict[str, dict[str, Any]]] = {
    "createChatCompletion": {"model": "sea", "messages": [_USER]},
    "createResponse": {"model": "sea", "input": "Why is the sea salty?"},
    "createMessage": {"model": "sea", "max_tokens": 64, "messages": [_USER]},
    "countMessageTokens": {"model": "sea", "messages": [_USER]},
    "explainRoute": {"model": "sea", "messages": [_USER]},
    "createCompletion": {"model": "writer", "prompt": "The sea is"},
    "createEmbeddings": {"model": "vectors", "input": ["salt", "water"]},
    "createImage": {"model": "painter", "prompt": "the sea"},
    "createSpeech": {"model": "speaker", "input": "The sea.", "voice": "alloy"},
    "createTranscription": {"model": "listener", "file": wav(1.5)},
}
"""By operation: the least that is answered."""

_MODEL_OF: Final = {"createChatCompletion", "createResponse", "createMessage"} | {
    "countMessageTokens",
    "explainRoute",
}
_FIELDS_MAX: Final = 4


def mixed(operation: str, body: Any) -> Any:
    """Return the body to send for a generated one; the same for the same."""
    if not isinstance(body, dict) or operation not in GOOD:
        return body
    number = zlib.crc32(repr(sorted(body.items(), key=str)).encode("utf-8", "backslashreplace"))
    number, way = divmod(number, 4)
    if way == 0:
        return {**body, "model": _model(operation, number)}
    number, count = divmod(number, _FIELDS_MAX)
    good = {**GOOD[operation], "model": _model(operation, number)}
    names = sorted(name for name in body if name != "model")
    start = number % (len(names) or 1)
    chosen = (names[start:] + names[:start])[:count]
    return {**good, **{name: body[name] for name in chosen}}


def named(name: str) -> str:
    """Return the model to ask for: half of the names are those of models."""
    number = zlib.crc32(name.encode("utf-8", "backslashreplace"))
    return name if number % 2 else CHAT_MODELS[number // 2 % len(CHAT_MODELS)]


def _model(operation: str, number: int) -> str:
    if operation in _MODEL_OF:
        return CHAT_MODELS[number % len(CHAT_MODELS)]
    return str(GOOD[operation]["model"])
