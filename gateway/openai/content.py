"""What a chat request holds beyond plain text: media, and how its prompt is made; pure.

A client's own chat template is code that runs for it, so its key needs the scope for it. Arguments
of a template or of an image processor are bounded, and none may take the place of what the request
says elsewhere: that would let a template in by the back door.
"""

from typing import Any, Final, NamedTuple, Protocol

import msgspec

from gateway.call import Media, ReadRules
from gateway.openai.messages import Contents, Message
from kit.errors import Reason, TurnpikeError

TEMPLATE_SCOPE: Final = "chat_template"
"""Scope of keys that may bring a chat template."""

TEMPLATE_BYTES_MAX: Final = 64 * 1024
"""Longest chat template of a client, bytes."""

ARGUMENTS_MAX: Final = 32
"""Most entries of `chat_template_kwargs` and of `mm_processor_kwargs`."""

ARGUMENTS_BYTES_MAX: Final = 16 * 1024
"""Longest JSON of either, bytes."""

_FIELDS: Final = ("chat_template", "chat_template_kwargs", "mm_processor_kwargs")
_RESERVED: Final = frozenset(
    {"messages", "conversation", "conversations", "tools", "documents", "tokenizer", "self"}
    | {"chat_template", "tokenize", "tokenizer_kwargs", "padding", "truncation", "max_length"}
    | {"add_generation_prompt", "continue_final_message", "bos_token", "eos_token"}
    | {"return_tensors", "return_dict", "return_assistant_tokens_mask"}
    | {"raise_exception", "strftime_now"}
)


class Content(NamedTuple):
    """What was found; `more_bytes` is by how much the prompt's text differs from the messages."""

    features: tuple[str, ...] = ()
    media: Media | None = None
    more_bytes: int = 0


class ContentRequest(Protocol):
    """The fields of a request that are read here."""

    messages: list[Message]
    chat_template: str | None
    chat_template_kwargs: dict[str, Any] | None
    mm_processor_kwargs: dict[str, Any] | None


PLAIN_CONTENT: Final = Content()


def read_content(
    request: ContentRequest,
    fields: dict[str, msgspec.Raw],
    rules: ReadRules,
    contents: Contents | None,
) -> Content:
    """Check template and arguments; a field that is null is taken out of `fields`.

    `contents` is what the messages hold beyond text, None for nothing.

    Raises:
        TurnpikeError: 400 with `param`, or KEY_SCOPE for a template that the key may not bring.
    """
    features: set[str] = set()
    media, more_bytes = None, 0
    if contents is not None:
        features |= contents.features
        media = contents.media(fields["messages"])
        more_bytes -= media.inline_bytes
    for name in _FIELDS:
        if name not in fields:
            continue
        if getattr(request, name) is None:
            del fields[name]
            continue
        if name == TEMPLATE_SCOPE:
            _check_template(request.chat_template or "", rules)
        else:
            _check_arguments(name, getattr(request, name), fields[name])
        if name != "chat_template_kwargs":
            features.add(name)
        more_bytes += len(fields[name])
    return Content(tuple(sorted(features)), media, more_bytes)


def _check_template(source: str, rules: ReadRules) -> None:
    if TEMPLATE_SCOPE not in rules.scopes:
        raise TurnpikeError(
            Reason.KEY_SCOPE,
            f"chat_template needs a key with the scope {TEMPLATE_SCOPE}.",
            param="chat_template",
        )
    size = len(source.encode())
    if size > TEMPLATE_BYTES_MAX:
        raise _invalid("chat_template", f"has {size} bytes; {TEMPLATE_BYTES_MAX} at most.")


def _check_arguments(name: str, arguments: dict[str, Any], raw: msgspec.Raw) -> None:
    if len(arguments) > ARGUMENTS_MAX:
        raise _invalid(name, f"has {len(arguments)} entries; {ARGUMENTS_MAX} at most.")
    if len(raw) > ARGUMENTS_BYTES_MAX:
        raise _invalid(name, f"has {len(raw)} bytes; {ARGUMENTS_BYTES_MAX} at most.")
    if name == "chat_template_kwargs" and not _RESERVED.isdisjoint(arguments):
        raise _invalid(name, f"may not set {min(_RESERVED.intersection(arguments))}.")


def _invalid(param: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, f"{param} {what}", param=param)
