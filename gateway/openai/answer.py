"""What dialects differ in: the end of a stream, and members that they add; pure."""

from typing import Final

import msgspec

from gateway.openai.dialect import Dialect, UsagePlacement
from turnpike.router.v1 import router_pb2

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"


def wants_null_usage(dialect: Dialect, *, include_usage: bool | None) -> bool:
    """Return whether every chunk carries `"usage":null`, as OpenAI's do when usage is asked for."""
    return include_usage is True and dialect.usage is not UsagePlacement.ALWAYS_FINISH_CHUNK


def last_events(
    finish: router_pb2.Finish, dialect: Dialect, *, include_usage: bool | None
) -> bytes:
    """Return the events that end a stream.

    Usage that was asked for comes in a chunk of its own without choices; usage that was not asked
    for rides on the finish chunk, because plain loops over `choices[0]` must survive it; and it
    never comes twice.
    """
    chunks = list(finish.finish_chunks)
    if wants_null_usage(dialect, include_usage=include_usage):
        chunks.append(finish.chunk_head.replace(b'"usage":null,', b"") + _lone(finish.usage_json))
    elif chunks and _rides(dialect, include_usage=include_usage):
        chunks[-1] = chunks[-1][:-1] + b',"usage":' + finish.usage_json + b"}"
    parts = [b"data: %b\n\n" % chunk for chunk in chunks]
    parts.append(DONE)
    return b"".join(parts)


_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_choices: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_EMPTY_MEMBERS: Final = {"system_fingerprint": "", "service_tier": ""}
_EMPTY_IN_MESSAGE: Final = {
    "tool_calls": msgspec.Raw(b"[]"),
    "reasoning_content": msgspec.Raw(b"null"),
}


def answer_defaults(dialect: Dialect, episode_id: str) -> bytes:
    """Return the members that an answer carries beside OpenAI's, a JSON object."""
    empty = _EMPTY_MEMBERS if dialect.has_empty_fields else {}
    return msgspec.json.encode({"episode_id": episode_id, **empty})


def filled(completion: bytes, defaults: bytes, *, has_empty_fields: bool) -> bytes:
    """Return a whole completion with the members that its upstream did not give."""
    answer = {**_fields(defaults), **_fields(completion)}
    if has_empty_fields:
        choices = _choices(answer["choices"])
        for choice in choices:
            message = {**_EMPTY_IN_MESSAGE, **_fields(choice["message"])}
            choice["message"] = msgspec.Raw(msgspec.json.encode(message))
        answer["choices"] = msgspec.Raw(msgspec.json.encode(choices))
    return msgspec.json.encode(answer)


def _rides(dialect: Dialect, *, include_usage: bool | None) -> bool:
    if dialect.usage is UsagePlacement.ALWAYS_FINISH_CHUNK:
        return include_usage is not False
    return include_usage is None and dialect.usage is UsagePlacement.FINISH_CHUNK


def _lone(usage_json: bytes) -> bytes:
    return b'"choices":[],"usage":' + usage_json + b"}"
