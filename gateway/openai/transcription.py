"""OpenAI's transcriptions as a client API: a form is taken apart, checked and put together; pure.

Source: OpenAI API reference, "Create transcription" (read 2026-11).
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gateway.call import ModelCall, ReadRules
from gateway.openai.api import OpenAiApi
from gateway.openai.bodies import invalid
from gateway.openai.figures import whole, wrong
from gateway.openai.media import Name, unsupported
from kit.errors import Reason, TurnpikeError
from kit.multipart import MultipartError, Part, boundary_of, decode, encode
from kit.sound import wav_seconds
from turnpike.router.v1 import router_pb2

LEAST_BYTES_PER_S: Final = 1_000
"""Sound of which a second has fewer bytes (8 kbit/s, MP3's lowest) is longer than its bound."""

_PROMPT_CHARS_MAX: Final = 32_000
_EXTENSION: Final = re.compile(r"\.([A-Za-z0-9]{1,5})$")
_MEDIA_TYPE: Final = re.compile(r"(?:audio|video)/[A-Za-z0-9.+-]{1,40}")
_Texts = list[Annotated[str, Meta(max_length=_PROMPT_CHARS_MAX)]]


class TranscriptionRequest(msgspec.Struct):
    """The fields of a form but its file; a list is spelled as repeated fields `name[]`."""

    model: Name
    chunking_strategy: str | None = None
    include: list[Literal["logprobs"]] | None = None
    keywords: _Texts | None = None
    known_speaker_names: _Texts | None = None
    known_speaker_references: list[str] | None = None
    language: Annotated[str, Meta(max_length=16)] | None = None
    languages: list[Annotated[str, Meta(max_length=16)]] | None = None
    prompt: Annotated[str, Meta(max_length=_PROMPT_CHARS_MAX)] | None = None
    response_format: (
        Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] | None
    ) = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    timeout_ms: int | None = None
    timestamp_granularities: list[Literal["word", "segment"]] | None = None


_LISTS: Final = frozenset(
    {"include", "keywords", "known_speaker_names", "known_speaker_references", "languages"}
    | {"timestamp_granularities"}
)
_INNER: Final = frozenset(
    f"chunking_strategy[{name}]"
    for name in ("type", "prefix_padding_ms", "silence_duration_ms", "threshold")
)
"""How clients spell an object's fields in a form."""

_OURS: Final = frozenset({"timeout_ms", "stream"})
"""Fields that are not sent on."""


class TranscriptionApi(OpenAiApi):
    """`POST /v1/audio/transcriptions`.

    `content_type` is the request's header, `file_bytes_max` bounds the file, `timeout_max_ms` is
    the largest and default time limit.
    """

    route: Final = "POST /v1/audio/transcriptions"

    def __init__(self, *, content_type: str, file_bytes_max: int, timeout_max_ms: int) -> None:
        self._content_type = content_type
        self._file_bytes_max = file_bytes_max
        self._timeout_max_ms = timeout_max_ms

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a form; see `Api.read`."""
        file, fields = _taken_apart(body, self._content_type)
        if len(file.data) > self._file_bytes_max:
            raise TurnpikeError(
                Reason.PAYLOAD_TOO_LARGE,
                f"file is longer than {self._file_bytes_max} bytes.",
                param="file",
            )
        request = _checked(fields)
        asked, most = request.timeout_ms, self._timeout_max_ms
        content_type, form = _put_together(file, fields)
        return ModelCall(
            model=request.model,
            fields={},
            is_streaming=False,
            include_usage=None,
            asked_max_tokens=None,
            timeout_ms=most if asked is None else whole("timeout_ms", asked, 1, most),
            prompt_bytes=len((request.prompt or "").encode()),
            operation=router_pb2.OPERATION_TRANSCRIPTION,
            episode_id=rules.episode_id,
            unit_count_max=seconds_max(file.data),
            content_type=content_type,
            form=form,
        )


def seconds_max(sound: bytes) -> int:
    """Return the most seconds that a file of sound lasts: from its form, else from its size.

    One second more, as upstreams count what they make of it.
    """
    seconds = wav_seconds(sound)
    if seconds is None:
        seconds = len(sound) / LEAST_BYTES_PER_S
    return math.ceil(seconds) + 1


def _taken_apart(body: bytes, content_type: str) -> tuple[Part, dict[str, list[str]]]:
    """Return the file and the values of every other field."""
    boundary = boundary_of(content_type)
    if boundary is None:
        raise TurnpikeError(
            Reason.UNSUPPORTED_MEDIA_TYPE,
            "The Content-Type must be multipart/form-data with a boundary.",
        )
    try:
        parts = decode(body, boundary)
    except MultipartError as error:
        raise TurnpikeError(Reason.BAD_REQUEST, str(error)) from error
    files = [part for part in parts if part.name == "file"]
    if not files:
        raise TurnpikeError(Reason.MISSING_FIELD, "file is required.", param="file")
    if len(files) > 1:
        raise wrong("file", "file is given twice.")
    if not files[0].data:
        raise wrong("file", "file is empty.")
    fields: dict[str, list[str]] = {}
    for part in parts:
        if part is not files[0]:
            name, text = _field(part)
            fields.setdefault(name, []).append(text)
    return files[0], fields


def _field(part: Part) -> tuple[str, str]:
    name = part.name.removesuffix("[]")
    if name not in TranscriptionRequest.__struct_fields__ and name not in _INNER:
        raise unsupported(_shown(name), f"{_shown(name)} is not a field of this form.")
    try:
        return name, part.data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise wrong(name, f"{name} is not UTF-8 text.") from error


def _checked(fields: Mapping[str, list[str]]) -> TranscriptionRequest:
    values: dict[str, str | list[str]] = {}
    for name, texts in fields.items():
        if name not in _LISTS and len(texts) > 1:
            raise wrong(name, f"{name} is given twice.")
        values[name] = texts if name in _LISTS else texts[0]
    try:
        request = msgspec.convert(values, TranscriptionRequest, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from error
    if request.stream:
        raise unsupported("stream", "Transcriptions are not streamed here.")
    if request.timestamp_granularities and request.response_format != "verbose_json":
        raise wrong(
            "timestamp_granularities",
            "timestamp_granularities needs response_format to be verbose_json.",
        )
    if request.include and request.response_format not in (None, "json"):
        raise wrong("include", "include needs response_format to be json.")
    return request


def _put_together(file: Part, fields: Mapping[str, list[str]]) -> tuple[str, bytes]:
    """Return the form anew; of the file's name only its ending is kept, which says what it is."""
    parts = []
    for name, texts in fields.items():
        if name not in _OURS:
            spelled = f"{name}[]" if name in _LISTS else name
            parts += [Part(spelled, text.encode()) for text in texts]
    ending = _EXTENSION.search(file.filename or "")
    kind = _MEDIA_TYPE.match(file.content_type)
    name = f"audio.{ending[1].lower()}" if ending else "audio"
    parts.append(Part("file", file.data, name, kind[0] if kind else ""))
    return encode(parts)


def _shown(name: str) -> str:
    """Return a name that a client made up as it may stand in an answer."""
    return "".join(letter if letter.isprintable() else "?" for letter in name[:40])
