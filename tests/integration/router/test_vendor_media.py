"""Images, speech and transcriptions at vendors: in their words, refused if they have none."""

import json
from typing import Any, Final

import pytest
from openai.types import ImagesResponse

from kit.multipart import Part, encode
from services.router.providers.openai.profiles import PROFILES
from services.router.providers.port import Batch, Failure, ProviderError
from tests.fakes.openai_calls import make_body, make_call
from tests.fixtures.strict import strictly
from tests.fixtures.vendors import Vendor, open_deployment
from turnpike.router.v1 import router_pb2

IMAGE: Final = router_pb2.OPERATION_IMAGE
SPEECH: Final = router_pb2.OPERATION_SPEECH
SOUND: Final = router_pb2.OPERATION_TRANSCRIPTION


async def ask(vendor: Vendor, operation: int, **fields: Any) -> list[Batch]:
    body = make_body(**fields)
    del body["messages"]
    call = make_call(is_streaming=False, operation=operation, unit_count_max=1000)
    if operation == SOUND:
        parts = [Part(name, str(value).encode()) for name, value in fields.items()]
        content_type, form = encode([*parts, Part("file", b"RIFF", "a.mp3", "audio/mpeg")])
        body, call = {}, call._replace(content_type=content_type, form=form)
    stream = vendor.provider.stream(call, body, deadline_s=1e9)
    return [batch async for batch in stream]


async def refused(vendor: Vendor, operation: int, **fields: Any) -> str:
    with pytest.raises(ProviderError) as caught:
        await ask(vendor, operation, **fields)
    assert Failure.UNSUPPORTED is caught.value.failure
    return caught.value.param


@pytest.mark.parametrize(
    ("name", "fields", "sent"),
    [
        ("xai", {"n": 2, "response_format": "b64_json"}, {"n": 2, "response_format": "b64_json"}),
        ("xai", {"size": "auto", "quality": None}, {}),
        (
            "together",
            {"n": 2, "response_format": "b64_json", "size": "512x256"},
            {"n": 2, "response_format": "base64", "width": 512, "height": 256},
        ),
        ("together", {"size": "auto"}, {}),
    ],
)
async def test_images_are_asked_for_in_the_vendors_words(
    name: str, fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    async with open_deployment(name, operation=IMAGE) as vendor:
        [batch] = await ask(vendor, IMAGE, **fields)

        assert {"model": "upstream-model", **sent} == vendor.sent
    answer = strictly(ImagesResponse, json.loads(batch.completion))
    assert fields.get("n", 1) == len(answer.data) == batch.finish.usage.unit_count


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (None, {"response_format": "mp3"}),
        ("mp3", {"response_format": "mp3"}),
        ("wav", {"response_format": "wav", "response_encoding": "pcm_s16le"}),
        (
            "pcm",
            {"response_format": "raw", "response_encoding": "pcm_s16le", "sample_rate": 24000},
        ),
    ],
)
async def test_speech_is_asked_for_in_the_vendors_words(
    wanted: str | None, sent: dict[str, Any]
) -> None:
    said = {"input": "Hello.", "voice": "tara"}
    async with open_deployment("together", operation=SPEECH) as vendor:
        batches = await ask(vendor, SPEECH, **said, speed=1, response_format=wanted)

        assert {"model": "upstream-model", **said, **sent} == vendor.sent
    assert b"sound" * 20 == b"".join(batch.data for batch in batches)


async def test_a_transcription_is_text() -> None:
    async with open_deployment("together", operation=SOUND) as vendor:
        [batch] = await ask(vendor, SOUND, model="m", language="en")

        assert ("json", "en") == (vendor.sent["response_format"], vendor.sent["language"])
    assert "Hello." == json.loads(batch.completion)["text"]
    assert 3 == batch.finish.usage.unit_count


@pytest.mark.parametrize(
    ("name", "operation", "fields", "param"),
    [
        ("xai", IMAGE, {"size": "512x512"}, "size"),
        ("together", IMAGE, {"quality": "hd"}, "quality"),
        ("together", SPEECH, {"response_format": "opus"}, "response_format"),
        ("together", SPEECH, {"speed": 2}, "speed"),
        ("together", SOUND, {"response_format": "srt"}, "response_format"),
        ("together", SOUND, {"chunking_strategy": "auto"}, "chunking_strategy"),
    ],
)
async def test_what_a_vendor_has_no_word_for_is_refused(
    name: str, operation: int, fields: dict[str, Any], param: str
) -> None:
    async with open_deployment(name, operation=operation) as vendor:
        assert param == await refused(vendor, operation, **fields)
        assert [] == vendor.upstream.seen


async def test_media_that_a_vendor_has_not_is_refused() -> None:
    async with open_deployment("mistral") as vendor:
        for operation in (IMAGE, SPEECH, SOUND):
            assert "" == await refused(vendor, operation)
    assert {"image", "speech", "transcription"}.isdisjoint(PROFILES["mistral"].operations)
