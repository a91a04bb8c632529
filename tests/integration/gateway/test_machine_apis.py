"""Row E8: everything that a key can buy can be paid for by the machine rail, at the same price."""

import json
from typing import Any

import aiohttp
import openai
import pytest

from tests.fakes.machine_payments import CHANNEL, decoded
from tests.fixtures.catalogues import PRICE, SMALL, chat, price_nusd
from tests.fixtures.gateway import OpenSite, Wish, until
from tests.fixtures.machine import (
    ENOUGH,
    MachineSite,
    events_in,
    events_of,
    open_machine_site,
    rail_of,
)
from tests.fixtures.media import CHARACTER_PUSD, IMAGE_NUSD, OpenMediaSite, wav
from tests.integration.gateway.wire import answer_of, connected, tokens
from turnpike.payment.v1 import machine_pb2 as pb

MESSAGE = {"role": "user", "content": "shape=c16-d2"}
CHATS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": SMALL, "messages": [MESSAGE], "max_tokens": 64},
    "/v1/responses": {"model": SMALL, "input": [MESSAGE], "max_output_tokens": 64},
    "/v1/messages": {"model": SMALL, "messages": [MESSAGE], "max_tokens": 64},
    "/v1/completions": {"model": "acme/text", "prompt": "shape=c16-d2", "max_tokens": 64},
}
EMBED = {"model": "acme/embed", "input": "prompt=4 of a few words"}
MACHINE_ON = {"machine_payments": {"is_enabled": True}}


@pytest.fixture
async def machine(open_site: OpenSite) -> MachineSite:
    found = await open_machine_site(open_site, slice_tokens=4)
    site = found.site
    deployment = {"provider": "main", "upstream_model": "upstream-small", "price": PRICE}
    catalogue: dict[str, Any] = {
        "providers": {"main": {"kind": "openai_compat", "base_url": site.main.base_url}},
        "models": {
            name: {
                "context_length": 8192,
                "operations": [operation],
                "deployments": [{"name": f"{operation}-main", **deployment}],
            }
            for name, operation in (
                (SMALL, "chat"),
                ("acme/text", "completion"),
                ("acme/embed", "embedding"),
            )
        },
    }
    site.write_catalogue(catalogue)
    listed = await site.key()

    async def is_there() -> bool:
        async with site.http.get(f"{site.url}/v1/models", headers=listed.headers) as response:
            return b"acme/embed" in await response.read()

    await until(is_there)
    return found


async def bought_by_key(machine: MachineSite, path: str, body: Any) -> int:
    """Return what an answer costs when a key pays."""
    key = await machine.site.key()
    url = machine.site.url + path
    answer = await answer_of(machine.site.http.post(url, json=body, headers=key.headers))
    assert 200 == answer.status, answer.body
    (record,) = await machine.site.settled(key, 1)
    return record.charge_nusd


@pytest.mark.parametrize("path", CHATS)
async def test_e8_plain_answer_costs_the_same_on_both_rails(
    machine: MachineSite, path: str
) -> None:
    body = CHATS[path]

    answer = await machine.paid(body, path=path)

    assert 200 == answer.status, answer.body
    assert CHANNEL == decoded(answer.headers["Payment-Receipt"])["channelId"]
    assert machine.rail.channel.spent_nusd == await bought_by_key(machine, path, body)


@pytest.mark.parametrize("path", CHATS)
async def test_e8_stream_is_paid_slice_by_slice_in_every_api(
    machine: MachineSite, path: str
) -> None:
    body = {**CHATS[path], "stream": True}
    challenge = await machine.challenge(body, path)
    units = -(-machine.rail.terms[challenge].slice_nusd // 1000)

    async with machine.post(body, f"open.{CHANNEL}.{units}.{challenge}", path=path) as response:
        seen = []
        async for event in events_of(response):
            seen.append(event)
            if event.name == "payment-need-voucher":
                await machine.voucher(int(event.data["requiredCumulative"]))

    names = [event.name for event in seen]
    assert "payment-need-voucher" in names
    assert "payment-receipt" == names[-2]
    assert machine.rail.channel.spent_nusd == await bought_by_key(machine, path, body)
    assert tokens(16).split()[-1] in str([event.data for event in seen])


async def test_embeddings_are_held_whole(machine: MachineSite) -> None:
    answer = await machine.paid(EMBED, path="/v1/embeddings")

    terms = machine.rail.of(pb.AuthorizeRequest)[0].terms
    assert 200 == answer.status
    assert terms.hold_nusd == terms.slice_nusd
    assert answer.headers["Payment-Receipt"]
    assert machine.rail.channel.spent_nusd == await bought_by_key(machine, "/v1/embeddings", EMBED)


async def test_images_are_paid_for_by_the_piece(open_media: OpenMediaSite) -> None:
    media = await open_media(gateway=MACHINE_ON)
    machine = rail_of(media.site)
    body = {"model": "painter", "prompt": "a sea", "n": 2}

    answer = await machine.paid(body, 10**6, path="/v1/images/generations")

    assert 200 == answer.status, answer.body
    assert 2 * IMAGE_NUSD == machine.rail.channel.spent_nusd
    assert 2 == decoded(answer.headers["Payment-Receipt"])["units"]


async def test_speech_has_its_receipt_behind_it(open_media: OpenMediaSite) -> None:
    media = await open_media(gateway=MACHINE_ON)
    machine = rail_of(media.site)
    body = {"model": "speaker", "input": "hello sea", "voice": "alloy"}
    path = "/v1/audio/speech"
    credential = await machine.credential(body, 10**6, path=path)
    sent = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Payment {credential}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n"
        "Connection: close\r\n\r\n"
    )

    async with connected(media.site.gateway.port) as client:
        await client.send(head.encode() + sent)
        answer = (await client.rest()).decode("latin-1")

    first, _, body_part = answer.partition("\r\n\r\n")
    assert "200 OK" in first.splitlines()[0]
    assert "\r\nTrailer: Payment-Receipt\r\n" in first
    trailer = body_part.rpartition("\r\n0\r\n")[2]
    name, _, value = trailer.strip().partition(": ")
    assert ("Payment-Receipt", CHANNEL) == (name, decoded(value)["channelId"])
    assert len("hello sea") * CHARACTER_PUSD // 1000 == machine.rail.channel.spent_nusd


async def test_speech_is_read_by_a_client_that_knows_no_trailer(open_media: OpenMediaSite) -> None:
    media = await open_media(gateway=MACHINE_ON)
    machine = rail_of(media.site)
    body = {"model": "speaker", "input": "hello sea", "voice": "alloy"}

    answer = await machine.paid(body, 10**6, path="/v1/audio/speech")

    assert 200 == answer.status
    assert answer.body


async def test_transcription_is_paid_for_as_a_form(open_media: OpenMediaSite) -> None:
    media = await open_media(gateway=MACHINE_ON)
    machine = rail_of(media.site)
    url = f"{media.site.url}/v1/audio/transcriptions"

    def form() -> aiohttp.FormData:
        found = aiohttp.FormData()
        found.add_field("model", "listener")
        found.add_field("file", wav(2.0), filename="a.wav", content_type="audio/wav")
        return found

    asked = await answer_of(media.site.http.post(url, data=form()))
    credential = f"open.{CHANNEL}.{ENOUGH}.{asked.json['challengeId']}"
    headers = {"Authorization": f"Payment {credential}"}
    answer = await answer_of(media.site.http.post(url, data=form(), headers=headers))

    assert (402, 200) == (asked.status, answer.status)
    assert machine.rail.channel.spent_nusd == machine.rail.concluded["lease-1"].charge_nusd > 0


async def test_openai_sdk_reads_a_stream_with_payment_events(machine: MachineSite) -> None:
    body = chat("shape=c16-d2", stream=True, max_tokens=64)
    # The size of the prompt is part of the price, so the challenge is for what the SDK sends.
    sent = json.dumps(body, separators=(",", ":")).encode()
    kind = {"Content-Type": "application/json"}
    url = machine.site.url + "/v1/chat/completions"
    asked = await answer_of(machine.site.http.post(url, data=sent, headers=kind))
    challenge = asked.json["challengeId"]
    units = -(-machine.rail.terms[challenge].slice_nusd // 1000)
    credential = f"open.{CHANNEL}.{units}.{challenge}"
    headers = {"Authorization": f"Payment {credential}"}
    said, needs = "", 0

    async with openai.AsyncOpenAI(
        base_url=f"{machine.site.url}/v1", api_key="none", default_headers=headers, max_retries=0
    ) as client:
        stream = await client.chat.completions.create(**body)
        async for chunk in stream:
            said += chunk.choices[0].delta.content or ""
            extra = chunk.model_extra or {}
            if "requiredCumulative" in extra:
                needs += 1
                await machine.voucher(int(extra["requiredCumulative"]))

    assert tokens(16) == said
    assert needs >= 2


async def test_openai_sdk_reads_responses_with_payment_events(machine: MachineSite) -> None:
    body = {**CHATS["/v1/responses"], "stream": True}
    challenge = await machine.challenge(body, "/v1/responses")
    headers = {"Authorization": f"Payment open.{CHANNEL}.{ENOUGH}.{challenge}"}

    async with openai.AsyncOpenAI(
        base_url=f"{machine.site.url}/v1", api_key="none", default_headers=headers, max_retries=0
    ) as client:
        stream = await client.responses.create(**body)
        kinds = [event.type async for event in stream]

    assert ["payment-receipt", "response.completed"] == kinds[-2:]


async def test_fallback_models_are_held_at_the_dearest(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site, slice_tokens=8)
    body = chat("shape=c4-d0", stream=True, max_tokens=64)

    await machine.challenge(body)
    await machine.challenge({**body, "model": "acme/deep/free@v1", "models": ["acme/small"]})
    answer = await machine.paid({**body, "model": "acme/deep/free@v1", "models": ["acme/small"]})

    alone, both = (call.terms for call in machine.rail.of(pb.ChallengeRequest)[:2])
    assert (alone.slice_nusd, alone.hold_nusd) == (both.slice_nusd, both.hold_nusd)
    assert "[DONE]" == events_in(answer.body)[-1].data
    assert alone.slice_nusd < alone.hold_nusd >= price_nusd(1, 64)


async def test_price_ceiling_makes_slices_cheaper(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site, Wish(), slice_tokens=8)
    ceilings = {"max_input_price_per_million": 15, "max_output_price_per_million": 60}
    body = chat("shape=c4-d0", stream=True, max_tokens=64)

    await machine.challenge(body)
    await machine.challenge({**body, **ceilings})

    usual, capped = (call.terms for call in machine.rail.of(pb.ChallengeRequest))
    assert capped.slice_nusd <= usual.slice_nusd
