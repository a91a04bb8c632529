"""A conversation in the blocks of Converse; pure.

Source: botocore service model `bedrock-runtime`, shapes `Message` and `ContentBlock`; Amazon
Bedrock user guide, "Prompt caching" (both read 2026-11).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from services.router.providers.aws.converse_models import CACHING, CLAUDE
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Failure, ProviderError
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

Block = dict[str, Any]
REASONING_FORMAT: Final = {CLAUDE: "anthropic-claude-v1"}
"""What entries of `reasoning_details` say of themselves, by whose they are."""

_TTLS: Final = frozenset({"5m", "1h"})
_NAME_CHARS_MAX: Final = 200
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9\-()\[\]]+")
_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_IMAGE_FORMATS: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENT_FORMATS: Final = {"application/pdf": "pdf"}
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Marker(msgspec.Struct):
    ttl: str | None = None


class Conversation:
    """The system blocks and messages of one request.

    `has_tool_use` tells that a tool was called before, `is_thought_kept` that the last turn that
    did so begins with what the model thought. `ignored` names what was left aside.
    """

    def __init__(self, dialogue: Dialogue, family: str) -> None:
        """Write a dialogue down.

        Raises:
            ProviderError: UNSUPPORTED or REJECTED, with `param`.
        """
        self._reasoning_format = REASONING_FORMAT.get(family, "")
        self._can_cache = family in CACHING
        self._can_cache_tools = family == CLAUDE
        self._document_names: set[str] = set()
        self.ignored: set[str] = set()
        self.has_tool_use = False
        self.is_thought_kept = True
        self.system = _without_blanks(
            block for text in dialogue.system for block in self._blocks(text)
        )
        self.messages: list[Block] = []
        for turn in dialogue.turns:
            self._add(turn)
        if not self.messages or self.messages[0]["role"] != "user":
            raise unsupported("messages", "must begin with something that the user says")
        if self.messages[-1]["role"] != "user":
            raise unsupported("messages", "end with the assistant's, which is not continued here")

    def tool_cache_point(self, marker: msgspec.Raw | None) -> Iterator[Block]:
        """Yield the mark behind a tool that is to be cached, if the model has a cache for tools."""
        if marker is None:
            return
        try:
            ttl = msgspec.json.decode(marker, type=_Marker).ttl
        except JUNK:
            ttl = None
        yield from self._cache_point(ttl or "", can_cache=self._can_cache_tools)

    def _cache_point(self, ttl: str, *, can_cache: bool) -> Iterator[Block]:
        if not can_cache:
            self.ignored.add("cache_control")
            return
        more = {"ttl": ttl} if ttl in _TTLS else {}
        yield {"cachePoint": {"type": "default", **more}}

    def _add(self, turn: Turn) -> None:
        blocks = _without_blanks(block for part in turn.parts for block in self._blocks(part))
        if not blocks:
            return
        if any("toolUse" in block for block in blocks):
            self.has_tool_use = True
            self.is_thought_kept = "reasoningContent" in blocks[0]
        if self.messages and self.messages[-1]["role"] == turn.role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": turn.role, "content": blocks})
        content = self.messages[-1]["content"]
        has_document = any("document" in block for block in content)
        if has_document and not any("text" in block for block in content):
            raise unsupported("messages", "must say something beside a file")

    def _blocks(self, part: Part) -> Iterator[Block]:
        if isinstance(part, Reasoning):
            yield from self._thought(part)
        elif isinstance(part, ToolUse):
            yield {"toolUse": _tool_use(part)}
        else:
            yield self._said(part)
            if part.is_cached:
                yield from self._cache_point(part.cache_ttl, can_cache=self._can_cache)

    def _said(self, part: Text | Image | File | ToolResult) -> Block:
        if isinstance(part, Text):
            return {"text": part.text}
        if isinstance(part, Image):
            return {"image": _image(part)}
        if isinstance(part, File):
            return {"document": self._document(part)}
        content = [
            {"text": each.text} if isinstance(each, Text) else {"image": _image(each)}
            for each in part.parts
            if not isinstance(each, Text) or each.text.strip()
        ]
        return {"toolResult": {"toolUseId": tool_use_id(part.id), "content": content}}

    def _thought(self, part: Reasoning) -> Iterator[Block]:
        if part.format not in ("", self._reasoning_format):
            self.ignored.add("reasoning_details")
        elif part.sealed:
            yield {"reasoningContent": {"redactedContent": part.sealed}}
        elif part.signature:
            thought = {"text": part.text, "signature": part.signature}
            yield {"reasoningContent": {"reasoningText": thought}}
        else:
            # Without its maker's signature nobody takes it back.
            self.ignored.add("reasoning_content")

    def _document(self, part: File) -> Block:
        kind = _DOCUMENT_FORMATS.get(part.media_type)
        if kind is None:
            raise unsupported(part.where, "is not a PDF")
        stem = _UNSAFE.sub(" ", part.filename.rpartition(".")[0] or part.filename).strip()
        base = stem[: _NAME_CHARS_MAX - 8].strip() or "document"
        name, number = base, 1
        while name in self._document_names:
            number += 1
            name = f"{base} {number}"
        self._document_names.add(name)
        return {"format": kind, "name": name, "source": {"bytes": part.data}}


def tool_use_id(call_id: str) -> str:
    """Return the id of a call in letters that are allowed; the same one always for the same."""
    if _ID.fullmatch(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _without_blanks(blocks: Iterable[Block]) -> list[Block]:
    """Return blocks without texts of white space, which Converse refuses; they join the one before.

    A mark for the cache needs something in front of it.
    """
    kept: list[Block] = []
    for block in blocks:
        is_blank = "text" in block and not block["text"].strip()
        if is_blank and kept and "text" in kept[-1]:
            kept[-1] = {"text": kept[-1]["text"] + block["text"]}
        elif not is_blank and (kept or "cachePoint" not in block):
            kept.append(block)
    return kept


def _tool_use(part: ToolUse) -> Block:
    try:
        _object.decode(part.arguments)
    except JUNK:
        raise ProviderError(
            Failure.UNSUPPORTED,
            "messages hold a tool call whose arguments are no JSON object.",
            status=400,
            param="messages",
        ) from None
    arguments = msgspec.Raw(part.arguments.encode())
    return {"toolUseId": tool_use_id(part.id), "name": part.name, "input": arguments}


def _image(part: Image) -> Block:
    kind = _IMAGE_FORMATS.get(part.media_type)
    if kind is None or not part.data:
        raise unsupported(part.where, "is not a PNG, JPEG, WebP or GIF image")
    return {"format": kind, "source": {"bytes": part.data}}
