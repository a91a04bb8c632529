"""Images, speech and transcriptions in a vendor's words, and images back in OpenAI's; pure.

What a vendor has no word for is refused: a picture of another size or a voice of another speed is
not what was asked for. Source: see `openai_profiles`.
"""

from typing import Any, Final

import msgspec

from kit.multipart import MultipartError, boundary_of, decode
from services.router.providers.openai.errors import JUNK
from services.router.providers.openai.forward import invalid
from services.router.providers.openai.profiles import MediaRules
from services.router.providers.port import Batch, Body, Call, Failure, ProviderError
from services.router.providers.refusals import unsupported

_UNSAID: Final = frozenset({b"null", b'"auto"', b"false"})
_NEUTRAL_SPEEDS: Final = frozenset({b"1", b"1.0"})
_SIZE: Final = "size"
_FORMAT: Final = "response_format"
_USUAL_SOUND: Final = b'"mp3"'
_USUAL_TEXT: Final = "json"

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_list: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_text: Final = msgspec.json.Decoder(str).decode


def image_body(body: Body, rules: MediaRules) -> Body:
    """Return a request for images that holds only what the vendor knows.

    Raises:
        ProviderError: `UNSUPPORTED`, with `param`: there is more, and it means something.
    """
    if rules.image_fields is None:
        return body
    found = _known(body, rules.image_fields)
    raw = bytes(found.get(_FORMAT, b"null"))
    if raw in rules.image_formats:
        found[_FORMAT] = msgspec.Raw(rules.image_formats[raw])
    if rules.has_sides and _SIZE in found:
        size = found.pop(_SIZE)
        if bytes(size) not in _UNSAID:
            width, _, height = _text(size).partition("x")
            found |= {"width": _number(width), "height": _number(height)}
    return found


def speech_body(body: Body, rules: MediaRules) -> Body:
    """Return a request for speech that holds only what the vendor knows.

    Raises:
        ProviderError: `UNSUPPORTED`, with `param`: there is more, and it means something.
    """
    if rules.speech_fields is None:
        return body
    found = _known(body, rules.speech_fields)
    wanted = bytes(found.get(_FORMAT, b"null"))
    said = rules.speech_formats.get(_USUAL_SOUND if wanted == b"null" else wanted)
    if said is None:
        raise unsupported(_FORMAT)
    return {**found, **{name: msgspec.Raw(value) for name, value in said.items()}}


def check_sound(call: Call, rules: MediaRules) -> None:
    """Check that the vendor writes a transcription in the form that is asked for.

    Raises:
        ProviderError: `UNSUPPORTED`: it does not; `REJECTED`: the request is no form.
    """
    try:
        parts = decode(call.form, boundary_of(call.content_type) or b"")
    except MultipartError as error:
        raise ProviderError(Failure.REJECTED, str(error)) from error
    wanted = _USUAL_TEXT
    for part in parts:
        if part.name == _FORMAT:
            wanted = part.data.decode("ascii", errors="replace")
        if part.filename is None and part.name not in rules.sound_fields:
            raise unsupported(part.name)
    if wanted not in rules.sound_formats:
        raise unsupported(_FORMAT)


def own_images(call: Call, batch: Batch) -> None:
    """Put an answer of images into OpenAI's form, in place.

    Raises:
        ProviderError: `INVALID_RESPONSE`: it is none.
    """
    names = ("url", "b64_json", "revised_prompt")
    try:
        answer = _fields(batch.completion)
        images = [
            {name: image[name] for name in names if bytes(image.get(name, b"null")) != b"null"}
            for image in _list(answer["data"])
        ]
    except (*JUNK, KeyError):
        raise invalid("The upstream's answer holds no images.") from None
    found: dict[str, Any] = {"created": call.create_unix_s, "data": images}
    batch.completion = msgspec.json.encode(found)


def _known(body: Body, names: frozenset[str]) -> Body:
    for name, raw in body.items():
        is_neutral = name == "speed" and bytes(raw) in _NEUTRAL_SPEEDS
        if name not in names and bytes(raw) not in _UNSAID and not is_neutral:
            raise unsupported(name)
    return {name: raw for name, raw in body.items() if name in names}


def _number(text: str) -> msgspec.Raw:
    if not text.isdecimal():
        raise unsupported(_SIZE)
    return msgspec.Raw(text.encode())
