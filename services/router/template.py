"""Chat templates: turns OpenAI messages into the prompt text of a model that takes only text.

The template is the operator's, from the model's `tokenizer_config.json` or a `.jinja` file; a
client never brings one. It runs in Jinja's immutable sandbox with bounds on its own size and on
what it writes. Special tokens in a client's text would let it forge turns, so they are replaced by
a space (the default) or refused; a replacement never makes a new token, and the prompt that is
billed is the one the model reads. Reads a file when a template is loaded, never later.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
from jinja2 import TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kit.clock import Clock
from kit.errors import Reason, TurnpikeError

TEMPLATE_BYTES_MAX: Final = 256 * 1024
"""Largest template source."""

PROMPT_CHARS_MAX: Final = 16 * 1024 * 1024
"""Longest text a template may write."""

VARIABLES_MAX: Final = 32
"""Most entries of `chat_template_kwargs`."""

_RESERVED: Final = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"}
    | {"raise_exception", "strftime_now"}
)
_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_MARKER: Final = re.compile(r"<[|\uff5c][^<>\s]{1,64}[|\uff5c]>")
_PROBE: Final = (["system", "user", "assistant"], ["user", "assistant"], ["user"])
_TOKEN_KEYS: Final = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token")


class OnSpecialToken(StrEnum):
    """What happens to a model's special token inside a client's text."""

    STRIP = "strip"
    REFUSE = "refuse"


class TemplateFileError(ValueError):
    """The operator's template file cannot be used; the message says why."""


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block] | None = None
    name: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None


class _TemplateRefusalError(Exception):
    """The template called `raise_exception`."""


_MESSAGES: Final = msgspec.json.Decoder(list[_Message])
_VARIABLES: Final = msgspec.json.Decoder(dict[str, str | int | float | bool | None])


class ChatTemplate:
    """One model's chat template, compiled."""

    def __init__(
        self,
        source: str,
        *,
        clock: Clock,
        bos_token: str = "",
        eos_token: str = "",
        special_tokens: Iterable[str] = (),
        on_special_token: OnSpecialToken = OnSpecialToken.STRIP,
    ) -> None:
        """Compile `source`; `special_tokens` adds to those that the template itself writes.

        Raises:
            TemplateFileError: The source is too large or not a template.
        """
        if len(source.encode()) > TEMPLATE_BYTES_MAX:
            raise TemplateFileError(f"The chat template is longer than {TEMPLATE_BYTES_MAX} bytes.")
        self._clock = clock
        self._bos_token = bos_token
        self._eos_token = eos_token
        self._on_special_token = on_special_token
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = self._strftime_now
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateFileError(
                f"The chat template does not parse (line {error.lineno})."
            ) from error
        known = {*special_tokens, bos_token, eos_token, *self._markers()} - {""}
        ordered = sorted(known, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def render(self, messages: bytes | msgspec.Raw, variables: bytes | msgspec.Raw = b"") -> str:
        """Return the prompt, up to where the assistant begins to speak.

        A leading BOS token is left out: the engine puts its own. `developer` counts as `system`;
        the texts of a content array are joined by a line feed, as vLLM does.

        Args:
            messages: The request's `messages`, JSON.
            variables: Its `chat_template_kwargs`, JSON; empty for none.

        Raises:
            TurnpikeError: INVALID_VALUE or UNSUPPORTED_PARAMETER, with `param`.
        """
        named = self._named(variables) if variables else {}
        conversation = [
            self._plain(f"messages[{index}]", message)
            for index, message in enumerate(_decoded(_MESSAGES, messages, "messages"))
        ]
        try:
            text = self._write(conversation, named)
        except _TemplateRefusalError:
            raise _invalid("messages", "The model's chat template refuses the messages.") from None
        except _OUTSIDE:
            # Not chained: the text of the error may repeat a message.
            raise _invalid(
                "messages", "The messages do not fit the model's chat template."
            ) from None
        return text.removeprefix(self._bos_token) if self._bos_token else text

    def cleaned(self, param: str, text: str) -> str:
        """Return a prompt that is sent without the template, free of special tokens.

        Raises:
            TurnpikeError: INVALID_VALUE, with `param`, when it may not be made free of them.
        """
        return self._clean(param, text)

    def _write(self, messages: list[dict[str, str]], named: Mapping[str, Any]) -> str:
        pieces, size = [], 0
        given = {
            "messages": messages,
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
            "bos_token": self._bos_token,
            "eos_token": self._eos_token,
        }
        for piece in self._template.generate({**named, **given}):
            pieces.append(piece)
            size += len(piece)
            if size > PROMPT_CHARS_MAX:
                raise _invalid("messages", f"The prompt is longer than {PROMPT_CHARS_MAX} letters.")
        return "".join(pieces)

    def _plain(self, where: str, message: _Message) -> dict[str, str]:
        if message.role not in _ROLES or message.tool_calls or message.function_call:
            raise _unsupported(where, "holds a role or tool call that this deployment cannot take")
        role = "system" if message.role == "developer" else message.role
        plain = {"role": role, "content": self._text(where, message.content)}
        if message.name is not None:
            plain["name"] = self._clean(f"{where}.name", message.name)
        return plain

    def _text(self, where: str, content: str | list[_Block] | None) -> str:
        if isinstance(content, list):
            for index, block in enumerate(content):
                if block.type != "text":
                    raise _unsupported(f"{where}.content[{index}]", "is not text")
            content = "\n".join(block.text for block in content)
        return self._clean(f"{where}.content", content or "")

    def _clean(self, where: str, text: str) -> str:
        if self._special is None or self._special.search(text) is None:
            return text
        if self._on_special_token is OnSpecialToken.STRIP:
            text = self._special.sub(" ", text)
            if self._special.search(text) is None:
                return text
        raise _invalid(where, f"`{where}` holds a special token of the model.")

    def _named(self, variables: bytes | msgspec.Raw) -> dict[str, Any]:
        param = "chat_template_kwargs"
        named: dict[str, Any] = _decoded(_VARIABLES, variables, param)
        if len(named) > VARIABLES_MAX:
            raise _invalid(param, f"`{param}` has {len(named)} entries; {VARIABLES_MAX} at most.")
        for name, value in named.items():
            if name in _RESERVED or not name.isidentifier():
                raise _invalid(param, f"`{param}` may not set this name.")
            if isinstance(value, str):
                named[name] = self._clean(param, value)
        return named

    def _markers(self) -> set[str]:
        """Return what looks like a special token in what the template writes by itself."""
        for roles in _PROBE:
            try:
                text = self._write([{"role": role, "content": "x"} for role in roles], {})
            except (_TemplateRefusalError, TurnpikeError, *_OUTSIDE):
                continue
            return set(_MARKER.findall(text))
        return set()

    def _strftime_now(self, pattern: str) -> str:
        return datetime.fromtimestamp(self._clock.unix_ms() / 1000, UTC).strftime(pattern)


_OUTSIDE: Final = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RecursionError,
)
"""What an operator's template can raise while it runs."""


def load_chat_template(
    path: Path,
    *,
    clock: Clock,
    on_special_token: OnSpecialToken = OnSpecialToken.STRIP,
) -> ChatTemplate:
    """Return the template of a `tokenizer_config.json`, or of a `.jinja` file as it is.

    A `tokenizer_config.json` without a template takes the `chat_template.jinja` beside it, and a
    `.jinja` file the tokens of the `tokenizer_config.json` beside it.

    Raises:
        TemplateFileError: A file is missing, too large or holds no template.

    Source: huggingface/transformers, `tokenizer_config.json` and chat templates, read 2026-01.
    """
    is_config = path.suffix == ".json"
    config_path = path if is_config else path.with_name("tokenizer_config.json")
    config = _config(config_path) if is_config or config_path.exists() else {}
    source = _source(config) if is_config else ""
    if not source:
        source = _read(path.with_name("chat_template.jinja") if is_config else path)
    return ChatTemplate(
        source,
        clock=clock,
        bos_token=_token(config.get("bos_token")),
        eos_token=_token(config.get("eos_token")),
        special_tokens=_special_tokens(config),
        on_special_token=on_special_token,
    )


CONFIG_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest `tokenizer_config.json`; some list every reserved token."""


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise TemplateFileError(f"{path} is larger than {CONFIG_BYTES_MAX} bytes.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateFileError(f"{path} cannot be read as text.") from error


def _config(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(_read(path), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise TemplateFileError(f"{path} is not a JSON object.") from error


def _source(config: Mapping[str, Any]) -> str:
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else ""


def _token(value: Any) -> str:  # noqa: ANN401 - any JSON value may stand there
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _special_tokens(config: Mapping[str, Any]) -> set[str]:
    tokens = {_token(config.get(key)) for key in _TOKEN_KEYS}
    tokens.update(_token(value) for value in config.get("additional_special_tokens") or ())
    for entry in (config.get("added_tokens_decoder") or {}).values():
        if isinstance(entry, dict) and entry.get("special"):
            tokens.add(_token(entry))
    return {token for token in tokens if token.strip()}


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes | msgspec.Raw, param: str) -> Any:  # noqa: ANN401 - the decoder says
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(param, f"`{param}` does not have the expected form.") from error


def _tojson(value: Any, indent: int | None = None) -> str:  # noqa: ANN401 - any value of a template
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(_message: str = "") -> NoReturn:
    raise _TemplateRefusalError


def _invalid(param: str, message: str) -> TurnpikeError:
    return TurnpikeError(Reason.INVALID_VALUE, message, param=param)


def _unsupported(param: str, what: str) -> TurnpikeError:
    return TurnpikeError(Reason.UNSUPPORTED_PARAMETER, f"`{param}` {what}.", param=param)
