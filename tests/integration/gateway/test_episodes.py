"""Budgets of episodes over HTTP: an agent's loop stops where its money ends, and goes on."""

import asyncio
from typing import Any

import pytest

from tests.fixtures.catalogues import FREE, chat, price_nusd
from tests.fixtures.gateway import USD, Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import Answer, answer_of
from turnpike.payment.v1 import caps_pb2

FULL = chat("shape=c256-d0 prompt=1 use=max", max_tokens=256)


async def put(site: Site, key: Key, episode: str, body: Any) -> Answer:
    url = f"{site.url}/v1/episodes/{episode}"
    return await answer_of(site.http.put(url, json=body, headers=key.headers))


async def get(site: Site, key: Key, path: str) -> Answer:
    return await answer_of(site.http.get(f"{site.url}/v1/{path}", headers=key.headers))


async def ask(site: Site, key: Key, episode: str, body: Any = None) -> Answer:
    headers = {"X-Episode-Id": episode} if episode else {}
    return await answer_of(site.post(key, body or chat(max_tokens=16), **headers))


async def test_loop_stops_at_its_budget_says_what_is_missing_and_goes_on_when_it_is_raised(
    site: Site,
) -> None:
    key = await site.key(scopes=["chat", "usage", "admin"])
    episode = site.new_id()
    made = await put(site, key, episode, {"budget_nusd": 0})

    refused = await ask(site, key, episode)
    missing_nusd = int(refused.error["details"]["missing_nusd"])
    other = await ask(site, key, "")
    free = await ask(site, key, episode, chat(model=FREE))
    await put(site, key, episode, {"budget_nusd": missing_nusd})
    paid = await ask(site, key, episode)

    assert (200, 0) == (made.status, made.json["budget_nusd"])
    assert (402, "billing_hard_limit_reached", "billing_error") == (
        refused.status,
        refused.error["code"],
        refused.error["type"],
    )
    assert ("episode", "0") == tuple(
        refused.error["details"][name] for name in ("limit_source", "limit_nusd")
    )
    assert f"{missing_nusd / USD:.9f}".rstrip("0") == refused.error["details"]["missing_usd"]
    assert [200, 200, 200] == [other.status, free.status, paid.status]
    await site.settled(key, 3)
    spent = (await get(site, key, f"episodes/{episode}")).json
    assert price_nusd(12, 16) == spent["spent_nusd"]
    assert missing_nusd - price_nusd(12, 16) == spent["left_nusd"]


async def test_parallel_requests_of_an_episode_spend_no_more_than_its_budget(
    open_site: OpenSite,
) -> None:
    site = await open_site(Wish())
    key = await site.key(scopes=["chat", "usage", "admin"])
    episode = site.new_id()
    await put(site, key, episode, {"budget_nusd": 0})
    need = int((await ask(site, key, episode, FULL)).error["details"]["missing_nusd"])
    await put(site, key, episode, {"budget_nusd": 5 * need})

    seen = await asyncio.gather(*(ask(site, key, episode, FULL) for _ in range(30)))

    passed = sum(each.status == 200 for each in seen)
    await site.settled(key, passed)
    found = (await get(site, key, f"episodes/{episode}")).json
    assert {200, 402} == {each.status for each in seen}
    assert 5 <= passed
    assert found["spent_nusd"] <= 5 * need
    assert sum(r.charge_nusd for r in await site.records(key)) == found["spent_nusd"]


async def test_first_request_after_the_budget_is_set_is_held_singly_on_every_gateway(
    open_site: OpenSite,
) -> None:
    site = await open_site(Wish())
    key = await site.key(scopes=["chat", "usage", "admin"])
    other = await site.open_another()
    warm = [
        await answer_of(site.post_to(gateway, key, chat())) for gateway in (site.gateway, other)
    ]
    episode = site.new_id()

    await put(site, key, episode, {"budget_usd": "0"})

    async def is_refused() -> bool:
        body = chat(max_tokens=16, episode_id=episode)
        answer = await answer_of(site.post_to(other, key, body))
        return answer.status == 402

    assert [200, 200] == [each.status for each in warm]
    assert 402 == (await ask(site, key, episode)).status
    await until(is_refused, wait_s=2.0)


async def test_default_budget_of_a_key_holds_for_an_episode_nobody_set_up(site: Site) -> None:
    key = await site.key()
    name = caps_pb2.CapName(
        account_id=key.account_id,
        scope=caps_pb2.CapName.SCOPE_KEY_EPISODE,
        subject=key.key_id,
        window=caps_pb2.CapName.WINDOW_TOTAL,
    )
    request_id = site.new_id()
    await site.caps.SetCap(caps_pb2.SetCapRequest(name=name, limit_nusd=1, request_id=request_id))
    episode = site.new_id()

    refused = await ask(site, key, episode)
    raised = await put(site, key, episode, {"budget_usd": "0.01"})
    kept = await put(site, key, episode, {"budget_nusd": 1})

    assert (402, "episode") == (refused.status, refused.error["details"]["limit_source"])
    assert (403, "key_scope", "budget") == (
        raised.status,
        raised.error["code"],
        raised.error["param"],
    )
    assert (200, 1) == (kept.status, kept.json["budget_nusd"])


async def test_episode_is_the_accounts_own(site: Site) -> None:
    key, stranger = await site.key(), await site.key()
    episode = site.new_id()
    await put(site, key, episode, {"budget_usd": "0.50"})

    mine = await get(site, key, f"episodes/{episode.upper()}")
    theirs = await get(site, stranger, f"episodes/{episode}")

    assert {
        "id": episode,
        "object": "episode",
        "budget_usd": "0.50",
        "budget_nusd": USD // 2,
        "spent_usd": "0.00",
        "spent_nusd": 0,
        "held_usd": "0.00",
        "held_nusd": 0,
        "left_usd": "0.50",
        "left_nusd": USD // 2,
    } == mine.json
    assert (404, "episode_id") == (theirs.status, theirs.error["param"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "budget_usd"),
        ({"budget_usd": "1", "budget_nusd": 1}, "budget_usd"),
        ({"budget_usd": "-1"}, "budget_usd"),
        ({"budget_usd": "much"}, "budget_usd"),
        ({"budget_usd": "0.0000000001"}, "budget_usd"),
        ({"budget_usd": "99999999"}, "budget_usd"),
        ({"budget_usd": 0.5}, "budget_usd"),
        ({"budget_nusd": -1}, "budget_nusd"),
        ({"budget_nusd": "5"}, "budget_nusd"),
        ({"budget_eur": "5"}, "budget_eur"),
    ],
)
async def test_budget_that_is_none_is_refused_by_name(
    open_site: OpenSite, body: Any, param: str
) -> None:
    site = await open_site()
    key = await site.key()

    answer = await put(site, key, site.new_id(), body)

    assert (400, param) == (answer.status, answer.error["param"])


@pytest.mark.parametrize("episode", ["x", "0b1c4a9e-0000-4000-8000-000000000000", "fffffffff"])
async def test_episode_that_is_none_is_refused(open_site: OpenSite, episode: str) -> None:
    site = await open_site()
    key = await site.key()

    answers = [
        await put(site, key, episode, {"budget_nusd": 1}),
        await get(site, key, f"episodes/{episode}"),
    ]

    assert [(400, "episode_id")] * 2 == [(each.status, each.error["param"]) for each in answers]
