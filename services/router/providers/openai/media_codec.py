"""Images, speech and transcriptions as OpenAI spells them: requests out, answers in.

Pure. Units are counted here: images by those in the answer, characters by those of the request,
seconds by what the upstream says, else by what the sound or its text tells, in the caller's favour.
Source: OpenAI API reference, pages on creating images, speech and transcriptions (read 2026-11).
"""

import math
import re
from typing import Final, NamedTuple

import msgspec

from kit.multipart import MultipartError, Part, boundary_of, decode, encode
from kit.sound import wav_seconds
from services.router.pricing import TOKENS_MAX
from services.router.providers.openai.errors import JUNK, error_in_answer
from services.router.providers.openai.forward import invalid
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

UPSTREAM: Final = usage_pb2.USAGE_SOURCE_UPSTREAM
ESTIMATED: Final = usage_pb2.USAGE_SOURCE_ESTIMATED

MOST_BYTES_PER_S: Final = 32_000
"""Compressed sound of 256 kbit/s: an uncounted file lasts at least its size by this."""

_IMAGE_DROPPED: Final = frozenset({"stream", "partial_images"})
_SPEECH_DROPPED: Final = frozenset({"stream", "stream_format"})
_TEXT: Final = "text/plain; charset=utf-8"
_CAPTIONS: Final = {"srt": _TEXT, "vtt": "text/vtt; charset=utf-8"}
_CUE_END: Final = re.compile(r"-->[ \t]*(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{3})")
_SPEECH_TYPES: Final = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_BYTES_PER_CHARACTER_MAX: Final = {
    "mp3": 2_000,
    "opus": 1_000,
    "aac": 2_000,
    "flac": 4_000,
    "wav": 5_000,
    "pcm": 5_000,
}
"""Sound of a letter at 10 letters a second, for the usual rates; it bounds from above."""

_WIDE_FROM: Final = "\u2e80"
_WIDE_MORE: Final = 1.5
"""Characters from here on are syllables or words: each is spoken for so many letters more."""

_SOUND: Final = re.compile(rb"audio/[a-z0-9.+-]{1,40}")
_UNSAID: Final = frozenset({b"", b"application/octet-stream", b"binary/octet-stream"})


_NULL: Final = msgspec.Raw(b"null")


class _Usage(msgspec.Struct):
    input_tokens: int | float | None = None
    output_tokens: int | float | None = None
    seconds: int | float | None = None


class _Image(msgspec.Struct):
    url: msgspec.Raw = _NULL
    b64_json: msgspec.Raw = _NULL


class _Images(msgspec.Struct):
    data: list[_Image]
    usage: _Usage | None = None


class _Transcription(msgspec.Struct):
    text: str
    duration: float | str | None = None
    usage: _Usage | None = None


_decode_images: Final = msgspec.json.Decoder(_Images).decode
_decode_transcription: Final = msgspec.json.Decoder(_Transcription).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_decode_number: Final = msgspec.json.Decoder(float).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def encode_image(call: Call, body: Body) -> bytes:
    """Return the request for images as the upstream gets it."""
    return _encoded(call, body, _IMAGE_DROPPED)


def encode_speech(call: Call, body: Body) -> bytes:
    """Return the request for speech as the upstream gets it."""
    return _encoded(call, body, _SPEECH_DROPPED)


class Sound(NamedTuple):
    """A request for text: what the upstream gets, and what is known about it.

    `seconds_min` is what the sound lasts at least, exactly so for plain samples.
    """

    content_type: str
    body: bytes
    wanted: str
    seconds_min: int


def encode_sound(call: Call) -> Sound:
    """Return the request for text as the upstream gets it.

    Text alone is asked for as JSON, which is the same text with the upstream's count beside it.

    Raises:
        ProviderError: `REJECTED`; the form is none.
    """
    boundary = boundary_of(call.content_type)
    try:
        parts = decode(call.form, boundary or b"")
    except MultipartError as error:
        raise ProviderError(Failure.REJECTED, str(error)) from error
    wanted, size, sent = "json", 0.0, [Part("model", call.upstream_model.encode())]
    for part in parts:
        if part.name == "response_format":
            wanted = part.data.decode("ascii", errors="replace")
        elif part.name == "file":
            seconds = wav_seconds(part.data)
            size = len(part.data) / MOST_BYTES_PER_S if seconds is None else seconds
            sent.append(part)
        elif part.name != "model":
            sent.append(part)
    asked = "json" if wanted == "text" else wanted
    sent.insert(1, Part("response_format", asked.encode()))
    content_type, body = encode(sent)
    return Sound(content_type, body, wanted, _within(size, call))


def read_images(call: Call, answer: bytes) -> Batch:
    """Return the only batch of an answer of images.

    Raises:
        ProviderError: It is an error, or not images as they were asked for.
    """
    _check_json(answer)
    try:
        images = _decode_images(answer)
    except JUNK:
        raise invalid("The upstream's answer holds no images.") from None
    is_there = all(image.url != _NULL or image.b64_json != _NULL for image in images.data)
    if not images.data or not is_there or len(images.data) > call.unit_count_max:
        raise invalid("The upstream's answer does not hold the images that were asked for.")
    tokens = _tokens(images.usage)
    tokens.unit_count, tokens.source = len(images.data), UPSTREAM
    return Batch(completion=answer, finish=router_pb2.Finish(usage=tokens, finish_reason="stop"))


def read_transcription(call: Call, sound: Sound, answer: bytes) -> Batch:
    """Return the only batch of an answer of text.

    Raises:
        ProviderError: It is an error, or not text as it was asked for.
    """
    if sound.wanted in _CAPTIONS:
        return _captions(call, sound, answer)
    _check_json(answer)
    try:
        found = _decode_transcription(answer)
    except JUNK:
        raise invalid("The upstream's answer holds no text.") from None
    tokens = _tokens(found.usage)
    seconds = _seconds(found)
    if seconds is None:
        tokens.unit_count, tokens.source = sound.seconds_min, ESTIMATED
    else:
        tokens.unit_count, tokens.source = max(1, math.ceil(seconds)), UPSTREAM
    batch = Batch(completion=answer, finish=router_pb2.Finish(usage=tokens, finish_reason="stop"))
    if sound.wanted == "text":
        batch.completion = found.text.encode() + b"\n"
        batch.content_type = _TEXT
    return batch


class SpeechReader:
    """Turns the reads of one answer of sound into batches.

    Each carries how many characters of the request the sound so far speaks: by its share of the
    whole when the upstream says how long that is, else by its size, in the caller's favour.
    """

    def __init__(self, call: Call, body: Body, *, media_type: bytes, length: bytes) -> None:
        wanted = _said(body, "response_format", "mp3")
        self._characters = call.unit_count_max
        self._total = int(length) if length.isdigit() else 0
        speed = max(0.25, _number(body, "speed", 1.0))
        text = _said(body, "input", "")
        wide = sum(letter >= _WIDE_FROM for letter in text) / max(1, len(text))
        of_letter = _BYTES_PER_CHARACTER_MAX.get(wanted, 5_000) / speed
        self._bytes_per_character = of_letter * (1 + _WIDE_MORE * wide)
        self._content_type = _sound_type(media_type, wanted)
        self._sent = 0

    def feed(self, data: bytes) -> Batch:
        """Return the batch for what was read, which is not empty."""
        is_first = not self._sent
        self._sent += len(data)
        spoken = usage_pb2.TokenUsage(
            unit_count=self._spoken(), source=UPSTREAM if self._total else ESTIMATED
        )
        batch = Batch(data=data, content_event_count=1, running_usage=spoken)
        if is_first:
            batch.content_type = self._content_type
        return batch

    def end(self) -> Batch:
        """Return the last batch.

        Raises:
            ProviderError: Nothing came.
        """
        if not self._sent:
            raise invalid("The upstream's answer holds no sound.")
        used = usage_pb2.TokenUsage(unit_count=self._characters, source=UPSTREAM)
        return Batch(finish=router_pb2.Finish(usage=used, finish_reason="stop"))

    def _spoken(self) -> int:
        if self._total:
            return min(self._characters, self._characters * self._sent // self._total)
        return min(self._characters, int(self._sent / self._bytes_per_character))


def _encoded(call: Call, body: Body, dropped: frozenset[str]) -> bytes:
    request: dict[str, object] = {
        name: value for name, value in body.items() if name not in dropped
    }
    request["model"] = call.upstream_model
    return msgspec.json.encode(request)


def _check_json(answer: bytes) -> None:
    """Refuse an error object, and what is no JSON object in UTF-8."""
    try:
        if not answer.isascii():
            # msgspec does not look into text that it carries along unread.
            answer.decode("utf-8")
        fields = _decode_object(answer)
    except JUNK:
        raise invalid("The upstream's answer is not a JSON object.") from None
    if fields.get("error", _NULL) != _NULL:
        raise error_in_answer(answer)


def _captions(call: Call, sound: Sound, answer: bytes) -> Batch:
    try:
        text = answer.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid("The upstream's answer is not UTF-8 text.") from None
    if text.lstrip().startswith("{"):
        _check_json(answer)
        raise invalid("The upstream's answer holds no captions.")
    ends = [
        3600 * int(hours or 0) + 60 * int(minutes) + int(seconds) + int(rest) / 1000
        for hours, minutes, seconds, rest in _CUE_END.findall(text)
    ]
    seconds_min = max(sound.seconds_min, _within(max(ends, default=0.0), call))
    used = usage_pb2.TokenUsage(unit_count=seconds_min, source=ESTIMATED)
    return Batch(
        completion=answer,
        content_type=_CAPTIONS[sound.wanted],
        finish=router_pb2.Finish(usage=used, finish_reason="stop"),
    )


def _tokens(usage: _Usage | None) -> usage_pb2.TokenUsage:
    prompt = (usage.input_tokens if usage is not None else None) or 0
    completion = (usage.output_tokens if usage is not None else None) or 0
    if not (0 <= prompt <= TOKENS_MAX and 0 <= completion <= TOKENS_MAX):
        raise _impossible()
    return usage_pb2.TokenUsage(
        prompt_token_count=math.ceil(prompt), completion_token_count=math.ceil(completion)
    )


def _seconds(found: _Transcription) -> float | None:
    """Return what the upstream says the sound lasts; `duration` is written as text by some."""
    said: float | str | None = found.usage.seconds if found.usage is not None else None
    said = found.duration if said is None else said
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        raise _impossible() from None
    if not 0 <= seconds <= TOKENS_MAX:
        raise _impossible()
    return seconds


def _within(seconds: float, call: Call) -> int:
    """Return whole seconds, at least one and at most what the hold was sized with."""
    return max(1, min(math.ceil(seconds), call.unit_count_max))


def _said(body: Body, name: str, default: str) -> str:
    try:
        return _decode_text(body[name]) if name in body else default
    except JUNK:
        return default


def _number(body: Body, name: str, default: float) -> float:
    try:
        return _decode_number(body[name]) if name in body else default
    except JUNK:
        return default


def _sound_type(media_type: bytes, wanted: str) -> str:
    if _SOUND.fullmatch(media_type):
        return media_type.decode("ascii")
    if media_type in _UNSAID:
        return _SPEECH_TYPES.get(wanted, "application/octet-stream")
    raise invalid("The upstream's answer is no sound.")


def _impossible() -> ProviderError:
    return ProviderError(Failure.INVALID_RESPONSE, "The upstream reported an impossible usage.")
