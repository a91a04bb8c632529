"""What changes while the gateway runs: keys are revoked, catalogues replaced, models listed."""

import asyncio
import json
from typing import Any

import pytest

from tests.fixtures.catalogues import FREE, SMALL, TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import answer_of, events_of, read_chunks, text_of, tokens
from turnpike.auth.v1 import auth_pb2

LONG_LIVED = {"verdict_ttl_s": 3600.0, "verdict_ttl_blind_s": 3600.0}
LONG = chat("fake=chunks:3000;delay_ms:5;usage:every", stream=True, max_tokens=3000)


async def ids(site: Site, key: Key) -> list[str]:
    answer = await answer_of(site.http.get(f"{site.url}/v1/models", headers=key.headers))
    assert 200 == answer.status
    return [model["id"] for model in answer.json["data"]]


async def test_revoked_key_is_refused_and_its_stream_ended(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway=LONG_LIVED))
    key, other = await site.key(), await site.key()

    async with site.post(key, LONG) as response, site.post(other, LONG) as untouched:
        first = await read_chunks(response, 3)
        await read_chunks(untouched, 3)
        await site.revoke(key)
        events = events_of(first + await response.read())
        await until(lambda: site.main.seen[0].is_over)
        refused = await answer_of(site.post(key, chat()))
        others = await read_chunks(untouched, 3)
        untouched.close()

    (record,) = await site.settled(key, 1)
    error = events[-1]["error"]
    assert ("key_revoked", "authentication_error") == (error["code"], error["type"])
    assert "[DONE]" not in events
    assert record.request_id == error["request_id"]
    delivered = record.usage.completion_token_count
    assert text_of(events) in (tokens(delivered), tokens(delivered + 1))
    assert price_nusd(12, delivered) == record.charge_nusd
    assert (401, "key_revoked") == (refused.status, refused.error["code"])
    assert b'"content":"tok' in others


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_request_without_content_yet_ends_with_a_status_when_its_key_is_revoked(
    site: Site, is_streaming: bool
) -> None:
    key = await site.key()
    asked = chat("fake=hang:headers_before", stream=is_streaming)

    async with asyncio.TaskGroup() as tasks:
        held = tasks.create_task(answer_of(site.post(key, asked)))
        await until(lambda: len(site.main.seen) == 1)
        await site.revoke(key)
        answer = await held

    (record,) = await site.settled(key, 1)
    assert (401, "key_revoked") == (answer.status, answer.error["code"])
    assert ("client_closed", 0) == (record.outcome, record.charge_nusd)
    await until(lambda: site.main.seen[0].is_over)


async def test_rotated_key_works_with_both_secrets(site: Site) -> None:
    key = await site.key()

    rotated = await site.auth.RotateKey(auth_pb2.RotateKeyRequest(key_id=key.key_id))
    fresh = Key(key.account_id, key.key_id, rotated.secret)

    answers = [await answer_of(site.post(each, chat())) for each in (key, fresh)]

    assert [200, 200] == [answer.status for answer in answers]
    assert 2 == len(await site.settled(key, 2))


async def test_models_are_listed_with_prices_and_got_by_any_name(site: Site) -> None:
    key = await site.key()
    url = f"{site.url}/v1/models"
    names = (SMALL, "acme%2Fsmall", "small", FREE, "acme/deep/free%40v1")

    listed = await answer_of(site.http.get(url, headers=key.headers))
    got = [await answer_of(site.http.get(f"{url}/{n}", headers=key.headers)) for n in names]

    by_id = {model["id"]: model for model in listed.json["data"]}
    assert "list" == listed.json["object"]
    assert [FREE, SMALL, TWICE] == list(by_id)
    assert {
        "id": SMALL,
        "object": "model",
        "created": 1_760_000_000,
        "owned_by": "acme",
        "aliases": ["small"],
        "context_length": 8192,
        "pricing": {
            "input_usd_per_million": "0.15",
            "output_usd_per_million": "0.60",
            "input_usd_per_million_max": "0.15",
            "output_usd_per_million_max": "0.60",
        },
    } == {n: v for n, v in by_id[SMALL].items() if n != "supported_parameters"}
    assert [by_id[SMALL]] * 3 + [by_id[FREE]] * 2 == [answer.json for answer in got]
    assert "temperature" in by_id[SMALL]["supported_parameters"]


async def test_key_sees_only_the_models_it_may_use(site: Site) -> None:
    key = await site.key(models=[SMALL, FREE])

    assert [FREE, SMALL] == await ids(site, key)


async def test_alias_and_slashes_reach_the_model(site: Site) -> None:
    key = await site.key(models=[SMALL, FREE])

    by_alias = await answer_of(site.post(key, chat(model="small")))
    deep = await answer_of(site.post(key, chat(model=FREE)))

    assert ["small", FREE] == [a.headers["X-Route-Model"] for a in (by_alias, deep)]
    assert [SMALL, FREE] == [a.json["model"] for a in (by_alias, deep)]


def changed(site: Site) -> dict[str, Any]:
    catalogue = usual_catalogue(site.main, site.spare)
    small = catalogue["models"].pop(SMALL)
    small["deployments"][0] |= {"name": "small-spare", "provider": "spare"}
    del catalogue["models"][TWICE]
    return {
        **catalogue,
        "models": {
            **catalogue["models"],
            SMALL: small,
            "acme/new": {
                "context_length": 4096,
                "deployments": [{**small["deployments"][0], "name": "new-spare"}],
            },
        },
    }


async def test_good_catalogue_is_taken_over_while_a_stream_goes_on(site: Site) -> None:
    key = await site.key()
    asked = chat("shape=c100-d5", stream=True, max_tokens=200)

    async with site.post(key, asked) as response:
        first = await read_chunks(response, 2)
        site.write_catalogue(changed(site))

        async def is_there() -> bool:
            return await ids(site, key) == [FREE, "acme/new", SMALL]

        await until(is_there)
        moved = await answer_of(site.post(key, chat()))
        fresh = await answer_of(site.post(key, chat(model="acme/new")))
        gone = await answer_of(site.post(key, chat(model=TWICE)))
        rest = await response.read()

    assert [200, 200, 404] == [answer.status for answer in (moved, fresh, gone)]
    assert 2 == len(site.spare.seen)
    assert tokens(100) == text_of(events_of(first + rest))
    assert 3 == len(await site.settled(key, 3))


@pytest.mark.parametrize(
    "text",
    [
        "catalogue: [",
        "catalogue: {models: {a/b: {context_length: 1}}}",
        "catalogue: {models: {a/b: {surprise: 1}}}",
        'catalogue: {providers: {p: {kind: openai_compat, base_url: "${NOT_SET}"}}}',
        "\x00",
    ],
)
async def test_bad_catalogue_keeps_the_old_one(open_site: OpenSite, text: str) -> None:
    site = await open_site()
    key = await site.key()
    before = await ids(site, key)

    site.write_catalogue(text)
    site_is_told = asyncio.get_running_loop().time() + 0.3
    while asyncio.get_running_loop().time() < site_is_told:
        assert before == await ids(site, key)
        assert 200 == (await answer_of(site.post(key, chat("shape=c1-d0")))).status
    site.write_catalogue(changed(site))

    async def is_changed() -> bool:
        return "acme/new" in await ids(site, key)

    await until(is_changed)
    assert json.loads(site.catalogue_path.read_text())
