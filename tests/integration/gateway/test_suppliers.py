"""Suppliers and providers behind a whole site: whoever answered is owed, by the same event."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest

from kit.rpc.local import LocalMode
from services.router.speed import SAMPLES_MIN
from tests.fakes.openai_script import Script
from tests.fakes.openai_upstream import OpenAiUpstream, open_openai_upstream
from tests.fixtures.catalogues import TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import answer_of, read_chunks
from turnpike.payment.v1 import payment_pb2, suppliers_pb2

COST = {"input_usd_per_million": "0.10", "output_usd_per_million": "0.40"}
SHARE = {"supplier": "acme", "fee_bps": 1_000}
OpenMarket = Callable[..., Awaitable[Site]]


def cost_nusd(prompt: int, completion: int) -> int:
    return -(-(prompt * 100_000 + completion * 400_000) // 1_000)


@pytest.fixture
async def open_market(open_site: OpenSite) -> AsyncIterator[OpenMarket]:
    """A function that opens a site whose two deployments have terms."""
    async with open_openai_upstream() as main, open_openai_upstream() as spare:

        async def open_one(
            first: Mapping[str, Any], second: Mapping[str, Any], **router: Any
        ) -> Site:
            catalogue = usual_catalogue(main, spare)
            for provider in catalogue["providers"].values():
                provider["type"] = "native"
            for entry, terms in zip(
                catalogue["models"][TWICE]["deployments"], (first, second), strict=True
            ):
                entry.update(terms)
            wish = Wish(mode=LocalMode.VERIFY, router=router, catalogue=catalogue)
            site = await open_site(wish)
            site.main, site.spare = main, spare
            return site

        yield open_one


async def owed(site: Site) -> dict[str, int]:
    found = await site.suppliers.ListPayees(suppliers_pb2.ListPayeesRequest())
    return {payee.payee_id: payee.owed_nusd for payee in found.payees}


async def proof(site: Site) -> list[payment_pb2.Finding]:
    answer = await site.payment.VerifyLedger(payment_pb2.VerifyLedgerRequest())
    return list(answer.findings)


async def ask(site: Site, key: Key, upstream: OpenAiUpstream, **fields: Any) -> None:
    before = len(upstream.seen)
    answer = await answer_of(site.post(key, chat(model=TWICE, **fields)))
    assert 200 == answer.status
    assert before < len(upstream.seen)


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_supplier_earns_its_share_of_the_answer(
    open_market: OpenMarket, is_streaming: bool
) -> None:
    site = await open_market(SHARE, {})
    key = await site.key()

    await ask(site, key, site.main, stream=is_streaming)

    (record,) = await site.settled(key, 1)
    assert price_nusd(12, 16) == record.charge_nusd
    assert {"supplier:acme": record.charge_nusd * 9 // 10} == await owed(site)
    assert [] == await proof(site)


async def test_whoever_answers_after_a_failure_is_owed(open_market: OpenMarket) -> None:
    site = await open_market(SHARE, {"cost": COST})
    site.main.handler = lambda _seen: Script(status=500)
    key = await site.key()

    await ask(site, key, site.spare)

    await site.settled(key, 1)
    assert {"provider:spare": cost_nusd(12, 16)} == await owed(site)
    assert [] == await proof(site)


async def test_cut_answer_owes_for_what_the_customer_paid(open_market: OpenMarket) -> None:
    site = await open_market(SHARE, {})
    key = await site.key()
    asked = chat("fake=chunks:2000;delay_ms:5", model=TWICE, stream=True, max_tokens=2_000)

    async with site.post(key, asked) as response:
        await read_chunks(response, 5)
        response.close()

    (record,) = await site.settled(key, 1)
    assert 0 < record.charge_nusd
    assert {"supplier:acme": record.charge_nusd * 9 // 10} == await owed(site)
    assert [] == await proof(site)


async def test_loser_of_two_calls_costs_the_operator_and_no_customer(
    open_market: OpenMarket,
) -> None:
    site = await open_market({"cost": COST}, {"priority": 5}, hedge_share=0.05)
    key = await site.key(requests_per_minute=0)
    for _ in range(SAMPLES_MIN):
        await ask(site, key, site.main, stream=True)
    await site.settled(key, SAMPLES_MIN)
    before = (await owed(site))["provider:main"]
    site.main.handler = lambda _seen: Script(hang="headers_before")

    await ask(site, key, site.spare, stream=True)

    records = await site.settled(key, SAMPLES_MIN + 1)
    assert ("twice-spare", price_nusd(12, 16)) == (records[0].deployment, records[0].charge_nusd)
    assert SAMPLES_MIN * cost_nusd(12, 16) == before

    async def is_booked() -> bool:
        return (await owed(site))["provider:main"] > before

    await until(is_booked)
    assert [] == await proof(site)


async def test_gift_pays_for_an_answer_and_the_supplier_is_owed_as_ever(
    open_market: OpenMarket,
) -> None:
    site = await open_market(SHARE, {})
    account_id = await site.account(credit_nusd=0)
    await site.payment.CreditAccount(
        payment_pb2.CreditAccountRequest(
            account_id=account_id, amount_nusd=10**9, source="promo", request_id=site.new_id()
        )
    )
    key = await site.key(account_id=account_id)

    await ask(site, key, site.main)

    (record,) = await site.settled(key, 1)
    assert 10**9 - record.charge_nusd == (await site.balance(key)).promo_nusd
    assert {"supplier:acme": record.charge_nusd * 9 // 10} == await owed(site)
    sums = await site.suppliers.SummarizeCosts(suppliers_pb2.SummarizeCostsRequest())
    assert record.charge_nusd == sums.promo_spent_nusd == sums.summaries[0].paid_nusd
    assert [] == await proof(site)
