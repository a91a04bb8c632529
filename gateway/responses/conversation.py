"""From input items to chat messages, and which item each message came from; pure.

What the model said in one go (reasoning, text, calls) is several items here and one assistant
message there; a call's output is a tool message.
"""

import re
from typing import Final, TypeAlias

import msgspec
from msgspec import Raw

from gateway.responses.pieces import (
    Kinds,
    kinds,
    missing,
    read_head,
    read_piece,
    unsupported,
    wrong,
)
from gateway.responses.schema import (
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Message,
    OutputText,
    ReasoningItem,
    Refusal,
)

_Item: TypeAlias = Message | FunctionCall | FunctionCallOutput | ReasoningItem
ITEMS: Final[Kinds[_Item]] = kinds(
    message=Message,
    function_call=FunctionCall,
    function_call_output=FunctionCallOutput,
    reasoning=ReasoningItem,
)
INPUT_PARTS: Final[Kinds[InputText | InputImage | InputFile]] = kinds(
    input_text=InputText, input_image=InputImage, input_file=InputFile
)
SAID_PARTS: Final[Kinds[OutputText | Refusal | InputText]] = kinds(
    output_text=OutputText, refusal=Refusal, input_text=InputText
)
_MESSAGE_PATH: Final = re.compile(r"messages\[(\d+)\](.*)")
_CALL_PATH: Final = re.compile(r"\.tool_calls\[(\d+)\](.*)")
_INNER: Final = (
    (".image_url.url", ".image_url"),
    (".image_url.detail", ".detail"),
    (".file.", "."),
)
Parts = list[dict[str, object]]


class Origin(msgspec.Struct, eq=False):
    """The paths that one chat message came from."""

    whole: str
    content: str
    reasoning: str = ""
    calls: list[str] = msgspec.field(default_factory=list)


class Conversation:
    """Chat messages under construction.

    `ignored` names what a chat completion has no place for.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []
        self.ignored: list[str] = []
        self._origins: list[Origin] = []
        self._said: dict[str, object] | None = None

    def add_text(self, role: str, text: str, path: str) -> None:
        """Add a message that is a plain text at the top level of the request."""
        self._add({"role": role, "content": text}, Origin(path, path))

    def add_items(self, items: list[Raw]) -> None:
        """Add the input's items.

        Raises:
            TurnpikeError: 400, with `param` naming the item's field.
        """
        if not items:
            raise wrong("input", "is empty; it needs an item")
        for index, raw in enumerate(items):
            path = f"input[{index}]"
            self._item(_read_item(raw, path), path)
        for message in self.messages:
            if message["role"] == "assistant" and "tool_calls" not in message:
                # A thought without an answer, as a cut response leaves it behind.
                message.setdefault("content", "")

    def path_of(self, param: str) -> str | None:
        """Return what a path inside the chat messages is called in the request."""
        found = _MESSAGE_PATH.fullmatch(param)
        if found is None or int(found[1]) >= len(self._origins):
            return None
        origin, rest = self._origins[int(found[1])], found[2]
        call = _CALL_PATH.fullmatch(rest)
        if call is not None and int(call[1]) < len(origin.calls):
            inner = ".call_id" if call[2] == ".id" else call[2].removeprefix(".function")
            return origin.calls[int(call[1])] + inner
        if rest.startswith(".reasoning_content"):
            return origin.reasoning or origin.whole
        if rest == ".tool_call_id":
            return origin.whole + ".call_id"
        if not rest.startswith(".content"):
            return origin.whole + (rest if "[" in origin.whole else "")
        inner = rest.removeprefix(".content")
        for theirs, ours in _INNER:
            inner = inner.replace(theirs, ours)
        return origin.content + inner

    def _add(self, message: dict[str, object], origin: Origin) -> None:
        self.messages.append(message)
        self._origins.append(origin)
        self._said = message if message["role"] == "assistant" else None

    def _item(self, item: _Item, path: str) -> None:
        if isinstance(item, FunctionCall):
            self._call(item, path)
        elif isinstance(item, ReasoningItem):
            self._thought(item, path)
        elif isinstance(item, FunctionCallOutput):
            message = {"role": "tool", "tool_call_id": item.call_id}
            content = self._content(item.output, f"{path}.output")
            self._add({**message, "content": content}, Origin(path, f"{path}.output"))
        else:
            self._message(item, path)

    def _message(self, item: Message, path: str) -> None:
        if item.phase is not None:
            self._ignore("phase")
        where = f"{path}.content"
        if item.role == "assistant":
            self._speech(item.content, where)
        else:
            content = self._content(item.content, where)
            self._add({"role": item.role, "content": content}, Origin(path, where))

    def _speech(self, content: str | list[Raw], path: str) -> None:
        texts, refusals = [content] if isinstance(content, str) else [], []
        for index, raw in enumerate(content if isinstance(content, list) else ()):
            part = read_piece(raw, SAID_PARTS, f"{path}[{index}]")
            if isinstance(part, Refusal):
                refusals.append(part.refusal)
            else:
                texts.append(part.text)
        message = self._turn(path, is_text=True)
        if texts or not refusals:
            message["content"] = f"{message.get('content') or ''}{''.join(texts)}"
        if refusals:
            message["refusal"] = "".join(refusals)
            message.setdefault("content", None)
        self._origins[-1].content = path

    def _thought(self, item: ReasoningItem, path: str) -> None:
        if item.encrypted_content is not None:
            self._ignore("reasoning.encrypted_content")
        text = "\n".join(thought.text for thought in item.content or item.summary or ())
        message = self._turn(path, is_text=True)
        if text:
            before = message.get("reasoning_content")
            message["reasoning_content"] = f"{before}\n{text}" if before else text
        self._origins[-1].reasoning = f"{path}.content"

    def _call(self, item: FunctionCall, path: str) -> None:
        message = self._turn(path, is_text=False)
        message.setdefault("content", None)
        calls = message.get("tool_calls")
        if not isinstance(calls, list):
            calls = message["tool_calls"] = []
        function = {"name": item.name, "arguments": item.arguments}
        calls.append({"id": item.call_id, "type": "function", "function": function})
        self._origins[-1].calls.append(path)

    def _turn(self, path: str, *, is_text: bool) -> dict[str, object]:
        """Return the assistant message that an item belongs to.

        After a text another text is another message, unless calls came between: their outputs have
        to follow the message that makes them.
        """
        said = self._said
        if said is None or (is_text and "content" in said and "tool_calls" not in said):
            said = {"role": "assistant"}
            self._add(said, Origin(path, path))
        return said

    def _content(self, content: str | list[Raw], path: str) -> str | Parts:
        if isinstance(content, str):
            return content
        if not content:
            raise wrong(path, "is empty; it needs a part")
        parts = [self._part(raw, f"{path}[{index}]") for index, raw in enumerate(content)]
        if len(parts) == 1 and isinstance(text := parts[0].get("text"), str):
            return text
        return parts

    def _part(self, raw: Raw, path: str) -> dict[str, object]:
        part = read_piece(raw, INPUT_PARTS, path)
        if part.prompt_cache_breakpoint is not None:
            self._ignore("prompt_cache_breakpoint")
        if isinstance(part, InputImage):
            return _image(part, path)
        if isinstance(part, InputFile):
            return _file(part, path)
        return {"type": "text", "text": part.text}

    def _ignore(self, name: str) -> None:
        if name not in self.ignored:
            self.ignored.append(name)


def _read_item(raw: Raw, path: str) -> _Item:
    head = read_head(raw, path)
    is_bare = head.type is None and head.role is None and head.id is not None
    if is_bare or head.type == "item_reference":
        raise unsupported(
            f"{path}.type", "may not be item_reference: nothing is stored, send the item itself"
        )
    return read_piece(raw, ITEMS, path, "message")


def _image(part: InputImage, path: str) -> dict[str, object]:
    if part.file_id is not None:
        raise unsupported(f"{path}.file_id", "is not supported; send image_url")
    if part.image_url is None:
        raise missing(f"{path}.image_url")
    image = {"url": part.image_url}
    if part.detail not in (None, "auto"):
        image["detail"] = part.detail
    return {"type": "image_url", "image_url": image}


def _file(part: InputFile, path: str) -> dict[str, object]:
    for name in ("file_id", "file_url"):
        if getattr(part, name) is not None:
            raise unsupported(f"{path}.{name}", "is not supported; send file_data")
    if part.file_data is None:
        raise missing(f"{path}.file_data")
    file = {"file_data": part.file_data}
    if part.filename is not None:
        file["filename"] = part.filename
    return {"type": "file", "file": file}
