"""Chat templates: turns OpenAI messages into the prompt text of a model that takes only text.

The template is the operator's, from the model's `tokenizer_config.json` or a `.jinja` file; a
client's own runs in a process apart, see `template_pool`. Which form of contents it reads, and
what it writes for an image, is tried out when it is loaded. Reads a file then, never later.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import TemplateSyntaxError

from kit.clock import Clock
from services.router.template_engine import (
    OUTSIDE,
    PromptTooLongError,
    TemplateRefusalError,
    compile_template,
    variables,
    write,
)
from services.router.template_jobs import Job
from services.router.template_messages import (
    Cleaner,
    ContentForm,
    Conversation,
    OnSpecialToken,
    invalid,
    read_conversation,
)

TEMPLATE_BYTES_MAX: Final = 256 * 1024
"""Largest template source."""

PROMPT_CHARS_MAX: Final = 16 * 1024 * 1024
"""Longest text a template may write."""

_MARKER: Final = re.compile(r"<[|\uff5c][^<>\s]{1,64}[|\uff5c]>")
_PROBE: Final = (["system", "user", "assistant"], ["user", "assistant"], ["user"])
_PROBE_TEXT: Final = "turnpikeprobe"
_BRACKETED: Final = re.compile(r"[<\[].*[>\]]", re.DOTALL)
_RAW_BLOCK: Final = re.compile(r"""['"]type['"]""")
_TOKEN_KEYS: Final = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token")


class TemplateFileError(ValueError):
    """The operator's template file cannot be used; the message says why."""


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
        try:
            self._template = compile_template(source, strftime_now=self._strftime_now)
        except TemplateSyntaxError as error:
            raise TemplateFileError(
                f"The chat template does not parse (line {error.lineno})."
            ) from error
        self._form, image_marks = self._probe_contents()
        self._tokens = {*special_tokens, bos_token, eos_token, *self._markers(), *image_marks}
        self._cleaner = Cleaner(self._tokens, on_special_token)

    def with_placeholder(self, placeholder: str) -> "ChatTemplate":
        """Let a template that reads only text take images: `placeholder` stands for each."""
        if placeholder and not self._form.takes_images:
            self._form = self._form._replace(placeholder=placeholder)
            self._cleaner = Cleaner({*self._tokens, placeholder}, self._on_special_token)
        return self

    def read(
        self,
        messages: bytes | msgspec.Raw,
        kwargs: bytes | msgspec.Raw = b"",
        *,
        form: ContentForm | None = None,
    ) -> Conversation:
        """Return what a template gets of a request's `messages` and `chat_template_kwargs`, JSON.

        `form` is how another template than this one wants contents.

        Raises:
            TurnpikeError: INVALID_VALUE or UNSUPPORTED_PARAMETER, with `param`.
        """
        return read_conversation(messages, kwargs, cleaner=self._cleaner, form=form or self._form)

    def render(self, conversation: Conversation) -> str:
        """Return the prompt, up to where the assistant begins to speak.

        A leading BOS token is left out: the engine puts its own.

        Raises:
            TurnpikeError: INVALID_VALUE, with `param`.
        """
        try:
            text = self._write(conversation.messages, conversation.named)
        except TemplateRefusalError:
            raise invalid("messages", "The model's chat template refuses the messages.") from None
        except PromptTooLongError:
            raise invalid(
                "messages", f"The prompt is longer than {PROMPT_CHARS_MAX} letters."
            ) from None
        except OUTSIDE:
            # Not chained: the text of the error may repeat a message.
            raise invalid(
                "messages", "The messages do not fit the model's chat template."
            ) from None
        return self.without_bos(text)

    def cleaned(self, param: str, text: str) -> str:
        """Return a prompt that is sent without the template, free of special tokens.

        Raises:
            TurnpikeError: INVALID_VALUE, with `param`, when it may not be made free of them.
        """
        return self._cleaner.clean(param, text)

    def job(self, source: str, conversation: Conversation, *, chars_max: int) -> Job:
        """Return how a client's own template is rendered for this model, in a worker."""
        return Job(
            source=source,
            messages=conversation.messages,
            named=dict(conversation.named),
            bos_token=self._bos_token,
            eos_token=self._eos_token,
            unix_s=self._clock.unix_ms() // 1000,
            chars_max=chars_max,
        )

    def without_bos(self, prompt: str) -> str:
        """Return a prompt without a leading BOS token."""
        return prompt.removeprefix(self._bos_token) if self._bos_token else prompt

    def _write(self, messages: list[dict[str, Any]], named: Mapping[str, Any]) -> str:
        given = variables(messages, named, bos_token=self._bos_token, eos_token=self._eos_token)
        return write(self._template, given, chars_max=PROMPT_CHARS_MAX)

    def _tried(self, messages: list[dict[str, Any]]) -> str:
        """Return what the template writes by itself; empty when it does not take the messages."""
        try:
            return self._write(messages, {})
        except (TemplateRefusalError, PromptTooLongError, *OUTSIDE):
            return ""

    def _probe_contents(self) -> tuple[ContentForm, set[str]]:
        """Return how contents are wanted, and what stands for an image in a prompt."""
        text = {"type": "text", "text": _PROBE_TEXT}
        plain, blocks, image = (
            self._tried([{"role": "user", "content": content}])
            for content in (_PROBE_TEXT, [text], [{"type": "image"}, text])
        )
        if _PROBE_TEXT not in blocks or _RAW_BLOCK.search(blocks):
            return ContentForm(), set()
        has_only_blocks = _PROBE_TEXT not in plain
        if image == blocks or _PROBE_TEXT not in image or _RAW_BLOCK.search(image):
            return ContentForm(has_only_blocks=has_only_blocks), set()
        form = ContentForm(has_blocks=True, has_only_blocks=has_only_blocks)
        return form, {*_MARKER.findall(image), _inserted(blocks, image)}

    def _markers(self) -> set[str]:
        """Return what looks like a special token in what the template writes by itself."""
        for roles in _PROBE:
            if text := self._tried([{"role": role, "content": "x"} for role in roles]):
                return set(_MARKER.findall(text))
        return set()

    def _strftime_now(self, pattern: str) -> str:
        return datetime.fromtimestamp(self._clock.unix_ms() / 1000, UTC).strftime(pattern)


def _inserted(before: str, after: str) -> str:
    """Return what was put into `before`, from one bracket to another if it can be read so."""
    size = len(after) - len(before)
    starts = [
        k for k in range(len(before) + 1) if before[:k] + after[k : k + size] + before[k:] == after
    ]
    pieces = [after[k : k + size].strip() for k in starts]
    return next((piece for piece in pieces if _BRACKETED.fullmatch(piece)), "".join(pieces[:1]))


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
