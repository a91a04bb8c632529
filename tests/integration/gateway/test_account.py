"""What a caller is told about its account over HTTP, and what a key may not see."""

from typing import Any

import pytest

from tests.fixtures.catalogues import SMALL, chat, price_nusd
from tests.fixtures.gateway import USD, Key, OpenSite, Site, until
from tests.integration.gateway.wire import Answer, answer_of
from turnpike.payment.v1 import caps_pb2

ALL = ["chat", "models", "usage", "admin"]


async def get(site: Site, key: Key, path: str, **query: str) -> Answer:
    call = site.http.get(f"{site.url}/v1/{path}", headers=key.headers, params=query)
    return await answer_of(call)


async def cap(site: Site, key: Key, limit_nusd: int, scope: str, window: str = "DAY") -> None:
    name = caps_pb2.CapName(
        account_id=key.account_id,
        scope=caps_pb2.CapName.Scope.Value(f"SCOPE_{scope}"),
        subject="" if scope == "ACCOUNT" else key.key_id,
        window=caps_pb2.CapName.Window.Value(f"WINDOW_{window}"),
    )
    request_id = site.new_id()
    await site.caps.SetCap(
        caps_pb2.SetCapRequest(name=name, limit_nusd=limit_nusd, request_id=request_id)
    )


async def used(site: Site, key: Key, count: int = 1, **fields: Any) -> None:
    for _ in range(count):
        answer = await answer_of(site.post(key, chat(max_tokens=16, **fields)))
        assert 200 == answer.status, answer.body


async def test_balance_shows_what_is_there_and_the_keys_own_caps(site: Site) -> None:
    admin = await site.key(scopes=ALL)
    key = await site.key(account_id=admin.account_id)
    await used(site, key)
    await site.settled(key, 1)
    cost = price_nusd(12, 16)
    await cap(site, key, USD, "ACCOUNT")
    await cap(site, key, USD // 2, "KEY", "TOTAL")
    await cap(site, admin, 7, "KEY", "MONTH")
    await cap(site, key, 5, "KEY_EPISODE", "TOTAL")

    mine, all_of_it = await get(site, key, "balance"), await get(site, admin, "balance")

    shown = mine.json
    assert (200, "balance", key.account_id) == (mine.status, shown["object"], shown["account_id"])
    assert cost == shown["charged_nusd"]
    assert USD - cost == shown["available_nusd"] + shown["held_nusd"]
    assert [("account", "day"), ("key", "total"), ("key_episode", "total")] == [
        (each["scope"], each["window"]) for each in shown["caps"]
    ]
    assert shown["caps"][0]["reset_time"].endswith("T00:00:00Z")
    assert {
        "scope": "key",
        "subject": key.key_id,
        "window": "total",
        "limit_usd": "0.50",
        "limit_nusd": USD // 2,
        "used_nusd": shown["caps"][1]["used_nusd"],
        "used_usd": shown["caps"][1]["used_usd"],
        "left_nusd": USD // 2 - shown["caps"][1]["used_nusd"],
        "left_usd": shown["caps"][1]["left_usd"],
        "reset_time": None,
    } == shown["caps"][1]
    assert "used_nusd" not in shown["caps"][2]
    assert 4 == len(all_of_it.json["caps"])
    assert "no-store" == mine.headers["Cache-Control"]


async def test_refusal_of_a_cap_says_which_and_until_when(site: Site) -> None:
    key = await site.key()
    await cap(site, key, 0, "KEY", "MONTH")

    answer = await answer_of(site.post(key, chat(max_tokens=16)))

    assert (402, "billing_hard_limit_reached") == (answer.status, answer.error["code"])
    details = answer.error["details"]
    assert ("key_month", "0") == (details["limit_source"], details["limit_nusd"])
    assert int(details["resets_unix_s"]) > 1_700_000_000
    assert "a month" in answer.error["message"]


async def test_usage_comes_in_pages_newest_first(site: Site) -> None:
    key = await site.key()
    episode = site.new_id()
    await used(site, key, 2)
    await used(site, key, episode_id=episode)
    await site.settled(key, 3)

    first = (await get(site, key, "usage", limit="2")).json
    second = (await get(site, key, "usage", limit="2", page=first["next_page"])).json
    of_episode = (await get(site, key, "usage", episode_id=episode)).json

    assert (True, False, None) == (first["has_more"], second["has_more"], second["next_page"])
    entries = first["data"] + second["data"]
    assert 3 == len({each["request_id"] for each in entries})
    assert [episode] == [each["episode_id"] for each in of_episode["data"]]
    entry = entries[0]
    assert episode == entry["episode_id"]
    assert (SMALL, key.key_id, "completed", 12, 16, price_nusd(12, 16)) == tuple(
        entry[name]
        for name in (
            "model",
            "key_id",
            "outcome",
            "prompt_tokens",
            "completion_tokens",
            "charge_nusd",
        )
    )


async def test_page_that_is_none_is_refused_by_the_name_it_was_sent_with(site: Site) -> None:
    key = await site.key()

    answer = await get(site, key, "usage", page="no page")

    assert (400, "page") == (answer.status, answer.error["param"])


async def test_usage_is_summed_by_day_model_and_key(site: Site) -> None:
    key = await site.key()
    await used(site, key, 3)
    await site.settled(key, 3)

    found = (await get(site, key, "usage", group_by="day,model,key")).json["data"]

    assert [(SMALL, key.key_id, 3, 48, 3 * price_nusd(12, 16))] == [
        (
            each["model"],
            each["key_id"],
            each["request_count"],
            each["completion_tokens"],
            each["charge_nusd"],
        )
        for each in found
    ]


async def test_key_sees_its_own_usage_and_an_admin_the_accounts(site: Site) -> None:
    admin = await site.key(scopes=ALL)
    key = await site.key(account_id=admin.account_id)
    stranger = await site.key(scopes=ALL)
    await used(site, admin)
    await used(site, key)

    async def keys_of(asker: Key, **query: str) -> set[str]:
        return {each["key_id"] for each in (await get(site, asker, "usage", **query)).json["data"]}

    async def is_metered() -> bool:
        return await keys_of(admin) == {admin.key_id, key.key_id}

    await until(is_metered)
    other = await get(site, key, "usage", key_id=admin.key_id)
    assert {key.key_id} == await keys_of(key) == await keys_of(admin, key_id=key.key_id)
    assert set() == await keys_of(stranger) == await keys_of(stranger, key_id=key.key_id)
    assert (403, "key_scope", "key_id") == (
        other.status,
        other.error["code"],
        other.error["param"],
    )


@pytest.mark.parametrize("path", ["balance", "usage"])
async def test_key_without_the_scope_or_no_key_sees_nothing(open_site: OpenSite, path: str) -> None:
    site = await open_site()
    key = await site.key(scopes=["chat"])

    bare = await answer_of(site.http.get(f"{site.url}/v1/{path}"))
    refused = await get(site, key, path)

    assert (401, 403) == (bare.status, refused.status)


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("balance", "turnpike.payment.v1.PaymentService"),
        ("usage", "turnpike.metering.v1.MeteringService"),
    ],
)
async def test_room_that_is_away_is_said_so(open_site: OpenSite, path: str, service: str) -> None:
    site = await open_site()
    key = await site.key()
    site.board.broken.add(service)

    answer = await get(site, key, path)

    assert (503, "unavailable") == (answer.status, answer.error["code"])
