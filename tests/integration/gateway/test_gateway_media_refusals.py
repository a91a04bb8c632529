"""What images, speech and transcriptions refuse, and the bounds of what is sent up."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.fakes.media_upstream import MediaScript
from tests.fixtures.catalogues import SMALL, chat
from tests.fixtures.gateway import until
from tests.fixtures.media import MediaSite, OpenMediaSite, wav
from tests.integration.gateway.wire import Answer, answer_of, connected

MIB = 1024**2
IMAGE = {"model": "painter", "prompt": "a fish"}
SPEECH = {"model": "speaker", "input": "Hi", "voice": "alloy"}


async def post(media: MediaSite, path: str, body: Any) -> Answer:
    url = f"{media.site.url}/v1{path}"
    return await answer_of(media.site.http.post(url, json=body, headers=media.key.headers))


def form(*fields: tuple[str, str], file: bytes | None = b"RIFF") -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields:
        data.add_field(name, value)
    if file is not None:
        data.add_field("file", io.BytesIO(file), filename="a.wav", content_type="audio/wav")
    return data


async def send(media: MediaSite, data: Any, **headers: str) -> Answer:
    url = f"{media.site.url}/v1/audio/transcriptions"
    return await answer_of(
        media.site.http.post(url, data=data, headers={**media.key.headers, **headers})
    )


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"model": None}, "missing_field", "model"),
        ({"prompt": None}, "missing_field", "prompt"),
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": "x" * 32_001}, "invalid_value", "prompt"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 11}, "invalid_value", "n"),
        ({"n": 1.5}, "invalid_value", "n"),
        ({"size": "huge"}, "invalid_value", "size"),
        ({"quality": "best"}, "invalid_value", "quality"),
        ({"style": "loud"}, "invalid_value", "style"),
        ({"background": 1}, "invalid_value", "background"),
        ({"response_format": "gif"}, "invalid_value", "response_format"),
        ({"output_format": "tiff"}, "invalid_value", "output_format"),
        ({"output_compression": 101}, "invalid_value", "output_compression"),
        ({"frame_count": 1}, "invalid_value", "frame_count"),
        ({"timeout_ms": 300_001}, "invalid_value", "timeout_ms"),
        ({"stream": True}, "unsupported_parameter", "stream"),
        ({"partial_images": 2}, "unsupported_parameter", "partial_images"),
        ({"model": "speaker"}, "invalid_value", "model"),
        ({"model": SMALL}, "invalid_value", "model"),
    ],
)
async def test_image_request_that_is_wrong_names_its_field(
    media: MediaSite, more: dict[str, Any], code: str, param: str
) -> None:
    body = {name: value for name, value in {**IMAGE, **more}.items() if value is not None}

    answer = await post(media, "/images/generations", body)

    assert (400, code, param) == (answer.status, answer.error["code"], answer.error["param"])
    assert [] == media.main.seen


@pytest.mark.parametrize(
    ("more", "code", "param"),
    [
        ({"input": None}, "missing_field", "input"),
        ({"voice": None}, "missing_field", "voice"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": "x" * 4_097}, "invalid_value", "input"),
        ({"voice": {}}, "missing_field", "voice.id"),
        ({"speed": 0.2}, "invalid_value", "speed"),
        ({"speed": 4.1}, "invalid_value", "speed"),
        ({"response_format": "midi"}, "invalid_value", "response_format"),
        ({"stream_format": "sse"}, "unsupported_parameter", "stream_format"),
        ({"stream": True}, "unsupported_parameter", "stream"),
        ({"model": "painter"}, "invalid_value", "model"),
        ({"model": "nobody"}, "model_not_found", "model"),
    ],
)
async def test_speech_request_that_is_wrong_names_its_field(
    media: MediaSite, more: dict[str, Any], code: str, param: str
) -> None:
    body = {name: value for name, value in {**SPEECH, **more}.items() if value is not None}

    answer = await post(media, "/audio/speech", body)

    expected = 404 if code == "model_not_found" else 400
    assert (expected, code, param) == (answer.status, answer.error["code"], answer.error["param"])
    assert [] == media.main.seen


async def test_what_changes_nothing_is_taken_and_not_sent_on(media: MediaSite) -> None:
    image = await post(
        media, "/images/generations", {**IMAGE, "stream": False, "partial_images": 0, "n": 2.0}
    )
    speech = await post(
        media, "/audio/speech/", {**SPEECH, "stream_format": "audio", "timeout_ms": 9_000}
    )

    assert (200, 200) == (image.status, speech.status)
    assert {"model", "prompt", "n"} == set(media.main.seen[0].body)
    assert {"model", "input", "voice"} == set(media.main.seen[1].body)


@pytest.mark.parametrize("model", ["painter", "speaker", "listener"])
async def test_model_that_serves_no_chat_refuses_one(media: MediaSite, model: str) -> None:
    answer = await answer_of(media.site.post(media.key, chat(model=model)))

    assert (400, "invalid_value", "model") == (
        answer.status, answer.error["code"], answer.error["param"]
    )  # fmt: skip


MODEL = ("model", "listener")


@pytest.mark.parametrize(
    ("data", "code", "param"),
    [
        (form(file=None), "missing_field", "file"),
        (form(MODEL, file=b""), "invalid_value", "file"),
        (form(), "missing_field", "model"),
        (form(MODEL, MODEL), "invalid_value", "model"),
        (form(("model", "painter")), "invalid_value", "model"),
        (form(MODEL, ("file", "x")), "invalid_value", "file"),
        (form(MODEL, ("response_format", "mp3")), "invalid_value", "response_format"),
        (form(MODEL, ("temperature", "1.1")), "invalid_value", "temperature"),
        (form(MODEL, ("temperature", "hot")), "invalid_value", "temperature"),
        (form(MODEL, ("stream", "true")), "unsupported_parameter", "stream"),
        (form(MODEL, ("sample_rate", "1")), "unsupported_parameter", "sample_rate"),
        (
            form(MODEL, ("timestamp_granularities[]", "word")),
            "invalid_value",
            "timestamp_granularities",
        ),
        (
            form(MODEL, ("response_format", "srt"), ("include[]", "logprobs")),
            "invalid_value",
            "include",
        ),
        (form(MODEL, ("timeout_ms", "0")), "invalid_value", "timeout_ms"),
    ],
)
async def test_form_that_is_wrong_names_its_field(
    media: MediaSite, data: aiohttp.FormData, code: str, param: str
) -> None:
    answer = await send(media, data)

    assert (400, code, param) == (answer.status, answer.error["code"], answer.error["param"])
    assert [] == media.main.seen


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ("application/json", 415, "unsupported_media_type"),
        ("multipart/form-data", 415, "unsupported_media_type"),
        ("multipart/form-data; boundary=abc", 400, "bad_request"),
    ],
)
async def test_body_that_is_no_form_is_refused(
    media: MediaSite, content_type: str, status: int, code: str
) -> None:
    answer = await send(media, b"--abd\r\n", **{"Content-Type": content_type})

    assert (status, code) == (answer.status, answer.error["code"])


async def test_file_above_its_bound_is_refused_however_it_comes(
    open_media: OpenMediaSite,
) -> None:
    media = await open_media(gateway={"upload_bytes_max": MIB})
    fits = await send(media, form(MODEL, file=bytes(MIB)))
    longer = await send(media, form(MODEL, file=bytes(MIB + 1)))

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(64 * 1024)

    announced = await send(
        media, io.BytesIO(bytes(2 * MIB + 1)), **{"Content-Type": "multipart/form-data"}
    )
    try:
        chunked: Answer | None = await send(
            media, endless(), **{"Content-Type": "multipart/form-data; boundary=a"}
        )
    except aiohttp.ClientError:
        # The gateway may close before all that was under way has been read.
        chunked = None

    assert 200 == fits.status
    for answer in (longer, announced, chunked):
        if answer is not None:
            assert (413, "payload_too_large") == (answer.status, answer.error["code"])
    assert 1 == len(media.main.seen)


async def test_uploads_in_hand_are_bounded_and_make_room_when_they_end(
    open_media: OpenMediaSite,
) -> None:
    media = await open_media(gateway={"long_bodies_bytes_max": 32 * MIB})
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer "
        f"{media.key.secret}\r\nContent-Type: multipart/form-data; boundary=a\r\n"
        f"Content-Length: {20 * MIB}\r\n\r\n"
    ).encode()

    async with connected(media.site.gateway.port) as slow:
        await slow.send(head + b"--a")
        await until(lambda: media.site.gateway.deps.running.count == 1)
        refused = await send(media, form(MODEL, file=bytes(20 * MIB)))
        small = await send(media, form(MODEL, file=wav(1)))
    await until(lambda: media.site.gateway.deps.running.count == 0)
    later = await send(media, form(MODEL, file=bytes(20 * MIB)))

    assert (503, "overloaded") == (refused.status, refused.error["code"])
    assert "1" == refused.headers["Retry-After"]
    assert (200, 200) == (small.status, later.status)


async def test_upload_that_does_not_come_is_given_up(open_media: OpenMediaSite) -> None:
    media = await open_media(gateway={"upload_timeout_s": 0.2})
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer "
        f"{media.key.secret}\r\nContent-Type: multipart/form-data; boundary=a\r\n"
        "Content-Length: 1000\r\n\r\n--a"
    ).encode()

    async with connected(media.site.gateway.port) as client:
        await client.send(head)
        answer = await client.answer()

    assert (408, "request_timeout") == (answer.status, answer.error["code"])


async def test_hold_is_the_worst_case_of_the_file(media: MediaSite) -> None:
    poor = await media.site.key(credit_nusd=1_000_000)
    # A second more than the sound lasts.
    nine_seconds, longer = wav(9), wav(10)

    async def ask(sound: bytes) -> Answer:
        url = f"{media.site.url}/v1/audio/transcriptions"
        data = form(MODEL, file=sound)
        return await answer_of(media.site.http.post(url, data=data, headers=poor.headers))

    refused, served = await ask(longer), await ask(nine_seconds)

    assert (402, "insufficient_quota") == (refused.status, refused.error["code"])
    assert 200 == served.status


async def test_speech_that_does_not_come_in_time_is_a_timeout(media: MediaSite) -> None:
    media.main.script = media.spare.script = MediaScript(hang_after=0)

    answer = await post(media, "/audio/speech", {**SPEECH, "timeout_ms": 400})

    assert (504, "timeout") == (answer.status, answer.error["code"])
    (record,) = await media.site.settled(media.key, 1)
    assert 0 == record.charge_nusd


async def test_speech_for_an_old_client_ends_with_its_connection(media: MediaSite) -> None:
    body = json.dumps(SPEECH).encode()
    head = (
        f"POST /v1/audio/speech HTTP/1.0\r\nAuthorization: Bearer {media.key.secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()

    async with connected(media.site.gateway.port) as client:
        await client.send(head + body)
        found, _, sound = (await client.rest()).partition(b"\r\n\r\n")

    assert b"Transfer-Encoding" not in found
    assert 32_000 == len(sound)


async def test_models_are_listed_with_the_price_of_their_unit(media: MediaSite) -> None:
    url = f"{media.site.url}/v1/models/speaker"
    answer = await answer_of(media.site.http.get(url, headers=media.key.headers))

    pricing = answer.json["pricing"]
    assert ("character", "0.000015", "0.000015") == (
        pricing["unit"], pricing["usd_per_unit"], pricing["usd_per_unit_max"]
    )  # fmt: skip


async def test_many_forms_at_once_are_all_answered(media: MediaSite) -> None:
    answers = await asyncio.gather(*(send(media, form(MODEL, file=wav(10))) for _ in range(20)))

    assert [200] * 20 == [answer.status for answer in answers]
    assert 20 == len(await media.site.settled(media.key, 20))
