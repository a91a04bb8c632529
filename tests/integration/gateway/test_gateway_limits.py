"""What callers may spend: exact rate limits, money, and what is said when it runs out."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.fixtures.catalogues import FREE, SMALL, TWICE, chat, price_nusd
from tests.fixtures.gateway import USD, Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import Answer, answer_of, events_of

AUTH = "turnpike.auth.v1.AuthService"
PAYMENT = "turnpike.payment.v1.PaymentService"


async def burst(site: Site, key: Key, count: int, body: dict[str, Any]) -> list[Answer]:
    return await asyncio.gather(*(answer_of(site.post(key, body)) for _ in range(count)))


async def test_exactly_as_many_requests_pass_as_the_key_may_make(site: Site) -> None:
    key = await site.key(requests_per_minute=60)

    answers = await burst(site, key, 100, chat("shape=c2-d0"))

    refused = [answer for answer in answers if answer.status == 429]
    assert Counter({200: 60, 429: 40}) == Counter(answer.status for answer in answers)
    assert {("rate_limit_exceeded", "rate_limit_error")} == {
        (answer.error["code"], answer.error["type"]) for answer in refused
    }
    assert {1} == {1 <= int(answer.headers["Retry-After"]) <= 60 for answer in refused}
    shown = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Tier")
    assert {("60", "0", "default")} == {
        tuple(answer.headers.get(name) for name in shown) for answer in refused
    }
    assert 60 == len(site.main.seen)
    assert 60 == len(await site.settled(key, 60))


async def test_refused_request_passes_in_the_next_minute(site: Site) -> None:
    key = await site.key(requests_per_minute=1, credit_nusd=USD)
    first, second = await burst(site, key, 2, chat())
    other = await site.key(requests_per_minute=1)

    elsewhere = await answer_of(site.post(other, chat()))

    assert {200, 429} == {first.status, second.status}
    assert 200 == elsewhere.status


async def test_limits_count_down_in_the_headers(site: Site) -> None:
    key = await site.key(requests_per_minute=5, tokens_per_minute=0)

    answers = [await answer_of(site.post(key, chat())) for _ in range(6)]

    left = [answer.headers["X-RateLimit-Remaining"] for answer in answers]
    assert ["4", "3", "2", "1", "0", "0"] == left
    assert [200] * 5 + [429] == [answer.status for answer in answers]
    assert {"5"} == {answer.headers["X-RateLimit-Limit"] for answer in answers}


async def test_key_without_limits_shows_none(site: Site) -> None:
    key = await site.key(requests_per_minute=0, tokens_per_minute=0)

    answer = await answer_of(site.post(key, chat()))

    assert 200 == answer.status
    assert "X-RateLimit-Limit" not in answer.headers
    assert "default" == answer.headers["X-RateLimit-Tier"]


async def test_tokens_are_taken_at_their_bound(site: Site) -> None:
    key = await site.key(requests_per_minute=0, tokens_per_minute=1050)
    hanging = chat("fake=hang:headers_before", max_tokens=300)

    async with asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(answer_of(site.post(key, hanging))) for _ in range(3)]
        await until(lambda: len(site.main.seen) == 3)
        over = await burst(site, key, 2, hanging)
        fits = await answer_of(site.post(key, chat(max_tokens=1)))
        for task in held:
            task.cancel()

    assert {(429, "tokens_limit_exceeded")} == {(a.status, a.error["code"]) for a in over}
    assert 200 == fits.status


async def test_tokens_that_were_not_used_are_given_back(site: Site) -> None:
    key = await site.key(requests_per_minute=0, tokens_per_minute=1000)
    failing = chat("fake=status:400", max_tokens=900)

    failed = [(await answer_of(site.post(key, failing))).status for _ in range(3)]
    answers = [await answer_of(site.post(key, chat(max_tokens=900))) for _ in range(4)]

    assert [400, 400, 400] == failed
    assert [200, 200, 200, 429] == [answer.status for answer in answers]
    assert "tokens_limit_exceeded" == answers[3].error["code"]


async def test_account_without_credit_is_told_to_pay(site: Site) -> None:
    key = await site.key(credit_nusd=0)

    answer = await answer_of(site.post(key, chat()))
    free = await answer_of(site.post(key, chat(model=FREE)))
    await site.credit(key.account_id, USD)
    paid = await answer_of(site.post(key, chat()))

    assert (402, "insufficient_quota", "billing_error") == (
        answer.status,
        answer.error["code"],
        answer.error["type"],
    )
    assert "Retry-After" not in answer.headers
    assert [200, 200] == [free.status, paid.status]
    assert {0, price_nusd(12, 16)} == {r.charge_nusd for r in await site.settled(key, 2)}


async def test_refusal_for_money_speaks_the_dialect(site: Site) -> None:
    key = await site.key(credit_nusd=0)

    upper = await answer_of(site.post(key, chat(), prefix="/api/v1"))
    status = await answer_of(site.post(key, chat(), prefix="/bud/v1"))

    assert "INSUFFICIENT_QUOTA" == upper.error["code"]
    assert 402 == status.error["code"]


async def test_credit_is_never_overspent_by_many_at_once(site: Site) -> None:
    hold = price_nusd(0, 256)
    key = await site.key(credit_nusd=10 * hold, requests_per_minute=0, tokens_per_minute=0)
    whole = chat("shape=c256-d0 prompt=1 use=max", max_tokens=256)

    answers = await burst(site, key, 30, whole)

    count = Counter(answer.status for answer in answers)
    records = await site.settled(key, count[200])
    assert {200, 402} == set(count)
    assert sum(record.charge_nusd for record in records) <= 10 * hold
    assert (await site.balance(key)).available_nusd >= 0
    assert 0 == (await site.balance(key)).debt_nusd


async def test_gateway_that_is_full_says_so(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"requests_max": 1}))
    key = await site.key()

    async with asyncio.TaskGroup() as tasks:
        held = tasks.create_task(answer_of(site.post(key, chat("fake=hang:headers_before"))))
        await until(lambda: len(site.main.seen) == 1)
        full = await answer_of(site.post(key, chat()))
        held.cancel()
    await until(lambda: site.gateway.deps.running.count == 0)
    after = await answer_of(site.post(key, chat()))

    assert (503, "overloaded") == (full.status, full.error["code"])
    assert "1" == full.headers["Retry-After"]
    assert 200 == after.status


@pytest.mark.parametrize(
    ("service", "code"), [(AUTH, "auth_unavailable"), (PAYMENT, "ledger_unavailable")]
)
async def test_room_that_is_away_is_no_fault_of_the_caller(
    site: Site, service: str, code: str
) -> None:
    key = await site.key()
    site.board.broken.add(service)

    away = await answer_of(site.post(key, chat()))
    site.board.broken.clear()
    back = await answer_of(site.post(key, chat()))

    assert (503, code, "server_error") == (away.status, away.error["code"], away.error["type"])
    assert "1" == away.headers["Retry-After"]
    assert 200 == back.status
    assert 1 == len(site.main.seen)
    assert 1 == len(await site.settled(key, 1))


async def test_known_key_lives_on_while_auth_is_away(open_site: OpenSite) -> None:
    site = await open_site(Wish(gateway={"verdict_ttl_s": 0.01, "verdict_ttl_blind_s": 0.01}))
    key = await site.key(requests_per_minute=0, tokens_per_minute=0)
    assert 200 == (await answer_of(site.post(key, chat()))).status

    site.board.broken.add(AUTH)
    known = await answer_of(site.post(key, chat()))
    listed = await answer_of(site.http.get(f"{site.url}/v1/models", headers=key.headers))

    assert [200, 200] == [known.status, listed.status]


async def test_unavailable_deployment_is_not_asked_and_the_wait_is_told(site: Site) -> None:
    key = await site.key()
    failing = chat("fake=status:500", timeout_ms=1000)
    for _ in range(5):
        await answer_of(site.post(key, failing))
    count = len(site.main.seen)

    answer = await answer_of(site.post(key, chat(stream=True)))

    error = answer.error
    assert (503, "no_providers_available") == (answer.status, error["code"])
    assert {"excluded": "health=1"} == error["details"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 5
    assert count == len(site.main.seen)
    assert {0} == {record.charge_nusd for record in await site.settled(key, 5)}


async def test_two_models_are_charged_to_one_account_by_two_keys(site: Site) -> None:
    first = await site.key()
    second = await site.key(account_id=first.account_id)

    answers = [
        await answer_of(site.post(first, chat())),
        await answer_of(site.post(second, chat(model=TWICE, stream=True))),
    ]

    assert [200, 200] == [answer.status for answer in answers]
    assert "[DONE]" == events_of(answers[1].body)[-1]

    async def is_settled() -> bool:
        is_charged = (await site.balance(first)).charged_nusd == 2 * price_nusd(12, 16)
        return is_charged and 2 == len(await site.records(first) + await site.records(second))

    await until(is_settled)
    assert [SMALL] == [record.model_id for record in await site.records(first)]
    assert [TWICE] == [record.model_id for record in await site.records(second)]
