"""Fuzz targets: the JSON and form bodies that clients send, and the answers of upstreams."""

import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from gateway.anthropic.answer import message
from gateway.anthropic.api import MessagesApi
from gateway.call import ModelCall, ReadRules
from gateway.docs.document import document
from gateway.openai.completions import COMPLETIONS
from gateway.openai.dialect import DIALECTS
from gateway.openai.embeddings import EMBEDDINGS
from gateway.openai.envelope import bounds, read_chat
from gateway.openai.fields import KNOWN
from gateway.openai.media import ImageApi, SpeechApi
from gateway.openai.texts import text_bounds
from gateway.openai.transcription import TranscriptionApi
from gateway.responses.answer import whole_response
from gateway.responses.api import ResponsesApi
from gateway.responses.request import read_responses
from kit.errors import TurnpikeError
from kit.multipart import MultipartError, Part, boundary_of, decode, encode
from services.router.providers.openai.embeddings import read_embeddings
from services.router.providers.openai.media_codec import (
    encode_sound,
    read_images,
    read_transcription,
)
from services.router.providers.openai.plain import read_completion
from services.router.providers.openai.request import encode_request
from services.router.providers.openai.texts import read_text_completion
from services.router.providers.port import ProviderError
from tests.fakes.openai_calls import make_call
from tests.fixtures.sizes import ModelSizes
from tests.fuzz.writing import ODD, Writer, source_of

_SCHEMAS: Final = document("1")["components"]["schemas"]
_DIALECTS: Final = list(DIALECTS.values())
_FIELDS: Final = sorted(KNOWN)
_CHAT: Final = b'{"model":"m","messages":[{"role":"user","content":"x"}]'
_SIZES: Final = ModelSizes(8192, 256, 1024)
_TEXTS: Final[dict[str, Callable[[bytes, ReadRules], ModelCall]]] = {
    "CompletionRequest": COMPLETIONS.read,
    "EmbeddingsRequest": EMBEDDINGS.read,
    "ImageRequest": ImageApi(timeout_max_ms=60_000).read,
    "SpeechRequest": SpeechApi(timeout_max_ms=60_000).read,
}


def _rules(source: Any) -> ReadRules:
    dialect = _DIALECTS[source.ConsumeIntInRange(0, len(_DIALECTS) - 1)]
    strict = source.ConsumeIntInRange(0, 7) == 7
    return ReadRules(dialect, 30_000, lambda: 1_760_000_000_000, lambda: "id", is_strict=strict)


def _check(call: ModelCall) -> None:
    """Hold a call that was read to what the rest of the way relies on."""
    assert call.model
    assert call.timeout_ms > 0
    assert call.choice_count > 0
    if call.prompts:
        limit = text_bounds(call, _SIZES)
    else:
        limit = bounds(call, _SIZES)
        body = msgspec.json.decode(msgspec.json.encode(call.fields), type=dict[str, msgspec.Raw])
        with contextlib.suppress(ProviderError):
            encode_request(make_call(), body, max_tokens_field="max_tokens")
    assert 0 <= limit.max_tokens <= _SIZES.context_length
    assert 0 <= limit.prompt_tokens_max <= _SIZES.context_length * max(1, len(call.prompts))


def chat(data: bytes) -> None:
    """A chat body of known fields with odd values, or as its schema has it, or of anything."""
    source = source_of(data)
    rules, writer = _rules(source), Writer(source, _SCHEMAS)
    fields = [
        b'"%b":%b' % (writer.pick(_FIELDS).encode(), writer.pick(ODD))
        for _ in range(source.ConsumeIntInRange(0, 3))
    ]
    written = writer.write("ChatRequest")
    for raw in (source.ConsumeBytes(256), b",".join([_CHAT, *fields]) + b"}", written):
        with contextlib.suppress(TurnpikeError):
            _check(read_chat(raw, rules))


def texts(data: bytes) -> None:
    """A body of the endpoints that take texts is read or refused."""
    source = source_of(data)
    rules, writer = _rules(source), Writer(source, _SCHEMAS)
    name = writer.pick(list(_TEXTS))
    with contextlib.suppress(TurnpikeError):
        call = _TEXTS[name](writer.write(name), rules)
        if call.unit_count_max:
            assert call.unit_count_max <= 4_096
        else:
            _check(call)


def messages(data: bytes) -> None:
    """A body of the Messages API is translated or refused in its own words."""
    source = source_of(data)
    rules, writer = _rules(source), Writer(source, _SCHEMAS)
    is_counting = source.ConsumeBool()
    api = MessagesApi(is_counting=is_counting)
    try:
        _check(api.read(writer.write("CountRequest" if is_counting else "MessagesRequest"), rules))
    except TurnpikeError as error:
        api.error_body(error, rules.dialect, "id")


def responses(data: bytes) -> None:
    """A body of Responses is translated or refused in its own words."""
    source = source_of(data)
    rules, writer = _rules(source), Writer(source, _SCHEMAS)
    api = ResponsesApi()
    try:
        _check(api.read(writer.write("ResponsesRequest"), rules))
    except TurnpikeError as error:
        api.error_body(error, rules.dialect, "id")


_NAMES: Final = [*_SCHEMAS["TranscriptionRequest"]["properties"], "languages[]", "file[]", "x"]


def form(data: bytes) -> None:
    """A form is taken apart or refused, and what is put together anew can be taken apart."""
    source = source_of(data)
    rules, writer = _rules(source), Writer(source, _SCHEMAS)
    kind = "multipart/form-data; boundary=" + source.ConsumeUnicodeNoSurrogates(24)
    parts = [Part("model", b"m")]
    for _ in range(source.ConsumeIntInRange(0, 4)):
        value = writer.pick([b"json", b"verbose_json", b"0.5", b"true", b"word", b"\xff", b""])
        parts.append(Part(writer.pick(_NAMES), value))
    parts.append(Part("file", source.ConsumeBytes(64), "a.wav", "audio/wav"))
    rest = source.ConsumeBytes(512)
    boundary = boundary_of(kind) or b"-"
    joined = b"--%b\r\n%b\r\n--%b--" % (boundary, rest, boundary)
    for content_type, body in ((kind, rest), (kind, joined), encode(parts)):
        with contextlib.suppress(MultipartError):
            decode(body, boundary_of(content_type) or b"-")
        api = TranscriptionApi(content_type=content_type, file_bytes_max=64, timeout_max_ms=60_000)
        with contextlib.suppress(TurnpikeError):
            call = api.read(body, rules)
            assert call.unit_count_max > 0
            encode_sound(make_call(content_type=call.content_type, form=call.form))


def answers(data: bytes) -> None:
    """What an upstream answers is passed on in the client's words, or is the upstream's failure."""
    source = source_of(data)
    writer = Writer(source, _SCHEMAS)
    body = {"input": msgspec.Raw(b'["a"]'), "prompt": msgspec.Raw(b'"a"')}
    call = make_call(unit_count_max=2)
    with contextlib.suppress(ProviderError):
        read_text_completion(call, body, writer.write("TextCompletion"))
    with contextlib.suppress(ProviderError):
        read_embeddings(call, body, writer.write("EmbeddingList"))
    with contextlib.suppress(ProviderError):
        read_images(call, writer.write("ImageList"))
    with contextlib.suppress(ProviderError):
        read_transcription(call, _SOUND, writer.write("Transcription"))
    with contextlib.suppress(ProviderError):
        found = read_completion(call, writer.write("ChatCompletion"), choice_count=1).completion
        _translate(found)


_SOUND: Final = encode_sound(
    make_call(
        **dict(zip(("content_type", "form"), encode([Part("file", b"x", "a", "")]), strict=True))
    )
)
_ASKED: Final = read_responses(
    b'{"model":"m","input":"x"}',
    ReadRules(DIALECTS["openai"], 30_000, lambda: 1_760_000_000_000, lambda: "id"),
)


def _translate(completion: bytes) -> None:
    """Tell an answer in other words; it is paid for, so there is no failing any more."""
    msgspec.json.decode(message(completion, ["x"], "id"))
    msgspec.json.decode(whole_response(completion, *_ASKED, "id"))
