"""The messages of a chat completion: their form, and what may stand where; pure.

A block is read loosely and checked here, so that a refusal names the block and says what it may be.
Media stays where it is: it is looked at, never decoded, and nothing is ever fetched.
"""

import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from gateway.call import Media
from kit.errors import Reason, TurnpikeError
from kit.image_magic import IMAGE_KINDS, looks_like_image
from kit.public_url import UrlError, read_public_url

BLOCKS_MAX: Final = 1024
"""Most blocks of one message."""

IMAGES_MAX: Final = 100
"""Most images of one request."""

FILES_MAX: Final = 16
"""Most files and recordings of one request."""

INLINE_BYTES_MAX: Final = 20 * 1024**2
"""Largest image, file or recording that a body may carry, bytes before base64."""

TOOL_IMAGES: Final = "tool_images"
"""The feature of a route that takes images in the answers of tools; few do."""

_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_IMAGE_HEAD: Final = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,", re.IGNORECASE)
_PDF_HEAD: Final = re.compile(r"data:application/pdf;base64,", re.IGNORECASE)
_HEAD_CHARS: Final = 1368
_PDF_BYTES: Final = 1024

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\s<|\\/>]+$")]
Id = Annotated[str, Meta(min_length=1, max_length=256)]


class ImageUrl(msgspec.Struct):
    """Where an image is: https, or the image itself as a data URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class InlineFile(msgspec.Struct):
    """A document as a data URL."""

    file_data: str | None = None
    filename: Annotated[str, Meta(max_length=255)] | None = None
    file_id: str | None = None


class InputAudio(msgspec.Struct):
    """A recording as base64."""

    data: str
    format: Annotated[str, Meta(pattern=r"^[a-z0-9]{2,8}$")]


class Block(msgspec.Struct):
    """One part of a message's content; which members count depends on `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None
    file: InlineFile | None = None
    input_audio: InputAudio | None = None


class FunctionCall(msgspec.Struct):
    """What a model wants to be called, with arguments as it wrote them."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    arguments: str


class ToolCall(msgspec.Struct):
    """One tool call of an earlier answer."""

    id: Id
    type: Literal["function"]
    function: FunctionCall


class Message(msgspec.Struct):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Block] | None = None
    name: Name | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Id | None = None
    refusal: str | None = None
    function_call: Any = None
    audio: Any = None


class Inline(NamedTuple):
    """Base64 that a body carries: `text` from `start` on."""

    text: str
    start: int


class Contents:
    """What has been found in a conversation so far."""

    def __init__(self) -> None:
        self.features: set[str] = set()
        self.image_count = 0
        self.file_count = 0
        self.inline: list[Inline] = []

    def media(self, raw: bytes | msgspec.Raw) -> Media:
        """Return the counts; `raw` is the JSON that the messages were read from."""
        size = sum(len(one.text) - one.start for one in self.inline)
        return Media(self.image_count, self.file_count, size + self._escaped_bytes(bytes(raw)))

    def _escaped_bytes(self, raw: bytes) -> int:
        """Return by how many bytes some JSON writers lengthen media, by escaping slash and plus."""
        if not self.inline or not (b"\\/" in raw or b"\\u00" in raw):
            return 0
        known = {one.text[one.start :].encode() for one in self.inline}
        total, at = 0, 0
        while (at := raw.find(b"base64,", at)) >= 0:
            at += len(b"base64,")
            written = raw[at : raw.find(b'"', at)]
            read = written.replace(b"\\/", b"/")
            for escape, letter in _ESCAPES:
                read = read.replace(escape, letter)
            if read in known:
                total += len(written) - len(read)
        return total


_ESCAPES: Final = (
    (b"\\u002b", b"+"),
    (b"\\u002B", b"+"),
    (b"\\u002f", b"/"),
    (b"\\u002F", b"/"),
    (b"\\u003d", b"="),
    (b"\\u003D", b"="),
)


def check_messages(messages: Sequence[Message]) -> Contents | None:
    """Check a conversation; return what it holds besides text, None for nothing.

    Raises:
        TurnpikeError: INVALID_VALUE, MISSING_FIELD or UNSUPPORTED_PARAMETER, with `param`.
    """
    contents: Contents | None = None
    known: set[str] = set()
    for index, message in enumerate(messages):
        content, role = message.content, message.role
        if message.tool_calls:
            _check_calls(index, message, known)
        elif role == "tool" and message.tool_call_id not in known:
            where = f"messages[{index}].tool_call_id"
            raise _invalid(where, "answers no earlier tool call.")
        if content.__class__ is str:
            continue
        if content is None or not content:
            _check_absence(index, message)
        elif isinstance(content, list):
            contents = _check_blocks(f"messages[{index}].content", role, content, contents)
    return contents


def _check_calls(index: int, message: Message, known: set[str]) -> None:
    if message.role != "assistant":
        raise _invalid(f"messages[{index}].tool_calls", "belong to an assistant message.")
    known.update(call.id for call in message.tool_calls or ())


def _check_absence(index: int, message: Message) -> None:
    """Check that an assistant that says nothing does something else."""
    said = (message.tool_calls, message.refusal, message.function_call, message.audio)
    if message.role == "assistant" and any(said):
        return
    where = f"messages[{index}].content"
    if message.content is None:
        raise _missing(where)
    raise _invalid(where, "holds no block.")


def _check_blocks(
    where: str, role: str, blocks: list[Block], contents: Contents | None
) -> Contents | None:
    if len(blocks) > BLOCKS_MAX:
        raise _invalid(where, f"has {len(blocks)} blocks; {BLOCKS_MAX} at most.")
    for index, block in enumerate(blocks):
        if block.type == "text" and block.text is not None:
            continue
        place = f"{where}[{index}]"
        rule = _RULES.get(block.type)
        if rule is None:
            raise _invalid(f"{place}.type", f"is none of {', '.join(_RULES)}.")
        if role not in rule.roles:
            raise _invalid(f"{place}.type", f"is {block.type}, which a {role} message cannot hold.")
        if getattr(block, block.type) is None:
            raise _missing(f"{place}.{block.type}")
        if rule.check is not None:
            contents = contents or Contents()
            contents.features.add(block.type)
            if role == "tool":
                contents.features.add(TOOL_IMAGES)
            rule.check(f"{place}.{block.type}", block, contents)
    return contents


def _check_image(where: str, block: Block, contents: Contents) -> None:
    contents.image_count += 1
    if contents.image_count > IMAGES_MAX:
        raise _invalid("messages", f"hold more than {IMAGES_MAX} images.")
    url = block.image_url.url if block.image_url is not None else ""
    where += ".url"
    if url[:5].lower() != "data:":
        try:
            read_public_url(url)
        except UrlError as error:
            raise _invalid(where, str(error)) from None
        return
    head = _IMAGE_HEAD.match(url)
    if head is None:
        raise _invalid(where, f"must be base64 of {', '.join(IMAGE_KINDS)}.")
    inline = _checked_base64(where, url, head.end())
    if not looks_like_image(_first_bytes(inline)):
        raise _invalid(where, "does not begin like a PNG, JPEG, WebP or GIF image.")
    contents.inline.append(inline)


def _check_file(where: str, block: Block, contents: Contents) -> None:
    _count_file(contents)
    file = block.file or InlineFile()
    if file.file_id is not None:
        raise TurnpikeError(
            Reason.UNSUPPORTED_PARAMETER,
            f"{where}.file_id is not supported; send the document as file_data.",
            param=f"{where}.file_id",
        )
    where += ".file_data"
    if file.file_data is None:
        raise _missing(where)
    head = _PDF_HEAD.match(file.file_data)
    if head is None:
        raise _invalid(where, "must be a data URL, data:application/pdf;base64, and the document.")
    inline = _checked_base64(where, file.file_data, head.end())
    if b"%PDF-" not in _first_bytes(inline)[:_PDF_BYTES]:
        raise _invalid(where, "does not begin like a PDF.")
    contents.inline.append(inline)


def _check_audio(where: str, block: Block, contents: Contents) -> None:
    _count_file(contents)
    data = block.input_audio.data if block.input_audio is not None else ""
    contents.inline.append(_checked_base64(f"{where}.data", data, 0))


def _count_file(contents: Contents) -> None:
    contents.file_count += 1
    if contents.file_count > FILES_MAX:
        raise _invalid("messages", f"hold more than {FILES_MAX} files and recordings.")


def _checked_base64(where: str, text: str, start: int) -> Inline:
    size = len(text) - start
    if not size or size % 4 or _BASE64.fullmatch(text, start) is None:
        raise _invalid(where, "is not valid base64.")
    if size // 4 * 3 > INLINE_BYTES_MAX + 2:
        raise _invalid(where, f"holds about {size // 4 * 3} bytes; {INLINE_BYTES_MAX} at most.")
    return Inline(text, start)


def _first_bytes(inline: Inline) -> bytes:
    return binascii.a2b_base64(inline.text[inline.start : inline.start + _HEAD_CHARS])


class _Rule(NamedTuple):
    """Who may send a kind of block, and what more is looked at; None for plain text."""

    roles: frozenset[str]
    check: Callable[[str, Block, Contents], None] | None = None


_USER: Final = frozenset({"user"})
_RULES: Final[Mapping[str, _Rule]] = {
    "text": _Rule(frozenset({"system", "developer", "user", "assistant", "tool"})),
    "image_url": _Rule(_USER | {"tool"}, _check_image),
    "file": _Rule(_USER, _check_file),
    "input_audio": _Rule(_USER, _check_audio),
    "refusal": _Rule(frozenset({"assistant"})),
}
BLOCK_TYPES: Final = tuple(_RULES)


def _invalid(where: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{where} {what}", param=where)


def _missing(where: str) -> TurnpikeError:
    return TurnpikeError(Reason.MISSING_FIELD, f"{where} is required.", param=where)
