"""A conversation as Gemini's contents; pure.

A function's answers stand in a content of their own, in the order of the calls, since without ids
they are told apart by it. Source: Gemini API, contents, function calling and thought signatures
(read 2026-11).
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Call
from services.router.providers.refusals import rejected, unsupported
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

SIGNATURE_FORMAT: Final = "google-gemini-v1"
"""What marks a thought signature of Gemini among those of other models."""

UNSIGNED: Final = "skip_thought_signature_validator"
"""What stands for the signature of a call that Gemini did not make, or whose client lost it."""

_OWN_ID: Final = "call_gemini_"
_ID_DIGITS: Final = 24
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
Content = dict[str, Any]


def tool_call_id(call: Call, index: int) -> str:
    """Return the id of a call that came without one; the same for the same place in an answer."""
    digest = hashlib.sha256(f"{call.answer_id}:{index}".encode()).hexdigest()
    return _OWN_ID + digest[:_ID_DIGITS]


def system_of(dialogue: Dialogue) -> Content | None:
    """Return the systemInstruction, None without one."""
    if not dialogue.system:
        return None
    return {"parts": [{"text": text.text} for text in dialogue.system]}


def contents_of(dialogue: Dialogue, *, needs_signatures: bool) -> list[Content]:
    """Return the contents.

    Args:
        dialogue: The conversation; its images have data.
        needs_signatures: Whether the model refuses calls of its own that lack a signature.

    Raises:
        ProviderError: UNSUPPORTED, with `param`: something cannot be said.
    """
    found: list[Content] = []
    call_ids: list[str] = []
    for turn in dialogue.turns:
        if turn.role == "assistant":
            call_ids = [part.id for part in turn.parts if isinstance(part, ToolUse)]
            said = [_model_parts(turn, needs_signatures=needs_signatures)]
        else:
            said = list(_user_parts(turn, call_ids))
        role = "model" if turn.role == "assistant" else "user"
        found += [{"role": role, "parts": parts} for parts in said if parts]
    if not found:
        raise unsupported("messages", "hold only instructions, which this deployment cannot answer")
    return found


def is_cache_marked(dialogue: Dialogue) -> bool:
    """Return whether a prompt-cache marker stands anywhere; Gemini caches by itself."""
    parts: list[Part] = [
        *dialogue.system,
        *(part for turn in dialogue.turns for part in turn.parts),
    ]
    return any(getattr(part, "is_cached", False) for part in parts)


def _user_parts(turn: Turn, call_ids: Sequence[str]) -> Iterator[list[Content]]:
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    order = {call_id: place for place, call_id in enumerate(call_ids)}
    results.sort(key=lambda result: order.get(result.id, len(order)))
    yield [_result(result) for result in results]
    yield [_said(part) for part in turn.parts if not isinstance(part, ToolResult)]


def _model_parts(turn: Turn, *, needs_signatures: bool) -> list[Content]:
    found: list[Content] = []
    signature = ""
    lacks_signature = needs_signatures
    for part in turn.parts:
        if isinstance(part, Reasoning):
            if part.format == SIGNATURE_FORMAT:
                signature = part.signature or signature
            if part.text:
                found.append({"text": part.text, "thought": True})
        elif isinstance(part, ToolUse):
            stands_in = UNSIGNED if lacks_signature else ""
            found.append(_signed(_use(part), part.signature or stands_in))
            lacks_signature = False
        else:
            found.append(_said(part))
    if signature:
        _sign_text(found, signature)
    return found


def _sign_text(parts: list[Content], signature: str) -> None:
    """Put a signature where it came with text: on the last of it."""
    for part in reversed(parts):
        if "text" in part and "thought" not in part:
            part["thoughtSignature"] = signature
            return
    parts.append({"text": "", "thoughtSignature": signature})


def _signed(part: Content, signature: str) -> Content:
    return part | {"thoughtSignature": signature} if signature else part


def _said(part: Part) -> Content:
    if isinstance(part, Text):
        return {"text": part.text}
    if isinstance(part, Image | File):
        return _inline(part)
    raise unsupported("messages", "hold something in a place where this deployment has none for it")


def _inline(part: Image | File) -> Content:
    return {"inlineData": {"mimeType": part.media_type, "data": part.data}}


def _use(part: ToolUse) -> Content:
    try:
        _object(part.arguments)
    except JUNK:
        raise unsupported(
            "messages", "hold a tool call whose arguments are no JSON object"
        ) from None
    called = {"name": part.name, "args": msgspec.Raw(part.arguments.encode())}
    return {"functionCall": _with_id(called, part.id)}


def _result(part: ToolResult) -> Content:
    if not part.name:
        raise rejected("messages", "hold the answer of a tool that was not called")
    text = "".join(each.text for each in part.parts if isinstance(each, Text))
    answer: Content = {"name": part.name, "response": {"output": text}}
    if images := [_inline(each) for each in part.parts if isinstance(each, Image)]:
        answer["parts"] = images
    return {"functionResponse": _with_id(answer, part.id)}


def _with_id(value: Content, call_id: str) -> Content:
    """Give the upstream the id that it gave, and none of those made here."""
    is_upstreams = call_id and not call_id.startswith(_OWN_ID) and call_id != value["name"]
    return {"id": call_id, **value} if is_upstreams else value
