"""Images and files in bodies: forwarded whole, held for, and longer than text may be. R-B2."""

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fixtures.catalogues import chat, price_nusd, triton_catalogue
from tests.fixtures.content_blocks import PNG, data_url, image, pdf, text, user
from tests.fixtures.gateway import Key, OpenSite, Site, Wish
from tests.fixtures.triton import Triton
from tests.integration.gateway.wire import Answer, answer_of

SHORT, LONG, HELD = 4096, 65_536, 100_000


async def send(site: Site, key: Key, body: bytes, *, is_chunked: bool = False) -> Answer:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 512):
            yield body[at : at + 512]

    headers = {**key.headers, "Content-Type": "application/json"}
    url = f"{site.url}/v1/chat/completions"
    data: Any = pieces() if is_chunked else io.BytesIO(body)
    return await answer_of(site.http.post(url, data=data, headers=headers))


def a_body(*blocks: Any) -> bytes:
    return json.dumps({**chat(), "messages": [user(*blocks)]}).encode()


def picture(size: int) -> dict[str, Any]:
    return image(data_url(PNG + bytes(size)))


def limits(**more: int) -> Wish:
    return Wish(
        gateway={
            "body_bytes_max": SHORT,
            "media_body_bytes_max": LONG,
            "long_bodies_bytes_max": HELD,
            **more,
        }
    )


async def test_images_and_files_reach_the_upstream_as_they_came(site: Site) -> None:
    key = await site.key()
    blocks = [text(), image(detail="low"), picture(50), pdf()]

    answer = await answer_of(site.post(key, {**chat(), "messages": [user(*blocks)]}))

    assert 200 == answer.status
    assert [user(*blocks)] == site.main.seen[0].body["messages"]
    (record,) = await site.settled(key, 1)
    assert price_nusd(12, 16) == record.charge_nusd


async def test_image_is_held_for_by_its_maximum_and_not_by_its_bytes(site: Site) -> None:
    # 256 tokens of answer and 1600 for the image are held; its 40,000 bytes would be dearer.
    enough = await site.key(credit_nusd=price_nusd(1900, 256))
    scarce = await site.key(credit_nusd=price_nusd(1000, 256))
    body = {**chat(), "messages": [user(picture(30_000))]}

    answers = [await answer_of(site.post(key, body)) for key in (enough, scarce)]

    assert [200, 402] == [answer.status for answer in answers]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("transport", ["grpc", "http"])
async def test_triton_model_is_shown_an_image_and_no_host_that_is_private(
    open_site: OpenSite, triton: Triton, transport: str
) -> None:
    site = await open_site(Wish(catalogue=triton_catalogue(triton, transport)))
    key = await site.key()
    body = {"model": "tiny-picture", "max_tokens": 2}
    hosts = ("https://localhost/", "https://192.168.1.1/a.png", "http://example.com/a.png")

    served = await answer_of(site.post(key, {**body, "messages": [user(text("look"), picture(9))]}))
    refused = [
        await answer_of(site.post(key, {**body, "messages": [user(image(url))]})) for url in hosts
    ]
    document = await answer_of(site.post(key, {**body, "messages": [user(pdf())]}))

    assert 200 == served.status
    assert "<|user|>\n<image>\nlook<|end|>" in triton.shown()[-1]["prompt"]
    where = "messages[0].content[0].image_url.url"
    assert [(400, "invalid_value", where)] * 3 == [
        (answer.status, answer.error["code"], answer.error["param"]) for answer in refused
    ]
    assert (400, "unsupported_parameter") == (document.status, document.error["code"])
    await site.settled(key, 1)


async def test_template_of_a_client_needs_the_scope(site: Site) -> None:
    key = await site.key()

    answer = await answer_of(site.post(key, chat(chat_template="{{ messages }}")))

    assert (403, "key_scope", "chat_template") == (
        answer.status,
        answer.error["code"],
        answer.error["param"],
    )
    assert [] == site.main.seen


async def test_what_an_engine_does_not_know_is_refused_or_told(site: Site) -> None:
    key = await site.key()

    told = await answer_of(site.post(key, chat(chat_template_kwargs={"enable_thinking": True})))
    refused = await answer_of(site.post(key, chat(mm_processor_kwargs={"num_crops": 4})))

    assert (200, "chat_template_kwargs") == (told.status, told.headers["X-Turnpike-Ignored"])
    assert "chat_template_kwargs" not in site.main.seen[0].body
    assert (400, "unsupported_parameter", "mm_processor_kwargs") == (
        refused.status,
        refused.error["code"],
        refused.error["param"],
    )


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_body_may_be_long_when_media_makes_it_so(
    open_site: OpenSite, is_chunked: bool
) -> None:
    site = await open_site(limits())
    key = await site.key()

    served = await send(site, key, a_body(picture(40_000)), is_chunked=is_chunked)
    refused = {
        "text": a_body(text("x" * SHORT)),
        "text beside an image": a_body(picture(10), text("x" * SHORT)),
        "text that looks like media": a_body(text("base64," + "A" * SHORT)),
        "image behind text": a_body(text("x" * SHORT), picture(10)),
        "too long": a_body(picture(LONG)),
    }
    answers = {
        name: await send(site, key, body, is_chunked=is_chunked) for name, body in refused.items()
    }

    assert 200 == served.status
    assert dict.fromkeys(refused, (413, "payload_too_large")) == {
        name: (answer.status, answer.error["code"]) for name, answer in answers.items()
    }
    longest = answers["too long"].error["message"]
    assert f"The body is longer than {LONG} bytes." == longest
    assert 1 == len(site.main.seen)
    assert 0 == site.gateway.deps.long_bodies.held_bytes


async def test_long_bodies_share_a_bound_and_give_it_back(open_site: OpenSite) -> None:
    site = await open_site(limits(long_bodies_bytes_max=20_000))
    key = await site.key()

    refused = await send(site, key, a_body(picture(20_000)))
    served = [await send(site, key, a_body(picture(10_000))) for _ in range(3)]

    assert (503, "overloaded") == (refused.status, refused.error["code"])
    assert "1" == refused.headers["Retry-After"]
    assert [200, 200, 200] == [answer.status for answer in served]
    assert 0 == site.gateway.deps.long_bodies.held_bytes


@pytest.mark.parametrize("is_split", [False, True])
async def test_body_of_the_usual_limits_goes_all_the_way(
    open_site: OpenSite, is_split: bool
) -> None:
    site = await open_site(Wish(is_split=is_split))
    key = await site.key()
    body = a_body(text(), picture(12 * 1024**2), picture(11 * 1024**2))
    assert 30 * 1024**2 < len(body) < 32 * 1024**2

    answer = await send(site, key, body)

    assert 200 == answer.status
    assert json.loads(body)["messages"] == site.main.seen[0].body["messages"]
