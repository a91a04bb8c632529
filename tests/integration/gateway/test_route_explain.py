"""Why a request goes where it goes: asked over HTTP and gRPC, stored, and made again."""

import base64
from typing import Any

import grpc
import pytest

from app.replay import replay_decisions
from gateway.openai.schema import encode
from kit.money import nusd_from_usd
from tests.fixtures.catalogues import SMALL, TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.grpc_caller import SERVED, caller_of, shown
from tests.integration.gateway.wire import Answer, answer_of
from turnpike.auth.v1 import auth_pb2
from turnpike.metering.v1 import metering_pb2
from turnpike.router.v1 import route_pb2, router_pb2


async def explain(site: Site, key: Key, **fields: Any) -> Answer:
    url = f"{site.url}/v1/route:explain"
    body = chat() | {"model": TWICE, "max_tokens": 64} | fields
    return await answer_of(site.http.post(url, json=body, headers=key.headers))


async def test_choice_is_explained_with_reasons_and_a_quote(site: Site) -> None:
    key = await site.key()

    answer = await explain(site, key)

    assert answer.status == 200
    found = answer.json
    assert ("route.explanation", TWICE, "balanced", "twice-main") == (
        found["object"], found["model"], found["strategy"], found["deployment"]
    )  # fmt: skip
    main, spare = found["candidates"]
    assert ("twice-main", None, True) == (main["deployment"], main["excluded"], main["is_in_band"])
    assert ("twice-spare", None, False) == (
        spare["deployment"], spare["excluded"], spare["is_in_band"]
    )  # fmt: skip
    quote = {name: nusd_from_usd(text) for name, text in found["quote"].items()}
    assert 0 < quote["estimated_usd"] <= quote["worst_case_usd"]
    assert price_nusd(0, 64) < quote["worst_case_usd"]
    assert answer.headers["X-Route-Model"] == TWICE


async def test_asking_costs_nothing_calls_nobody_and_counts_in_the_rate(site: Site) -> None:
    key = await site.key(credit_nusd=0, requests_per_minute=2)

    answers = [await explain(site, key) for _ in range(3)]

    assert [200, 200, 429] == [answer.status for answer in answers]
    assert [] == await site.records(key)
    assert 0 == (await site.balance(key)).charged_nusd
    assert not site.main.seen


@pytest.mark.parametrize(
    ("fields", "excluded"),
    [
        ({"max_input_price_per_million": 1, "max_output_price_per_million": 1}, {"ceiling": 2}),
        ({"guided_regex": "a+"}, {"parameters": 2}),
    ],
)
async def test_nobody_is_an_answer_too(
    site: Site, fields: dict[str, Any], excluded: dict[str, int]
) -> None:
    key = await site.key()

    answer = await explain(site, key, **fields)

    assert (200, None, None, excluded) == (
        answer.status, answer.json["deployment"], answer.json["quote"], answer.json["excluded"]
    )  # fmt: skip


async def test_openrouters_words_are_understood(site: Site) -> None:
    key = await site.key()

    turned = await explain(site, key, provider={"order": ["spare"], "allow_fallbacks": False})
    private = await explain(site, key, provider={"zdr": True})
    served = await answer_of(
        site.post(key, chat(model=TWICE, provider={"ignore": ["twice-main"], "sort": "price"}))
    )

    assert "twice-spare" == turned.json["deployment"]
    assert ["fallbacks"] == [each["excluded"] for each in turned.json["candidates"][1:]]
    assert ({"policy": 2}, None) == (private.json["excluded"], private.json["deployment"])
    assert (200, "1") == (served.status, served.headers["X-Turnpike-Attempts"])
    assert not site.main.seen
    assert "provider" not in site.spare.seen[0].body


async def test_what_chat_would_refuse_is_refused_here(site: Site) -> None:
    key = await site.key()

    assert (404, "model_not_found") == refusal(await explain(site, key, model="nobody"))
    assert (400, "invalid_value") == refusal(await explain(site, key, temperature=9))
    url = f"{site.url}/v1/route:explain"
    assert (401, "invalid_api_key") == refusal(await answer_of(site.http.post(url, json=chat())))


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.error["code"]


async def test_internal_teams_ask_over_grpc(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway=SERVED))
    key = await site.key()
    request = router_pb2.ExplainRouteRequest(body=encode(chat(model=TWICE)))

    async with caller_of(site) as router:
        found = await router.ExplainRoute(request, metadata=shown(key), timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            await router.ExplainRoute(request, timeout=20)

    assert found.decision.first == "twice-main"
    assert [each.deployment for each in found.candidates] == ["twice-main", "twice-spare"]
    assert not found.HasField("snapshot")
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [] == await site.records(key)


async def stored(site: Site) -> list[dict[str, str]]:
    answer = await site.metering.ListRouteDecisions(metering_pb2.ListRouteDecisionsRequest())
    return [
        {"request_id": each.request_id, "data": base64.b64encode(each.data).decode()}
        for each in answer.decisions
    ]


async def snapshots(site: Site, found: list[dict[str, str]]) -> dict[str, bytes]:
    ids = {
        route_pb2.Decision.FromString(base64.b64decode(each["data"])).snapshot_id for each in found
    }
    return {
        snapshot_id: (
            await site.metering.GetRouteSnapshot(
                metering_pb2.GetRouteSnapshotRequest(snapshot_id=snapshot_id)
            )
        ).data
        for snapshot_id in ids
    }


async def test_what_was_decided_is_stored_and_made_again(open_site: OpenSite) -> None:
    site = await open_site()
    catalogue = usual_catalogue(site.main, site.spare)
    for place in catalogue["models"][TWICE]["deployments"]:
        place.pop("priority", None)
    site.write_catalogue(catalogue)
    key = await site.key()
    strategies = ("balanced", "cheapest", "fastest")
    for number in range(30):
        wishes = {"routing_strategy": strategies[number % 3], "session_id": "a secret session"}
        if number % 2:
            del wishes["session_id"]
        answer = await answer_of(site.post(key, chat(model=TWICE, **wishes)))
        assert answer.status == 200
    await answer_of(site.post(key, chat(model=SMALL)))
    records = await site.settled(key, 31)

    found = await stored(site)
    data = await snapshots(site, found)
    report = replay_decisions(found, data.__getitem__)

    several = {r.request_id for r in records if r.model_id == TWICE}
    assert several == {each["request_id"] for each in found}
    assert (30, [], []) == (report.same_count, report.different, report.lost)
    assert not any(b"secret" in base64.b64decode(each["data"]) for each in found)


async def test_key_and_account_say_how_their_requests_are_routed(site: Site) -> None:
    thrifty = await site.auth.CreateAccount(
        auth_pb2.CreateAccountRequest(name="Thrift", routing_strategy="cheapest")
    )
    account_id = thrifty.account.account_id
    plain = await site.key(account_id=account_id)
    hasty = await site.key(account_id=account_id, routing_strategy="fastest")

    strategies = [
        (await explain(site, plain)).json["strategy"],
        (await explain(site, hasty)).json["strategy"],
        (await explain(site, hasty, routing_strategy="balanced")).json["strategy"],
        (await explain(site, await site.key())).json["strategy"],
    ]

    assert ["cheapest", "fastest", "balanced", "balanced"] == strategies
    assert "cheapest" == thrifty.account.routing_strategy


async def test_key_keeps_resellers_out_unless_a_request_lets_them_in(open_site: OpenSite) -> None:
    site = await open_site()
    catalogue = usual_catalogue(site.main, site.spare)
    catalogue["providers"]["main"]["type"] = "external"
    site.write_catalogue(catalogue)
    key = await site.key(is_external_allowed=False)

    async def is_kept_out() -> bool:
        return bool((await explain(site, key)).json["excluded"] == {"external": 1})

    await until(is_kept_out)

    assert {} == (await explain(site, key, allow_external=True)).json["excluded"]


async def test_strategy_that_is_none_is_refused(site: Site) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        await site.key(routing_strategy="luck")

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
