"""From OpenAI messages to what a chat template reads: checked, cleaned, and with images set apart.

Pure. Special tokens in a client's text would let it forge turns, so they are replaced by a space
(the default) or refused; a replacement never makes a new token, and the prompt that is billed is
the one the model reads.
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from kit.errors import Reason, TurnpikeError

VARIABLES_MAX: Final = 32
"""Most entries of `chat_template_kwargs`."""

_RESERVED: Final = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"}
    | {"raise_exception", "strftime_now"}
)
_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})


class OnSpecialToken(StrEnum):
    """What happens to a model's special token inside a client's text."""

    STRIP = "strip"
    REFUSE = "refuse"


class Image(NamedTuple):
    """An image of a conversation, and the place that names it."""

    where: str
    url: str


class Conversation(NamedTuple):
    """What a template is given, and the images that go beside its prompt."""

    messages: list[dict[str, Any]]
    named: Mapping[str, Any]
    images: tuple[Image, ...]


class ContentForm(NamedTuple):
    """How a template wants contents.

    `has_blocks` is for those with images, `has_only_blocks` for all; `placeholder` is put before
    the text of those with images otherwise. A template with neither takes no images.
    """

    has_blocks: bool = False
    has_only_blocks: bool = False
    placeholder: str = ""

    @property
    def takes_images(self) -> bool:
        """Whether a conversation may hold images."""
        return self.has_blocks or bool(self.placeholder)


class _ImageUrl(msgspec.Struct):
    url: str = ""


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    image_url: _ImageUrl | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block] | None = None
    name: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_VARIABLES: Final = msgspec.json.Decoder(dict[str, str | int | float | bool | None])


class Cleaner:
    """Keeps a model's special tokens out of a client's text."""

    def __init__(self, tokens: Iterable[str], on_special_token: OnSpecialToken) -> None:
        ordered = sorted(set(tokens) - {""}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, ordered))) if ordered else None
        self._on_special_token = on_special_token

    def clean(self, where: str, text: str) -> str:
        """Return the text without special tokens.

        Raises:
            TurnpikeError: INVALID_VALUE: one is there that may not be, or stays.
        """
        if self._special is None or self._special.search(text) is None:
            return text
        if self._on_special_token is OnSpecialToken.STRIP:
            text = self._special.sub(" ", text)
        self.check(where, text)
        return text

    def check(self, where: str, text: str) -> None:
        """Refuse a text that holds a special token.

        Raises:
            TurnpikeError: INVALID_VALUE: it does.
        """
        if self._special is not None and self._special.search(text) is not None:
            raise invalid(where, f"`{where}` holds a special token of the model.")


def read_conversation(
    messages: bytes | msgspec.Raw,
    variables: bytes | msgspec.Raw,
    *,
    cleaner: Cleaner,
    form: ContentForm,
) -> Conversation:
    """Return what the template gets of a request's `messages` and `chat_template_kwargs`, JSON.

    `developer` counts as `system`; the texts of a content array are joined by a line feed, as vLLM
    does, unless the template wants the array.

    Raises:
        TurnpikeError: INVALID_VALUE or UNSUPPORTED_PARAMETER, with `param`.
    """
    named = _named(variables, cleaner) if variables else {}
    images: list[Image] = []
    reader = _Reader(cleaner, form, images)
    plain = [
        reader.plain(f"messages[{index}]", message)
        for index, message in enumerate(_decoded(_MESSAGES, messages, "messages"))
    ]
    return Conversation(plain, named, tuple(images))


class _Reader(NamedTuple):
    """Reads one conversation."""

    cleaner: Cleaner
    form: ContentForm
    images: list[Image]

    def plain(self, where: str, message: _Message) -> dict[str, Any]:
        if message.role not in _ROLES or message.tool_calls or message.function_call:
            raise _unsupported(where, "holds a role or tool call that this deployment cannot take")
        role = "system" if message.role == "developer" else message.role
        plain: dict[str, Any] = {"role": role, "content": self._content(where, message.content)}
        if message.name is not None:
            plain["name"] = self.cleaner.clean(f"{where}.name", message.name)
        return plain

    def _content(self, where: str, content: str | list[_Block] | None) -> Any:  # noqa: ANN401 - text or blocks
        where += ".content"
        if not isinstance(content, list):
            text = self.cleaner.clean(where, content or "")
            return [_text(text)] if self.form.has_only_blocks else text
        count = len(self.images)
        blocks = [self._block(f"{where}[{i}]", block) for i, block in enumerate(content)]
        has_images = len(self.images) > count
        if self.form.has_only_blocks or (has_images and self.form.has_blocks):
            return self._cleaned(where, blocks)
        # Cleaned as the whole that the model reads: a token must not come about by joining.
        text = self.cleaner.clean(where, "\n".join(b["text"] for b in blocks if "text" in b))
        shown = [self.form.placeholder] * (len(self.images) - count)
        return "\n".join((*shown, text)) if shown else text

    def _cleaned(self, where: str, blocks: list[dict[str, str]]) -> list[dict[str, str]]:
        """Clean each text; a template may write them without anything in between."""
        cleaned = [
            _text(self.cleaner.clean(where, b["text"])) if "text" in b else b for b in blocks
        ]
        self.cleaner.check(where, "".join(b.get("text", "") for b in cleaned))
        return cleaned

    def _block(self, where: str, block: _Block) -> dict[str, str]:
        if block.type == "text":
            return _text(block.text)
        if block.type != "image_url" or block.image_url is None or not self.form.takes_images:
            raise _unsupported(where, "is nothing that this deployment can take")
        self.images.append(Image(f"{where}.image_url.url", block.image_url.url))
        return {"type": "image"}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _named(variables: bytes | msgspec.Raw, cleaner: Cleaner) -> dict[str, Any]:
    param = "chat_template_kwargs"
    named: dict[str, Any] = _decoded(_VARIABLES, variables, param)
    if len(named) > VARIABLES_MAX:
        raise invalid(param, f"`{param}` has {len(named)} entries; {VARIABLES_MAX} at most.")
    for name, value in named.items():
        if name in _RESERVED or not name.isidentifier():
            raise invalid(param, f"`{param}` may not set this name.")
        if isinstance(value, str):
            named[name] = cleaner.clean(param, value)
    return named


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw, param: str) -> Any:  # noqa: ANN401 - the decoder says
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(param, f"`{param}` does not have the expected form.") from error


def invalid(param: str, message: str) -> TurnpikeError:
    """Return the refusal of a value."""
    return TurnpikeError(Reason.INVALID_VALUE, message, param=param)


def _unsupported(param: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.UNSUPPORTED_PARAMETER, f"`{param}` {what}.", param=param)
