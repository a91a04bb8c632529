"""gRPC beyond chat: texts, vectors, images, sound both ways, each charged as over HTTP."""

import base64
import json
from typing import Any

import grpc
import pytest

from gateway.openai.schema import encode
from kit.errors import Reason
from kit.rpc.local import LocalMode
from tests.fakes.media_upstream import IMAGE, TEXT, MediaScript
from tests.fixtures.catalogues import PRICE, SMALL
from tests.fixtures.gateway import OpenSite, Wish, until
from tests.fixtures.grpc_caller import SERVED, Told, caller_of, shown, told_by
from tests.fixtures.media import IMAGE_NUSD, SECOND_NUSD, MediaSite, OpenMediaSite, wav
from turnpike.router.v1 import router_pb2

SPOKEN = "The sea is salty. " * 10
FORM = "multipart/form-data; boundary=x"


@pytest.fixture(params=["by_reference", "verified", "split"])
async def media(open_media: OpenMediaSite, request: pytest.FixtureRequest) -> MediaSite:
    """A site that serves gRPC, its rooms joined by reference, compared, or over a socket."""
    mode = LocalMode.VERIFY if request.param == "verified" else LocalMode.BY_REFERENCE
    return await open_media(gateway=SERVED, mode=mode, is_split=request.param == "split")


async def ask(media: MediaSite, body: bytes, **envelope: Any) -> Told:
    request = router_pb2.RunRequest(body=body, envelope=router_pb2.Envelope(**envelope))
    async with caller_of(media.site) as router:
        return await told_by(router.Run(request, metadata=shown(media.key), timeout=20))


async def charged(media: MediaSite, told: Told) -> tuple[int, int]:
    """Return what was charged and its units, once the ledger and the answer say the same."""
    (record,) = await media.site.settled(media.key, 1)
    finish = told.messages[-1].finish
    assert (record.charge_nusd, record.usage) == (finish.charge_nusd, finish.usage)
    assert 0 < finish.charge_nusd
    return record.charge_nusd, record.usage.unit_count


async def test_images(media: MediaSite) -> None:
    body = encode({"model": "painter", "prompt": "a fish", "n": 2})

    told = await ask(media, body, operation=router_pb2.OPERATION_IMAGE)

    images = json.loads(told.messages[-1].completion)["data"]
    assert [base64.b64encode(IMAGE).decode()] * 2 == [image["b64_json"] for image in images]
    assert (2 * IMAGE_NUSD, 2) == await charged(media, told)


async def test_speech_is_sound_and_no_events(media: MediaSite) -> None:
    body = encode({"model": "speaker", "input": SPOKEN, "voice": "v"})

    told = await ask(media, body, operation=router_pb2.OPERATION_SPEECH)

    sound = b"".join(message.data for message in told.messages)
    assert len(sound) > len(SPOKEN)
    assert "audio/mpeg" == told.messages[0].content_type
    assert b"" == told.sse
    assert len(SPOKEN) == (await charged(media, told))[1]


async def test_speech_that_breaks_off_says_so_in_its_status(media: MediaSite) -> None:
    media.main.script = MediaScript(cut_after=3)
    body = encode({"model": "speaker", "input": SPOKEN, "voice": "v"})

    told = await ask(media, body, operation=router_pb2.OPERATION_SPEECH)

    assert told.code is not grpc.StatusCode.OK
    assert told.messages[-1].HasField("error")
    assert b"" == told.sse


async def test_transcription_takes_a_form(media: MediaSite) -> None:
    parts = [(b'name="model"', b"listener"), (b'name="file"; filename="a.wav"', wav(8.5))]
    form = b"".join(
        b"--x\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % part for part in parts
    )
    operation = router_pb2.OPERATION_TRANSCRIPTION

    told = await ask(media, form + b"--x--\r\n", operation=operation, content_type=FORM)

    assert TEXT == json.loads(told.messages[-1].completion)["text"]
    cost_nusd, seconds = await charged(media, told)
    assert cost_nusd == seconds * SECOND_NUSD


async def test_transcription_without_a_form_is_refused(media: MediaSite) -> None:
    told = await ask(media, b"x", operation=router_pb2.OPERATION_TRANSCRIPTION)

    assert Reason.UNSUPPORTED_MEDIA_TYPE is told.reason
    assert [] == await media.site.settled(media.key, 0)


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_texts_and_vectors(open_site: OpenSite, is_streaming: bool) -> None:
    site = await open_site(Wish(gateway=SERVED))
    site.write_catalogue(
        {
            "providers": {"main": {"kind": "openai_compat", "base_url": site.main.base_url}},
            "models": {
                SMALL: {
                    "context_length": 8192,
                    "operations": ["completion", "embedding"],
                    "deployments": [
                        {"name": "main", "provider": "main", "upstream_model": "m", "price": PRICE}
                    ],
                }
            },
        }
    )
    models = site.gateway.deps.models

    async def is_loaded() -> bool:
        await models.refresh()
        return any(len(model.operations) > 1 for model in models._models)

    await until(is_loaded)
    key = await site.key()
    text = encode(
        {"model": SMALL, "prompt": "once upon a time, in a land far away", "stream": is_streaming}
    )
    vectors = encode({"model": SMALL, "input": ["a few words", "and a few more"]})

    async with caller_of(site) as router:
        told = [
            await told_by(
                router.Run(
                    router_pb2.RunRequest(
                        body=body, envelope=router_pb2.Envelope(operation=operation)
                    ),
                    metadata=shown(key),
                )
            )
            for body, operation in (
                (text, router_pb2.OPERATION_COMPLETION),
                (vectors, router_pb2.OPERATION_EMBEDDING),
            )
        ]

    ends = [one.messages[-1] for one in told]
    whole = told[0].sse.split(b"\n\n")[0].removeprefix(b"data: ") if is_streaming else b""
    assert "text_completion" == json.loads(whole or ends[0].completion)["object"]
    assert is_streaming is told[0].sse.endswith(b"data: [DONE]\n\n")
    assert [0, 1] == [one["index"] for one in json.loads(ends[1].completion)["data"]]
    records = await site.settled(key, 2)
    assert sorted(end.finish.charge_nusd for end in ends) == sorted(r.charge_nusd for r in records)
