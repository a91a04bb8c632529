"""Quotes and receipts at the gateway: a promised price holds, and its receipt proves itself."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from services.payment.proof.bill import BillCheck, Sums, head_line
from services.payment.proof.quotes import Quote, sign_quote
from tests.fixtures.catalogues import SMALL, TWICE, chat, price_nusd, usual_catalogue
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.integration.gateway.wire import Answer, answer_of
from tests.unit.payment.proof.bill_rig import KEYS, SIGNER
from turnpike.payment.v1 import receipts_pb2

SEED = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
DEAR = {"input_usd_per_million": "15", "output_usd_per_million": "60"}
CHEAP = {"input_usd_per_million": "0.01", "output_usd_per_million": "0.60"}
FAR_MS = 4_000_000_000_000


@pytest.fixture
async def signed_site(open_site: OpenSite, tmp_path: Path) -> Site:
    signing = {"signing_key": SEED, "roots_path": str(tmp_path / "roots.jsonl"), "root_s": 0.05}
    return await open_site(Wish(payment={"proof": signing}, gateway={"models_ttl_s": 0.1}))


async def quote(site: Site, key: Key, body: Any) -> Answer:
    return await answer_of(site.http.post(f"{site.url}/v1/quotes", json=body, headers=key.headers))


async def receipt(site: Site, key: Key, request_id: str) -> Answer:
    url = f"{site.url}/v1/receipts/{request_id}"
    return await answer_of(site.http.get(url, headers=key.headers))


async def reprice(site: Site, price: dict[str, str]) -> None:
    """Replace the catalogue and wait until the gateway knows the new price."""
    catalogue = usual_catalogue(site.main, site.spare)
    for model in (SMALL, TWICE):
        for deployment in catalogue["models"][model]["deployments"]:
            deployment["price"] = price
    site.write_catalogue(catalogue)
    key = await site.key()

    async def is_known() -> bool:
        found = await answer_of(site.http.get(f"{site.url}/v1/models", headers=key.headers))
        prices = {model["id"]: model["pricing"] for model in found.json["data"]}
        return float(prices[SMALL]["input_usd_per_million"]) == float(
            price["input_usd_per_million"]
        )

    await until(is_known)


def forged(key: Key, **changes: Any) -> str:
    whole: dict[str, Any] = {
        "name": "quote-x", "account_id": key.account_id, "model_id": SMALL,
        "expires_unix_ms": FAR_MS, "key_id": SIGNER.key_id, "input_pusd_per_token": 1,
        "output_pusd_per_token": 1, "request_pusd": 0, "unit_pusd": 0, "unit": "",
    }  # fmt: skip
    return sign_quote(Quote(**{**whole, **changes}), SIGNER)


async def test_quote_tells_prices_the_most_it_can_cost_and_how_long(signed_site: Site) -> None:
    key = await signed_site.key()

    by_body = await quote(signed_site, key, chat(max_tokens=64))
    bounds = {"model": SMALL, "prompt_tokens_max": 1_000, "completion_tokens_max": 64}
    by_bounds = await quote(signed_site, key, bounds)

    assert (200, 200) == (by_body.status, by_bounds.status), by_body.json
    found = by_bounds.json
    assert ("quote", SMALL, "0.0001884") == (found["object"], found["model"], found["cost_usd_max"])
    assert {
        "input_usd_per_token": "0.00000015",
        "output_usd_per_token": "0.0000006",
        "request_usd": "0.00",
    } == found["pricing"]
    assert found["expires_at"] > 1_700_000_000
    assert "0.00" < by_body.json["cost_usd_max"] < "0.0001"


@pytest.mark.parametrize("model", [SMALL, TWICE])
async def test_quoted_price_holds_when_the_catalogue_gets_dearer(
    signed_site: Site, model: str
) -> None:
    site, key = signed_site, await signed_site.key()
    made = await quote(site, key, chat(model=model))
    await reprice(site, DEAR)

    with_quote = await answer_of(
        site.post(key, chat(model=model), **{"X-Quote-Id": made.json["id"]})
    )
    without = await answer_of(site.post(key, chat(model=model)))

    assert (200, 200) == (with_quote.status, without.status), with_quote.json
    records = {record.request_id: record for record in await site.settled(key, 2)}
    quoted = records[with_quote.headers["X-Request-Id"]]
    tokens = quoted.usage.prompt_token_count, quoted.usage.completion_token_count
    assert price_nusd(*tokens) == quoted.charge_nusd
    assert 50 * quoted.charge_nusd < records[without.headers["X-Request-Id"]].charge_nusd
    proof = await receipt(site, key, quoted.request_id)
    fields = proof.json["receipts"][0]["receipt"]
    assert fields["price_id"].startswith("quote-")
    assert ("150000", str(quoted.charge_nusd)) == (
        fields["input_pusd_per_token"],
        fields["charged_nusd"],
    )
    table = await receipt(site, key, f"{quoted.request_id}.csv")
    (row,) = csv.DictReader(io.StringIO(table.body.decode()))
    assert table.headers["Content-Type"].startswith("text/csv")
    assert {**fields, "hash": proof.json["receipts"][0]["hash"]} == row


async def test_stream_with_a_quote_is_charged_by_it(signed_site: Site) -> None:
    site, key = signed_site, await signed_site.key()
    made = await quote(site, key, chat())
    await reprice(site, DEAR)

    asked = chat("fake=usage:every", stream=True)
    async with site.post(key, asked, **{"X-Quote-Id": made.json["id"]}) as response:
        assert 200 == response.status
        await response.read()

    (record,) = await site.settled(key, 1)
    tokens = record.usage.prompt_token_count, record.usage.completion_token_count
    assert price_nusd(*tokens) == record.charge_nusd


async def test_quote_makes_nothing_dearer(signed_site: Site) -> None:
    site, key = signed_site, await signed_site.key()
    made = await quote(site, key, chat())
    await reprice(site, CHEAP)

    answer = await answer_of(site.post(key, chat(), **{"X-Quote-Id": made.json["id"]}))

    assert 200 == answer.status
    (record,) = await site.settled(key, 1)
    usage = record.usage
    cheap = usage.prompt_token_count * 10_000 + usage.completion_token_count * 600_000
    assert -(-cheap // 1_000) == record.charge_nusd


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"account_id": "another"}, "was made to another account"),
        ({"model_id": TWICE}, f"is for {TWICE}, not {SMALL}"),
        ({"expires_unix_ms": 1}, "is over since"),
        ({"key_id": "0" * 16}, "is no quote of this service"),
    ],
)
async def test_quote_that_is_not_for_this_is_refused(
    signed_site: Site, changes: dict[str, Any], says: str
) -> None:
    key = await signed_site.key()

    answer = await answer_of(
        signed_site.post(key, chat(), **{"X-Quote-Id": forged(key, **changes)})
    )

    assert (400, "invalid_value", "X-Quote-Id") == (
        answer.status, answer.error["code"], answer.error["param"]
    )  # fmt: skip
    assert says in answer.error["message"]
    assert [] == signed_site.main.seen


@pytest.mark.parametrize("shown", ["", "q1", "q1.AA.AA", "x" * 3_000, "q1.é.é", "q2.AAAA.AAAA"])
async def test_what_is_no_quote_is_refused(signed_site: Site, shown: str) -> None:
    key = await signed_site.key()

    answer = await answer_of(signed_site.post(key, chat(), **{"X-Quote-Id": shown}))

    assert (400, "invalid_value", "X-Quote-Id") == (
        answer.status, answer.error["code"], answer.error["param"]
    )  # fmt: skip


async def test_quote_that_was_changed_is_refused(signed_site: Site) -> None:
    key = await signed_site.key()
    good = forged(key)
    head, data, signature = good.split(".")
    other = forged(key, output_pusd_per_token=0).split(".")[1]

    bad = await answer_of(
        signed_site.post(key, chat(), **{"X-Quote-Id": f"{head}.{other}.{signature}"})
    )
    fine = await answer_of(signed_site.post(key, chat(), **{"X-Quote-Id": good}))

    assert data != other
    assert (400, 200) == (bad.status, fine.status)


async def test_quote_and_several_models_exclude_each_other(signed_site: Site) -> None:
    key = await signed_site.key()
    asked = chat(models=[SMALL, TWICE])

    shown = await answer_of(signed_site.post(key, asked, **{"X-Quote-Id": forged(key)}))
    made = await quote(signed_site, key, asked)

    assert (400, "X-Quote-Id") == (shown.status, shown.error["param"])
    assert (400, "models") == (made.status, made.error["param"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "model"),
        ({"model": SMALL, "prompt_tokens_max": -1}, "prompt_tokens_max"),
        ({"model": SMALL, "prompt_tokens_max": 1.5}, "prompt_tokens_max"),
        ({"model": SMALL, "completion_tokens_max": 8_193}, "completion_tokens_max"),
        ({"model": SMALL, "tokens": 1}, "tokens"),
        ({"model": "absent"}, "model"),
        ({"model": SMALL, "messages": []}, "messages"),
    ],
)
async def test_wish_for_a_quote_that_makes_no_sense_names_the_field(
    signed_site: Site, body: Any, param: str
) -> None:
    answer = await quote(signed_site, await signed_site.key(), body)

    assert answer.status in (400, 404)
    assert param == answer.error["param"]


async def test_quotes_are_off_without_a_key(open_site: OpenSite) -> None:
    site = await open_site()

    answer = await quote(site, await site.key(), chat())

    assert (503, "unavailable") == (answer.status, answer.error["code"])


async def test_receipt_of_a_request_proves_itself_and_is_shown_to_its_account_alone(
    signed_site: Site,
) -> None:
    site, key, other = signed_site, await signed_site.key(), await signed_site.key()
    answer = await answer_of(site.post(key, chat()))
    request_id = answer.headers["X-Request-Id"]
    await site.settled(key, 1)

    async def is_proven() -> bool:
        found = await receipt(site, key, request_id)
        return found.status == 200 and found.json["receipts"][0]["proof"] is not None

    await until(is_proven)
    shown = await receipt(site, key, request_id)
    foreign = await receipt(site, other, request_id)
    absent = await receipt(site, key, "0" * 36)

    fields = shown.json["receipts"][0]["receipt"]
    assert ("receipt", request_id, request_id, SMALL, key.account_id) == (
        shown.json["object"], shown.json["request_id"], fields["request_id"], fields["model_id"],
        fields["account_id"],
    )  # fmt: skip
    assert "upstream" == fields["token_source"]
    assert (404, 404) == (foreign.status, absent.status)
    assert foreign.error["message"] == absent.error["message"]


async def test_account_of_a_site_exports_a_bill_that_adds_up(signed_site: Site) -> None:
    site, key = signed_site, await signed_site.key()
    for _ in range(3):
        assert 200 == (await answer_of(site.post(key, chat()))).status
    records = await site.settled(key, 3)

    async def listed() -> receipts_pb2.ListReceiptsResponse:
        wish = receipts_pb2.ListReceiptsRequest(account_id=key.account_id)
        return await site.receipts.ListReceipts(wish)

    async def is_signed() -> bool:
        return '"proof":null' not in "".join((await listed()).receipts)

    await until(is_signed)
    page, check = await listed(), BillCheck(KEYS)
    sums = Sums()
    for line in page.receipts:
        members = json.loads(line)
        sums.add(members["receipt"], members["hash"])
    check.check([head_line(key.account_id), *page.roots, *page.receipts, sums.line()])

    assert [] == check.findings
    assert sum(record.charge_nusd for record in records) == check.sums.amounts["charged_nusd"]
    assert (3, 0) == (check.sums.receipt_count, check.unsigned_count)
