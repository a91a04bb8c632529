"""OpenAI's images and speech as client APIs: checks, and how much may be used; pure.

Source: OpenAI API reference, "Create image" and "Create speech" (read 2026-11).
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from gateway.call import Bounds, ModelCall, ReadRules, Sizes
from gateway.openai.api import OpenAiApi
from gateway.openai.bodies import decode
from gateway.openai.fields import unknown_fields
from gateway.openai.figures import Whole, whole
from gateway.openai.routing import take_wishes, timeout_ms_of
from gateway.openai.schema import RoutedRequest
from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import router_pb2

IMAGES_MAX: Final = 10
PROMPT_CHARS_MAX: Final = 32_000
INPUT_CHARS_MAX: Final = 4_096
Name = Annotated[str, Meta(min_length=1, max_length=256)]


class ImageRequest(RoutedRequest, kw_only=True):
    """`POST /v1/images/generations`."""

    model: Name
    prompt: Annotated[str, Meta(min_length=1, max_length=PROMPT_CHARS_MAX)]
    background: Literal["transparent", "opaque", "auto"] | None = None
    complexity: Literal["low", "medium", "high"] | None = None
    frame_count: Whole | None = None
    frame_duration_ms: Whole | None = None
    moderation: Literal["low", "auto"] | None = None
    n: Whole | None = None
    output_compression: Whole | None = None
    output_format: Literal["png", "webp", "jpeg", "gif", "svg"] | None = None
    partial_images: Whole | None = None
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"] | None = (
        None
    )
    response_format: Literal["url", "b64_json"] | None = None
    safety_identifier: str | None = None
    size: Annotated[str, Meta(pattern=r"^(auto|[1-9]\d{1,4}x[1-9]\d{1,4})$")] | None = None
    stream: bool | None = None
    style: Literal["vivid", "natural"] | None = None
    user: str | None = None


class Voice(msgspec.Struct):
    """A voice of the caller's own."""

    id: Name


class SpeechRequest(RoutedRequest, kw_only=True):
    """`POST /v1/audio/speech`."""

    model: Name
    input: Annotated[str, Meta(min_length=1, max_length=INPUT_CHARS_MAX)]
    voice: Name | Voice
    instructions: Annotated[str, Meta(max_length=INPUT_CHARS_MAX)] | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    speed: Annotated[float, Meta(ge=0.25, le=4)] | None = None
    stream_format: Literal["sse", "audio"] | None = None
    stream: bool | None = None


_decode_image: Final = msgspec.json.Decoder(ImageRequest).decode
_decode_speech: Final = msgspec.json.Decoder(SpeechRequest).decode
_IMAGE_FIELDS: Final = frozenset(ImageRequest.__struct_encode_fields__)
_SPEECH_FIELDS: Final = frozenset(SpeechRequest.__struct_encode_fields__)
RANGES: Final = {
    "output_compression": (0, 100),
    "partial_images": (0, 3),
    "frame_count": (2, 16),
    "frame_duration_ms": (1, 655_350),
}


class ImageApi(OpenAiApi):
    """`POST /v1/images/generations`; `timeout_max_ms` is the largest and default time limit."""

    route: Final = "POST /v1/images/generations"

    def __init__(self, *, timeout_max_ms: int) -> None:
        self._timeout_max_ms = timeout_max_ms

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body; see `Api.read`."""
        request, fields = decode(body, _decode_image)
        unknown = unknown_fields(fields.keys(), _IMAGE_FIELDS, is_strict=rules.is_strict)
        episode_id, routing, ignored = take_wishes(request, fields, rules)
        count = 1 if request.n is None else whole("n", request.n, 1, IMAGES_MAX)
        for name, (least, most) in RANGES.items():
            if (value := getattr(request, name)) is not None:
                whole(name, value, least, most)
        if request.stream:
            raise unsupported("stream", "Images are not streamed here.")
        if request.partial_images:
            raise unsupported("partial_images", "Images are not streamed here.")
        return ModelCall(
            model=request.model,
            fields=fields,
            is_streaming=False,
            include_usage=None,
            asked_max_tokens=None,
            timeout_ms=timeout_ms_of(request, self._timeout_max_ms),
            prompt_bytes=len(fields["prompt"]),
            choice_count=count,
            operation=router_pb2.OPERATION_IMAGE,
            unknown_fields=unknown,
            ignored=ignored,
            routing=routing,
            episode_id=episode_id,
            unit_count_max=count,
        )


class SpeechApi(OpenAiApi):
    """`POST /v1/audio/speech`; `timeout_max_ms` is the largest and default time limit."""

    route: Final = "POST /v1/audio/speech"

    def __init__(self, *, timeout_max_ms: int) -> None:
        self._timeout_max_ms = timeout_max_ms

    def read(self, body: bytes, rules: ReadRules) -> ModelCall:
        """Check a body; see `Api.read`."""
        request, fields = decode(body, _decode_speech)
        unknown = unknown_fields(fields.keys(), _SPEECH_FIELDS, is_strict=rules.is_strict)
        episode_id, routing, ignored = take_wishes(request, fields, rules)
        if request.stream:
            raise unsupported("stream", "Speech comes as bytes of sound, not as events.")
        if request.stream_format == "sse":
            raise unsupported("stream_format", "Speech comes as bytes of sound, not as events.")
        return ModelCall(
            model=request.model,
            fields=fields,
            is_streaming=True,
            include_usage=None,
            asked_max_tokens=None,
            timeout_ms=timeout_ms_of(request, self._timeout_max_ms),
            prompt_bytes=len(fields["input"]),
            operation=router_pb2.OPERATION_SPEECH,
            unknown_fields=unknown,
            ignored=ignored,
            routing=routing,
            episode_id=episode_id,
            unit_count_max=len(request.input),
        )


def media_bounds(call: ModelCall, model: Sizes) -> Bounds:
    """Return what the request may use of a model, in tokens; none where they cost nothing.

    An answer may have the model's default for each image. Sound may fill the context.
    """
    if not model.is_sold_by_tokens:
        return Bounds(max_tokens=1, prompt_tokens_max=0, completion_tokens_max=0)
    prompt_tokens_max = model.context_length
    if call.operation != router_pb2.OPERATION_TRANSCRIPTION:
        of_text = -(-call.prompt_bytes * model.prompt_tokens_per_kilobyte_max // 1024)
        prompt_tokens_max = min(of_text, prompt_tokens_max)
    completion_tokens_max = model.default_max_tokens * call.choice_count
    return Bounds(
        max_tokens=completion_tokens_max,
        prompt_tokens_max=prompt_tokens_max,
        completion_tokens_max=completion_tokens_max,
    )


def unsupported(param: str, message: str) -> TurnpikeError:
    """Return the refusal of what is known and not offered."""
    return TurnpikeError(Reason.UNSUPPORTED_PARAMETER, message, param=param)
