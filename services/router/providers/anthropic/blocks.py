"""A conversation as the Messages API wants it: turns of content blocks; pure.

The results of tools stand first in their turn. White space alone is no text there: such a piece is
left out, and a turn that is left with nothing as well. Thoughts go back only with the signature of
their maker. Source: Anthropic API reference, `Messages`, and the pages on tool use, vision, PDF
documents, prompt caching and extended thinking (read 2026-11).
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.refusals import unsupported
from services.router.providers.turns import (
    Dialogue,
    File,
    Image,
    Part,
    Reasoning,
    Text,
    ToolResult,
    ToolUse,
    Turn,
)

REASONING_FORMAT: Final = "anthropic-claude-v1"
"""What entries of `reasoning_details` that are Claude's say of themselves."""

_OURS: Final = ("", REASONING_FORMAT)
_CALL_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PDF: Final = "application/pdf"
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
Block = dict[str, Any]


def write_system(dialogue: Dialogue) -> list[Block]:
    """Return the instructions; empty when there are none."""
    return [_text(part) for part in dialogue.system if part.text.strip()]


def write_turns(turns: Sequence[Turn]) -> list[Block]:
    """Return the turns that hold something.

    Raises:
        ProviderError: UNSUPPORTED, with `param`: something cannot be said, or none is the user's
            to answer.
    """
    written = [{"role": turn.role, "content": list(_blocks(turn))} for turn in turns]
    found = [turn for turn in written if turn["content"]]
    if not found:
        raise unsupported("messages", "hold nothing that this deployment could answer")
    if found[-1]["role"] != "user":
        raise unsupported("messages", "end with the assistant's, which is not continued here")
    return found


def is_left_out(part: Part) -> bool:
    """Return whether a part is a thought without Claude's signature."""
    if not isinstance(part, Reasoning):
        return False
    return not (part.signature or part.sealed) or part.format not in _OURS


def _blocks(turn: Turn) -> Iterator[Block]:
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    others = [part for part in turn.parts if not isinstance(part, ToolResult)]
    for part in (*results, *others):
        if is_left_out(part) or (isinstance(part, Text) and not part.text.strip()):
            continue
        yield _block(part)


def _block(part: Part) -> Block:
    if isinstance(part, ToolUse):
        return _use(part)
    if isinstance(part, ToolResult):
        return _result(part)
    if isinstance(part, Reasoning):
        return _thought(part)
    return _document(part) if isinstance(part, File) else _content(part)


def _content(part: Text | Image) -> Block:
    return _text(part) if isinstance(part, Text) else _image(part)


def _thought(part: Reasoning) -> Block:
    if part.sealed:
        return {"type": "redacted_thinking", "data": part.sealed}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _text(part: Text) -> Block:
    return _marked({"type": "text", "text": part.text}, part)


def _image(part: Image) -> Block:
    if part.data:
        source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    else:
        source = {"type": "url", "url": part.url}
    return _marked({"type": "image", "source": source}, part)


def _document(part: File) -> Block:
    if part.media_type != _PDF:
        raise unsupported(part.where, "is no PDF, and nothing else can be sent here")
    source = {"type": "base64", "media_type": _PDF, "data": part.data}
    block: Block = {"type": "document", "source": source}
    if part.filename:
        block["title"] = part.filename
    return _marked(block, part)


def _use(part: ToolUse) -> Block:
    try:
        _object.decode(part.arguments)
    except JUNK:
        raise unsupported("messages", "hold a tool call whose arguments are no object") from None
    arguments = msgspec.Raw(part.arguments.encode())
    return {
        "type": "tool_use",
        "id": _call_id(part.id),
        "name": tool_name(part.name, "messages"),
        "input": arguments,
    }


def _result(part: ToolResult) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": _call_id(part.id)}
    content = [
        _content(each._replace(is_cached=False))
        for each in part.parts
        if not isinstance(each, Text) or each.text.strip()
    ]
    if content:
        block["content"] = content
    return _marked(block, part)


def tool_name(name: str, param: str) -> str:
    """Return the name of a tool.

    Raises:
        ProviderError: UNSUPPORTED: tools are not called like that here.
    """
    if not _CALL_ID.fullmatch(name):
        raise unsupported(param, "names a tool by more than letters, digits, _ and -")
    return name


def _call_id(call_id: str) -> str:
    """Return a call's id in the letters that are taken; the same for the call and its result."""
    if _CALL_ID.fullmatch(call_id):
        return call_id
    return f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:32]}"


def _marked(block: Block, part: Text | Image | File | ToolResult) -> Block:
    if part.is_cached:
        marker = {"type": "ephemeral"}
        if part.cache_ttl:
            marker["ttl"] = part.cache_ttl
        block["cache_control"] = marker
    return block
