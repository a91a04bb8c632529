"""Units of sound that is on its way, and captions: what nobody counted, in the caller's favour."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.multipart import Part, encode
from services.router.providers.openai.media_codec import (
    SpeechReader,
    encode_sound,
    read_transcription,
)
from services.router.providers.port import Batch, Call, Failure, ProviderError
from tests.fakes.openai_calls import make_body, make_call
from turnpike.router.v1 import router_pb2


def speech(characters: int, **more: Any) -> SpeechReader:
    fields = {"media_type": b"audio/mpeg", "length": b""} | more
    call = make_call(operation=router_pb2.OPERATION_SPEECH, unit_count_max=characters)
    return SpeechReader(call, make_body(**fields.pop("body", {})), **fields)


def sound_call(wanted: str, *, seconds_max: int = 500) -> Call:
    content_type, form = encode(
        [Part("response_format", wanted.encode()), Part("file", b"ID3" + bytes(64_000), "a.mp3")]
    )
    return make_call(
        operation=router_pb2.OPERATION_TRANSCRIPTION,
        unit_count_max=seconds_max,
        content_type=content_type,
        form=form,
    )


def transcribed(wanted: str, answer: bytes, **more: Any) -> Batch:
    call = sound_call(wanted, **more)
    return read_transcription(call, encode_sound(call), answer)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1), st.integers(1, 4_096))
def test_share_of_known_sound_grows_to_the_whole_and_never_beyond(
    pieces: list[bytes], characters: int
) -> None:
    length = sum(map(len, pieces))
    reader = speech(characters, length=str(length).encode())

    spoken = [reader.feed(piece).running_usage.unit_count for piece in pieces]

    assert spoken == sorted(spoken)
    assert characters == spoken[-1] == reader.end().finish.usage.unit_count


@pytest.mark.parametrize(
    ("body", "spoken"),
    [
        ({}, 5),
        ({"input": "Meer"}, 5),
        ({"input": "海はなぜ"}, 2),
        ({"input": "海abc"}, 3),
        ({"speed": 2.0}, 10),
        ({"response_format": "pcm"}, 2),
        ({"speed": "x"}, 5),
    ],
)
def test_sound_of_unknown_length_counts_by_its_size(body: dict[str, Any], spoken: int) -> None:
    reader = speech(100, body=body)

    assert spoken == reader.feed(bytes(10_000)).running_usage.unit_count
    assert 100 == reader.feed(bytes(10_000_000)).running_usage.unit_count


@pytest.mark.parametrize(
    ("media_type", "wanted", "told"),
    [
        (b"audio/x-wav", "wav", "audio/x-wav"),
        (b"", "opus", "audio/ogg"),
        (b"application/octet-stream", "aac", "audio/aac"),
    ],
)
def test_sound_says_what_it_is(media_type: bytes, wanted: str, told: str) -> None:
    reader = speech(1, media_type=media_type, body={"response_format": wanted})

    assert told == reader.feed(b"x").content_type
    assert "" == reader.feed(b"x").content_type


@pytest.mark.parametrize(
    ("captions", "seconds"),
    [
        (b"1\n00:00:00,000 --> 00:00:04,001\nHi\n", 5),
        (b"WEBVTT\n\n00:00.000 --> 01:02.000 align:start\nHi\n", 62),
        (b"1\n00:00:00,000 --> 01:00:00,000\nHi\n", 500),
        (b"no cue at all", 3),
    ],
    ids=["srt", "vtt", "beyond_the_bound", "none"],
)
def test_captions_last_as_long_as_their_last_cue(captions: bytes, seconds: int) -> None:
    found = transcribed("srt", captions)

    assert seconds == found.finish.usage.unit_count
    assert captions == found.completion


@pytest.mark.parametrize(
    ("wanted", "answer"),
    [
        ("json", b""),
        ("json", b"[]"),
        ("json", b'{"text":7}'),
        ("json", b'{"text":"\xff"}'),
        ("json", b'{"text":"x","duration":"soon"}'),
        ("json", b'{"text":"x","usage":{"input_tokens":-1}}'),
        ("json", b'{"text":"x","usage":{"seconds":1e30}}'),
        ("srt", b"\xff\xfe"),
        ("vtt", b'{"text":"x"}'),
        ("text", b"plain text where JSON was asked for"),
    ],
)
def test_answer_that_is_no_transcription_is_an_invalid_one(wanted: str, answer: bytes) -> None:
    with pytest.raises(ProviderError) as failed:
        transcribed(wanted, answer)

    assert Failure.INVALID_RESPONSE is failed.value.failure


def test_text_is_asked_for_as_json_and_given_as_text() -> None:
    sound = encode_sound(sound_call("text"))
    found = transcribed("text", b'{"text":"Hi","duration":"8.1"}')

    assert b"json" in sound.body
    assert (b"Hi\n", "text/plain; charset=utf-8") == (found.completion, found.content_type)
    assert 9 == found.finish.usage.unit_count
