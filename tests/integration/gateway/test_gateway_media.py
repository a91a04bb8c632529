"""Images, speech and transcriptions by the official client: whole, charged by the unit, settled."""

import asyncio
import base64
import json
from typing import Any

import openai
import pytest

from kit.rpc.local import LocalMode
from tests.fakes.media_upstream import IMAGE, LANGUAGE, SRT, TEXT, VTT, MediaScript
from tests.fixtures.gateway import UPSTREAM_KEY, until
from tests.fixtures.media import (
    CHARACTER_PUSD,
    IMAGE_NUSD,
    SECOND_NUSD,
    MediaSite,
    OpenMediaSite,
    wav,
)
from turnpike.metering.v1.metering_pb2 import UsageRecord
from turnpike.type.v1.usage_pb2 import USAGE_SOURCE_ESTIMATED, USAGE_SOURCE_UPSTREAM

INPUT = "Größe ist nicht alles, sagte das Meer. " * 20
MIB = 1024**2


async def settled(media: MediaSite) -> UsageRecord:
    """Return the one record, once the ledger says the same."""
    (record,) = await media.site.settled(media.key, 1)
    return record


def units(record: UsageRecord) -> tuple[str, int, int]:
    return record.unit, record.usage.unit_count, record.charge_nusd


def spoken_nusd(characters: int) -> int:
    return -(-characters * CHARACTER_PUSD // 1000)


@pytest.fixture(params=["by_reference", "verified", "split"])
async def anywhere(open_media: OpenMediaSite, request: pytest.FixtureRequest) -> MediaSite:
    """A site whose rooms are joined by reference, compared, or over a socket."""
    mode = LocalMode.VERIFY if request.param == "verified" else LocalMode.BY_REFERENCE
    return await open_media(mode=mode, is_split=request.param == "split")


async def test_images_are_charged_by_how_many_there_are(anywhere: MediaSite) -> None:
    raw = await anywhere.client.images.with_raw_response.generate(
        model="painter", prompt="a fish", n=3, size="1024x1024"
    )

    answer = raw.parse()
    assert [base64.b64encode(IMAGE).decode()] * 3 == [i.b64_json for i in answer.data or ()]
    assert ("image", 3, 3 * IMAGE_NUSD) == units(await settled(anywhere))
    assert "0.12" == raw.headers["X-Turnpike-Cost"]
    assert "upstream-image" == raw.headers["X-Model-Used"]
    (seen,) = anywhere.main.seen
    assert f"Bearer {UPSTREAM_KEY}" == seen.headers["authorization"]
    assert {
        "model": "upstream-image", "prompt": "a fish", "n": 3, "size": "1024x1024"
    } == seen.body  # fmt: skip


async def test_images_as_addresses_are_passed_on(media: MediaSite) -> None:
    answer = await media.client.images.generate(
        model="painter", prompt="a fish", response_format="url"
    )

    assert ["https://img.test/1"] == [image.url for image in answer.data or ()]
    assert ("image", 1, IMAGE_NUSD) == units(await settled(media))


@pytest.mark.parametrize(
    ("usage", "prompt", "completion", "source"),
    [
        ("tokens", 50, 1056, USAGE_SOURCE_UPSTREAM),
        # Half of what a prompt of two bytes, quoted, and two images may have.
        ("none", 1, 6_240, USAGE_SOURCE_ESTIMATED),
    ],
)
async def test_images_sold_by_tokens_are_charged_by_the_upstreams_count(
    media: MediaSite, usage: str, prompt: int, completion: int, source: int
) -> None:
    media.main.script = MediaScript(usage=usage)

    await media.client.images.generate(model="token-painter", prompt="ab", n=2)

    record = await settled(media)
    assert (prompt, completion, source) == (
        record.usage.prompt_token_count,
        record.usage.completion_token_count,
        record.usage.source,
    )
    assert ("", 0, prompt * 5_000 + completion * 40_000) == units(record)


async def test_fewer_images_than_asked_for_cost_less(media: MediaSite) -> None:
    media.main.script = MediaScript(images=1)

    await media.client.images.generate(model="painter", prompt="a fish", n=4)

    assert ("image", 1, IMAGE_NUSD) == units(await settled(media))


@pytest.mark.parametrize(
    "script",
    [
        MediaScript(images=0),
        MediaScript(images=3),
        MediaScript(body=b"{}"),
        MediaScript(body=b"not json"),
        MediaScript(body=b'{"data":[{"revised_prompt":"x"}]}'),
        MediaScript(body=b'{"error":{"message":"secret-canary-4410","code":"server_error"}}'),
        MediaScript(status=500),
    ],
    ids=["none", "too_many", "no_data", "no_json", "no_image", "error_in_200", "500"],
)
async def test_answer_that_is_not_what_was_asked_for_is_had_elsewhere_or_costs_nothing(
    media: MediaSite, script: MediaScript
) -> None:
    media.main.script = script
    await media.client.images.generate(model="painter", prompt="a fish")
    media.spare.script = script
    with pytest.raises(openai.APIStatusError) as refused:
        await media.client.images.generate(model="painter", prompt="a fish")

    assert 502 == refused.value.status_code
    assert "canary" not in str(refused.value.body)
    failed, good = await media.site.settled(media.key, 2)
    assert ("painter-spare", IMAGE_NUSD) == (good.deployment, good.charge_nusd)
    assert ("refused", 0) == (failed.outcome, failed.charge_nusd)


async def test_speech_comes_as_sound_and_costs_its_characters(anywhere: MediaSite) -> None:
    answer = await anywhere.client.audio.speech.create(
        model="speaker", voice="alloy", input=INPUT, response_format="mp3", speed=1.5
    )

    assert b"".join(bytes([n]) * 4_000 for n in range(8)) == answer.content
    headers = answer.response.headers
    assert "audio/mpeg" == headers["Content-Type"]
    assert "chunked" == headers["Transfer-Encoding"]
    record = await settled(anywhere)
    assert ("character", len(INPUT), spoken_nusd(len(INPUT))) == units(record)
    assert record.request_id == headers["X-Request-Id"]
    assert {
        "model": "upstream-speech", "voice": "alloy", "input": INPUT,
        "response_format": "mp3", "speed": 1.5,
    } == anywhere.main.seen[0].body  # fmt: skip


async def test_speech_is_handed_on_while_it_comes(media: MediaSite) -> None:
    media.main.script = MediaScript(hang_after=4)

    async with media.client.audio.speech.with_streaming_response.create(
        model="speaker", voice="alloy", input=INPUT
    ) as answer:
        first = b""
        async for piece in answer.iter_bytes():
            first += piece
            if len(first) == 4 * 4_000:
                break

    await until(lambda: media.main.seen[0].is_over)
    assert media.main.seen[0].is_aborted
    record = await settled(media)
    assert "client_closed" == record.outcome
    assert 0 < record.usage.unit_count < len(INPUT)
    assert spoken_nusd(record.usage.unit_count) == record.charge_nusd


@pytest.mark.parametrize(
    ("script", "spoken", "source"),
    [
        (MediaScript(cut_after=4, has_length=True), len(INPUT) // 2, USAGE_SOURCE_UPSTREAM),
        (MediaScript(cut_after=4), 16_000 // 2_000, USAGE_SOURCE_ESTIMATED),
    ],
    ids=["length_known", "length_unknown"],
)
async def test_speech_that_breaks_off_costs_what_was_handed_over_and_never_looks_whole(
    media: MediaSite, script: MediaScript, spoken: int, source: int
) -> None:
    media.main.script = script
    got = b""

    with pytest.raises(Exception, match="complete message body"):  # noqa: PT012 - reads on
        async with media.client.audio.speech.with_streaming_response.create(
            model="speaker", voice="alloy", input=INPUT
        ) as answer:
            async for piece in answer.iter_bytes():
                got += piece

    record = await settled(media)
    assert 16_000 == len(got)
    assert [] == media.spare.seen
    assert "upstream_failed" == record.outcome
    assert ("character", spoken, spoken_nusd(spoken)) == units(record)
    assert source == record.usage.source
    await until(lambda: "UPSTREAM_INCOMPLETE" in {line["error"] for line in media.site.logged()})


@pytest.mark.parametrize(
    "script",
    [
        MediaScript(status=503),
        MediaScript(pieces=0),
        MediaScript(cut_after=0),
        MediaScript(body=b'{"error":{"message":"secret-canary-4410"}}'),
        MediaScript(body=b"<html>", content_type="text/html"),
    ],
    ids=["503", "empty", "cut", "error_in_200", "html"],
)
async def test_speech_that_fails_before_its_first_sound_is_had_elsewhere(
    media: MediaSite, script: MediaScript
) -> None:
    media.main.script = script

    answer = await media.client.audio.speech.create(model="speaker", voice="v", input=INPUT)

    assert 32_000 == len(answer.content)
    assert "2" == answer.response.headers["X-Turnpike-Attempts"]
    record = await settled(media)
    assert ("speaker-spare", spoken_nusd(len(INPUT))) == (record.deployment, record.charge_nusd)


async def test_upstreams_refusal_of_speech_is_the_callers_and_free(media: MediaSite) -> None:
    media.main.script = MediaScript(status=400, code="invalid_voice")

    with pytest.raises(openai.BadRequestError) as refused:
        await media.client.audio.speech.create(model="speaker", voice="none", input="Hi")

    assert "invalid_voice" in str(refused.value)
    assert "canary" not in str(refused.value.body)
    assert 0 == (await settled(media)).charge_nusd


JSON_ANSWER = {"text": TEXT, "usage": {"type": "duration", "seconds": 9}}


@pytest.mark.parametrize(
    ("wanted", "asked", "expected", "seconds", "source"),
    [
        ("json", "json", JSON_ANSWER, 9, USAGE_SOURCE_UPSTREAM),
        ("text", "json", TEXT + "\n", 9, USAGE_SOURCE_UPSTREAM),
        ("srt", "srt", SRT, 7, USAGE_SOURCE_ESTIMATED),
        ("vtt", "vtt", VTT, 7, USAGE_SOURCE_ESTIMATED),
        ("verbose_json", "verbose_json", None, 9, USAGE_SOURCE_UPSTREAM),
        ("diarized_json", "diarized_json", None, 9, USAGE_SOURCE_UPSTREAM),
    ],
)
async def test_transcription_in_each_format_costs_its_seconds(
    media: MediaSite, wanted: Any, asked: str, expected: Any, seconds: int, source: int
) -> None:
    answer = await media.client.audio.transcriptions.create(
        model="listener", file=("my speech.mp3", b"ID3" + bytes(40_000)), response_format=wanted
    )

    if isinstance(expected, str):
        assert expected == answer
    elif expected is not None:
        assert expected == json.loads(answer.model_dump_json(exclude_none=True))
    else:
        assert (TEXT, 8.47) == (answer.text, answer.duration)
    record = await settled(media)
    assert ("second", seconds, seconds * SECOND_NUSD) == units(record)
    assert source == record.usage.source
    assert asked == dict(media.main.seen[0].fields)["response_format"]


async def test_form_is_put_together_anew_with_everything_that_was_asked(
    anywhere: MediaSite,
) -> None:
    answer = await anywhere.client.audio.transcriptions.create(
        model="listener",
        file=("Frau Müllers Rezept.M4A", b"\r\n--" + bytes(range(256)) * 900, "audio/mp4"),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="de",
        prompt="Größe",
        temperature=0.4,
        chunking_strategy={"type": "server_vad", "threshold": 0.5},
    )

    assert LANGUAGE == answer.language
    (seen,) = anywhere.main.seen
    assert sorted(
        [
            ("model", "upstream-transcription"),
            ("response_format", "verbose_json"),
            ("timestamp_granularities[]", "word"),
            ("timestamp_granularities[]", "segment"),
            ("language", "de"),
            ("prompt", "Größe"),
            ("temperature", "0.4"),
            ("chunking_strategy[type]", "server_vad"),
            ("chunking_strategy[threshold]", "0.5"),
        ]
    ) == sorted(seen.fields)
    assert b"\r\n--" + bytes(range(256)) * 900 == seen.file
    assert ("audio.m4a", "audio/mp4") == (seen.filename, seen.file_type)


@pytest.mark.parametrize(
    ("usage", "sound", "seconds", "source"),
    [
        ("none", wav(3.5), 4, USAGE_SOURCE_ESTIMATED),
        ("none", bytes(100_000), 4, USAGE_SOURCE_ESTIMATED),
        ("tokens", wav(3.5), 4, USAGE_SOURCE_ESTIMATED),
    ],
    ids=["plain_samples_tell", "size_bounds_from_below", "tokens_are_no_seconds"],
)
async def test_uncounted_seconds_are_taken_in_the_callers_favour(
    media: MediaSite, usage: str, sound: bytes, seconds: int, source: int
) -> None:
    media.main.script = MediaScript(usage=usage)

    await media.client.audio.transcriptions.create(model="listener", file=("a.wav", sound))

    record = await settled(media)
    assert ("second", seconds, seconds * SECOND_NUSD) == units(record)
    assert source == record.usage.source


async def test_transcription_sold_by_tokens_is_charged_by_the_upstreams_count(
    media: MediaSite,
) -> None:
    media.main.script = MediaScript(usage="tokens")

    await media.client.audio.transcriptions.create(model="token-listener", file=("a.wav", wav(3)))

    record = await settled(media)
    assert (85, 7, USAGE_SOURCE_UPSTREAM) == (
        record.usage.prompt_token_count,
        record.usage.completion_token_count,
        record.usage.source,
    )
    assert ("", 0, 85 * 5_000 + 7 * 40_000) == units(record)


async def test_impossible_seconds_are_no_answer(media: MediaSite) -> None:
    media.main.script = media.spare.script = MediaScript(usage="absurd")

    with pytest.raises(openai.APIStatusError) as refused:
        await media.client.audio.transcriptions.create(model="listener", file=("a.wav", wav(3)))

    assert 502 == refused.value.status_code
    assert 0 == (await settled(media)).charge_nusd


async def test_large_file_goes_through_whole(anywhere: MediaSite) -> None:
    sound = bytes(range(256)) * (20 * MIB // 256)

    await anywhere.client.audio.transcriptions.create(model="listener", file=("a.flac", sound))

    assert sound == anywhere.main.seen[0].file
    assert ("second", 9, 9 * SECOND_NUSD) == units(await settled(anywhere))


async def test_caller_that_leaves_before_the_answer_pays_nothing(media: MediaSite) -> None:
    media.main.script = MediaScript(hang_after=0)
    call = media.client.audio.speech.create(model="speaker", voice="v", input=INPUT)

    asking = asyncio.get_running_loop().create_task(call)
    await until(lambda: len(media.main.seen) == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    await until(lambda: media.main.seen[0].is_over)
    record = await settled(media)
    assert ("client_closed", 0) == (record.outcome, record.charge_nusd)
