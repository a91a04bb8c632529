"""An OpenAI conversation as turns of content, for upstreams that spell it in another way; pure.

OpenAI's form has a message for each tool result and system messages anywhere; the others have
alternating turns of blocks and instructions apart. The gateway has checked the messages: here they
are only read. Texts, arguments and data stay as they came.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body
from services.router.providers.refusals import rejected, unsupported

_DATA: Final = "data:"


class Text(NamedTuple):
    """A piece of text; `is_cached` tells that a prompt-cache marker stands behind it.

    `cache_ttl` is how long that marker asks to keep it, such as `1h`; empty when it does not say.
    """

    text: str
    is_cached: bool = False
    cache_ttl: str = ""


class Image(NamedTuple):
    """An image: `data` is base64, of the type `media_type`; `url` where it has no data yet.

    `where` is the place in the request that names it.
    """

    where: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    is_cached: bool = False
    cache_ttl: str = ""


class File(NamedTuple):
    """A document or a recording as base64; the media type of a recording begins with `audio/`."""

    where: str
    media_type: str
    data: str
    filename: str = ""
    is_cached: bool = False
    cache_ttl: str = ""


class Reasoning(NamedTuple):
    """What a model thought before, and the signature that its maker wants back; may be empty.

    `sealed` is what its maker alone can read, in the place of text and signature. `format` is the
    `format` of the entry of `reasoning_details`, which says whose it is; empty when it does not.
    """

    text: str
    signature: str = ""
    sealed: str = ""
    format: str = ""


class ToolUse(NamedTuple):
    """A call that the model made; `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str
    signature: str = ""


class ToolResult(NamedTuple):
    """What a tool answered to the call `id` of the tool `name`."""

    id: str
    name: str
    parts: tuple["Text | Image", ...]
    is_cached: bool = False
    cache_ttl: str = ""


Part: TypeAlias = Text | Image | File | Reasoning | ToolUse | ToolResult


class Turn(NamedTuple):
    """Everything that one side says until the other one does."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


class Dialogue(NamedTuple):
    """Instructions, and turns whose roles alternate.

    `left_out` names what has no place in either, for the caller to know.
    """

    system: tuple[Text, ...]
    turns: tuple[Turn, ...]
    left_out: tuple[str, ...] = ()

    def images(self) -> Iterator[Image]:
        """Yield the images that have no data yet."""
        for turn in self.turns:
            for part in turn.parts:
                for each in part.parts if isinstance(part, ToolResult) else (part,):
                    if isinstance(each, Image) and not each.data:
                        yield each


class _CacheControl(msgspec.Struct):
    type: str = ""
    ttl: str | None = None


class _Url(msgspec.Struct):
    url: str = ""
    detail: str | None = None


class _File(msgspec.Struct):
    file_data: str | None = None
    filename: str | None = None


class _Recording(msgspec.Struct):
    data: str = ""
    format: str = ""


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | None = None
    file: _File | None = None
    input_audio: _Recording | None = None
    cache_control: _CacheControl | None = None


class _Google(msgspec.Struct):
    thought_signature: str = ""


class _Extra(msgspec.Struct):
    google: _Google | None = None


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str = ""


class _Call(msgspec.Struct):
    id: str = ""
    function: _Function | None = None
    extra_content: _Extra | None = None


class _Detail(msgspec.Struct):
    type: str = ""
    text: str | None = None
    signature: str | None = None
    data: str | None = None
    format: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    function_call: _Function | None = None
    reasoning_content: str | None = None
    reasoning_details: list[_Detail] | None = None
    cache_control: _CacheControl | None = None


_messages: Final = msgspec.json.Decoder(list[_Message])


def read_dialogue(body: Body, fetched: Mapping[str, tuple[str, bytes]] | None = None) -> Dialogue:
    """Return the conversation of a request.

    Args:
        body: The OpenAI request.
        fetched: Media type and bytes of images that were named by URL, by place.

    Raises:
        ProviderError: REJECTED or UNSUPPORTED, with `param`: something has no place in turns.
    """
    try:
        messages = _messages.decode(body.get("messages", b"[]"))
    except JUNK:
        raise rejected("messages", "do not have the expected form") from None
    reader = _Reader(fetched or {})
    for index, message in enumerate(messages):
        reader.take(f"messages[{index}]", message)
    return Dialogue(tuple(reader.system), tuple(reader.merged()), tuple(sorted(reader.left_out)))


class _Reader:
    """Reads the messages of one request in order."""

    def __init__(self, fetched: Mapping[str, tuple[str, bytes]]) -> None:
        self._fetched = fetched
        self._names: dict[str, str] = {}
        self._turns: list[tuple[Literal["user", "assistant"], list[Part]]] = []
        self.system: list[Text] = []
        self.left_out: set[str] = set()

    def merged(self) -> Iterator[Turn]:
        """Yield the turns so far."""
        for role, parts in self._turns:
            yield Turn(role, tuple(parts))

    def take(self, where: str, message: _Message) -> None:
        """Take the next message."""
        content = message.content
        if not content and message.refusal:
            content = message.refusal
        if message.name and message.role not in ("tool", "function"):
            self.left_out.add("messages.name")
        parts = list(self._content(where, content))
        if message.cache_control is not None and parts:
            parts[-1] = _marked(parts[-1], message.cache_control)
        if message.role in ("system", "developer"):
            self.system += [part for part in parts if isinstance(part, Text) and part.text]
        elif message.role in ("tool", "function"):
            self._say("user", [self._result(message, parts)])
        elif message.role == "assistant":
            self._say("assistant", [*self._thoughts(message), *parts, *self._uses(message)])
        else:
            self._say("user", parts)

    def _say(self, role: Literal["user", "assistant"], parts: Sequence[Part]) -> None:
        kept = [part for part in parts if not isinstance(part, Text) or part.text]
        if self._turns and self._turns[-1][0] == role:
            self._turns[-1][1].extend(kept)
        else:
            self._turns.append((role, kept))

    def _result(self, message: _Message, parts: Sequence[Part]) -> ToolResult:
        call_id = message.tool_call_id or message.name or ""
        name = self._names.get(call_id, message.name or "")
        kept = tuple(part for part in parts if isinstance(part, Text | Image))
        marked = next((part for part in kept if part.is_cached), None)
        ttl = marked.cache_ttl if marked is not None else ""
        return ToolResult(call_id, name, kept, marked is not None, ttl)

    def _thoughts(self, message: _Message) -> Iterator[Reasoning]:
        signed = False
        for detail in message.reasoning_details or ():
            if detail.signature or detail.data:
                signed = True
                yield Reasoning(
                    detail.text or "",
                    detail.signature or "",
                    detail.data or "",
                    detail.format or "",
                )
        if message.reasoning_content and not signed:
            yield Reasoning(message.reasoning_content)

    def _uses(self, message: _Message) -> Iterator[ToolUse]:
        for call in message.tool_calls or ():
            function = call.function or _Function()
            self._names[call.id] = function.name
            google = call.extra_content.google if call.extra_content else None
            signature = google.thought_signature if google else ""
            yield ToolUse(call.id, function.name, function.arguments or "{}", signature)
        if message.function_call is not None:
            function = message.function_call
            self._names[function.name] = function.name
            yield ToolUse(function.name, function.name, function.arguments or "{}")

    def _content(
        self, where: str, content: str | list[_Block] | None
    ) -> Iterator[Text | Image | File]:
        if isinstance(content, str):
            yield Text(content)
            return
        for index, block in enumerate(content or ()):
            part = self._block(f"{where}.content[{index}]", block)
            yield part if block.cache_control is None else _marked(part, block.cache_control)

    def _block(self, where: str, block: _Block) -> Text | Image | File:
        if block.type in ("text", "refusal"):
            return Text(block.text or block.refusal or "")
        if block.type == "image_url" and block.image_url is not None:
            if block.image_url.detail not in (None, "auto"):
                self.left_out.add("messages.image_url.detail")
            return self._image(f"{where}.image_url.url", block.image_url.url)
        if block.type == "file" and block.file is not None and block.file.file_data:
            media_type, data = _split(block.file.file_data)
            return File(f"{where}.file", media_type, data, block.file.filename or "")
        if block.type == "input_audio" and block.input_audio is not None:
            recording = block.input_audio
            return File(f"{where}.input_audio", f"audio/{recording.format}", recording.data)
        raise unsupported(where, "is nothing that this deployment can take")

    def _image(self, where: str, url: str) -> Image:
        if url[: len(_DATA)].lower() == _DATA:
            return Image(where, *_split(url))
        if where in self._fetched:
            media_type, data = self._fetched[where]
            return Image(where, media_type, base64.b64encode(data).decode())
        return Image(where, url=url)


def _marked(part: Text | Image | File, marker: _CacheControl) -> Text | Image | File:
    return part._replace(is_cached=True, cache_ttl=marker.ttl or "")


def _split(url: str) -> tuple[str, str]:
    """Return media type and base64 of a data URL."""
    head, _, data = url.partition(",")
    return head[len(_DATA) :].partition(";")[0].lower(), data
