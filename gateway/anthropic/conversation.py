"""From Anthropic's messages to chat messages; pure.

One turn of the user becomes a `tool` message for each tool result, then one `user` message; tool
results come first in it, because upstreams take them only right behind their call. A result that
is an error begins with `Error: `, as the chat form has no flag for it. Reasoning goes back as
`reasoning_content`, without its signature. A text document becomes text, a PDF a file block. Cache
markers stay on what they mark, for the upstreams that know them.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from gateway.anthropic.names import Origin
from gateway.anthropic.schema import (
    Base64Image,
    Base64Pdf,
    Block,
    Blocks,
    CacheControl,
    DocumentBlock,
    ImageBlock,
    Message,
    Part,
    PlainText,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from kit.errors import Reason, TurnpikeError

_ERROR: Final = "Error: "
_USER: Final = (TextBlock, ImageBlock, DocumentBlock, ToolResultBlock)
_ASSISTANT: Final = (TextBlock, ToolUseBlock, ThinkingBlock, RedactedThinkingBlock)
_ROLES: Final[dict[str, tuple[type, ...]]] = {
    "user": _USER,
    "assistant": _ASSISTANT,
    "system": (TextBlock,),
}
_ChatPart = dict[str, Any]
CACHE: Final = "cache_control"


class Conversation:
    """Chat messages as they grow.

    `origins` says of each where it comes from. `ignored` are the best-effort fields that were left
    out. `media_count` and `media_bytes` are the images and documents and the size of their data.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.origins: list[Origin] = []
        self.ignored: set[str] = set()
        self.media_count = 0
        self.media_bytes = 0
        self._call_ids: set[str] = set()

    def add_system(self, system: str | list[TextBlock], path: str) -> None:
        """Add instructions; `path` is the caller's name of them."""
        if isinstance(system, str):
            self._put({"role": "system", "content": system}, Origin(path, path))
            return
        for block in system:
            self._note(block)
        parts = [f"{path}.{index}" for index in range(len(system))]
        texts = [_text(block) for block in system]
        if texts:
            self._put({"role": "system", "content": _plain(texts)}, Origin(path, path, parts))

    def add(self, index: int, message: Message) -> None:
        """Add one turn.

        Raises:
            TurnpikeError: `INVALID_VALUE`, with `param` naming the block.
        """
        path, content = f"messages.{index}", message.content
        where = f"{path}.content"
        if isinstance(content, str):
            self._put({"role": message.role, "content": content}, Origin(path, where))
            return
        if not content:
            raise _wrong(where, "is empty")
        allowed = _ROLES[message.role]
        for at, block in enumerate(content):
            if not isinstance(block, allowed):
                kind = type(block).__struct_config__.tag
                raise _wrong(f"{where}.{at}", f"is of type {kind}, which no {message.role} has")
            self._note(block)
        if message.role == "assistant":
            self._add_assistant(path, content)
        elif message.role == "user":
            self._add_user(path, content)
        else:
            self.add_system([block for block in content if isinstance(block, TextBlock)], where)

    def _put(self, message: dict[str, Any], origin: Origin) -> None:
        self.messages.append(message)
        self.origins.append(origin)

    def _note(self, block: Block) -> None:
        """Note what of a block the chat form cannot carry and may be left out."""
        if isinstance(block, ToolUseBlock) and block.cache_control is not None:
            # A call is no content in the chat form, so nothing can be marked.
            self.ignored.add(CACHE)
        if isinstance(block, TextBlock):
            if block.citations:
                self.ignored.add("citations")
        elif isinstance(block, ThinkingBlock):
            if block.signature:
                self.ignored.add("thinking.signature")
        elif isinstance(block, RedactedThinkingBlock):
            self.ignored.add("redacted_thinking")
        elif isinstance(block, ImageBlock) and block.transformations:
            self.ignored.add("transformations")

    def mark_end(self, marker: CacheControl | None) -> None:
        """Mark the end of the conversation, as a marker on the top level asks for."""
        if marker is None:
            return
        last = self.messages[-1]
        content = last.get("content")
        if not (isinstance(content, list) and CACHE in content[-1]):
            last.setdefault(CACHE, _marker(marker))

    def _add_assistant(self, path: str, blocks: list[Block]) -> None:
        texts = [_text(block) for block in blocks if isinstance(block, TextBlock)]
        thoughts = [block.thinking for block in blocks if isinstance(block, ThinkingBlock)]
        calls, origins = [], []
        for at, block in enumerate(blocks):
            if isinstance(block, ToolUseBlock):
                calls.append(_call(block))
                origins.append(f"{path}.content.{at}")
                self._call_ids.add(block.id)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": _joined(texts) if texts or not calls else None,
        }
        if thoughts:
            message["reasoning_content"] = "".join(thoughts)
        if calls:
            message["tool_calls"] = calls
        self._put(message, Origin(path, f"{path}.content", (), origins))

    def _add_user(self, path: str, blocks: list[Block]) -> None:
        parts: list[_ChatPart] = []
        origins: list[str] = []
        for at, block in enumerate(blocks):
            where = f"{path}.content.{at}"
            if isinstance(block, ToolResultBlock):
                if parts:
                    raise _wrong(where, "must stand before everything that is no tool result")
                self._add_result(where, block)
            elif isinstance(block, Part):
                found = self._parts(where, block)
                parts += found
                origins += [where] * len(found)
        if parts:
            origin = Origin(path, f"{path}.content", origins)
            self._put({"role": "user", "content": _plain(parts)}, origin)

    def _add_result(self, where: str, block: ToolResultBlock) -> None:
        if block.tool_use_id not in self._call_ids:
            raise _wrong(f"{where}.tool_use_id", "answers no earlier tool_use")
        parts: list[_ChatPart] = []
        origins: list[str] = []
        if isinstance(block.content, str):
            parts.append({"type": "text", "text": block.content})
            origins.append(f"{where}.content")
        else:
            for at, inner in enumerate(block.content or ()):
                self._note(inner)
                found = self._parts(f"{where}.content.{at}", inner)
                parts += found
                origins += [f"{where}.content.{at}"] * len(found)
        if block.is_error:
            _mark_error(parts, origins, where)
        message = {"role": "tool", "tool_call_id": block.tool_use_id, "content": _plain(parts)}
        self._put(marked(message, block.cache_control), Origin(where, f"{where}.content", origins))

    def _parts(self, where: str, block: Part) -> list[_ChatPart]:
        found = self._unmarked(where, block)
        if found:
            found[-1] = marked(found[-1], block.cache_control)
        return found

    def _unmarked(self, where: str, block: Part) -> list[_ChatPart]:
        if isinstance(block, TextBlock):
            return [{"type": "text", "text": block.text}]
        if isinstance(block, ImageBlock):
            return [self._image(block)]
        if block.citations is not None and block.citations.enabled:
            raise TurnpikeError(
                Reason.UNSUPPORTED_PARAMETER,
                f"{where}.citations is not supported by any route.",
                param=f"{where}.citations",
            )
        return self._document(block)

    def _image(self, block: ImageBlock) -> _ChatPart:
        source = block.source
        url = source.url if not isinstance(source, Base64Image) else _data_url(source)
        self._count(url)
        return {"type": "image_url", "image_url": {"url": url}}

    def _document(self, block: DocumentBlock) -> list[_ChatPart]:
        source = block.source
        if isinstance(source, Base64Pdf):
            url = _data_url(source)
            self._count(url)
            file = {"filename": block.title or "document.pdf", "file_data": url}
            return [*_texts(block.context), {"type": "file", "file": file}]
        head = _texts(block.title, block.context)
        if isinstance(source, PlainText):
            return [*head, *_texts(source.data)]
        if isinstance(source.content, str):
            return [*head, *_texts(source.content)]
        return [*head, *self._inner(source)]

    def _inner(self, source: Blocks) -> Iterable[_ChatPart]:
        for block in source.content:
            if isinstance(block, ImageBlock):
                self._note(block)
                yield marked(self._image(block), block.cache_control)
            elif isinstance(block, TextBlock):
                self._note(block)
                yield _text(block)

    def _count(self, url: str) -> None:
        self.media_count += 1
        self.media_bytes += len(url)


def _call(block: ToolUseBlock) -> dict[str, Any]:
    arguments = msgspec.json.encode(block.input).decode()
    function = {"name": block.name, "arguments": arguments}
    return {"id": block.id, "type": "function", "function": function}


def _plain(parts: list[_ChatPart]) -> str | list[_ChatPart]:
    """Return content as text where it is nothing else: every route takes that."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text" and CACHE not in parts[0]:
        return str(parts[0]["text"])
    return parts


def _joined(texts: list[_ChatPart]) -> str | list[_ChatPart]:
    """Return an answer's text blocks, pieces of one text around its calls, unless one is marked."""
    if any(CACHE in text for text in texts):
        return texts
    return "".join(text["text"] for text in texts)


def _text(block: TextBlock) -> _ChatPart:
    return marked({"type": "text", "text": block.text}, block.cache_control)


def _marker(marker: CacheControl) -> dict[str, str]:
    found: dict[str, str] = {"type": marker.type}
    return found if marker.ttl is None else {**found, "ttl": marker.ttl}


def marked(chat: dict[str, Any], marker: CacheControl | None) -> dict[str, Any]:
    """Return an object of the chat form with a marker, if there is one."""
    return chat if marker is None else {**chat, CACHE: _marker(marker)}


def _mark_error(parts: list[_ChatPart], origins: list[str], where: str) -> None:
    if parts and parts[0]["type"] == "text":
        parts[0] = {**parts[0], "text": _ERROR + parts[0]["text"]}
        return
    parts.insert(0, {"type": "text", "text": _ERROR.rstrip()})
    origins.insert(0, f"{where}.is_error")


def _data_url(source: Base64Image | Base64Pdf) -> str:
    return f"data:{source.media_type};base64,{source.data}"


def _texts(*texts: str | None) -> list[_ChatPart]:
    return [{"type": "text", "text": text} for text in texts if text]


def _wrong(param: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{param} {what}.", param=param)
