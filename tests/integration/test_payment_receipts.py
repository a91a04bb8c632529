"""Receipts inside the room: verification without roots, and the service's border."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from kit.errors import Reason, TurnpikeError
from services.payment.proof.roots_file import RootsFile
from services.payment.proof.servicer import ReceiptServicer
from services.payment.proof.settings import ProofSettings
from services.payment.proof.store import ProofStore
from tests.unit.payment.proof.bill_rig import SIGNER, priced, signed
from tests.unit.payment.proof.tampering import drop_guards, edit_receipt, rehash
from tests.unit.payment.rig import Rig, open_rig, outcome
from turnpike.payment.v1 import receipts_pb2 as pb
from turnpike.type.v1 import usage_pb2


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        await opened.credit("a", 10_000_000)
        await opened.credit("b", 10_000_000)
        mine, _ = await opened.lease("a", 200_000)
        other, _ = await opened.lease("b", 100_000)
        await opened.settle(
            priced("r1", mine),
            priced("r2", mine, is_refunded=True),
            priced("s1", other, account_id="b"),
        )
        yield opened


def service(rig: Rig, path: Path, **changes: Any) -> Any:
    whole: dict[str, Any] = {
        "signer": SIGNER, "file": RootsFile(path), "clock": rig.clock, "settings": ProofSettings(),
    }  # fmt: skip
    servicer = ReceiptServicer(ProofStore(rig.transactions), **{**whole, **changes})

    class Calls:
        def __getattr__(self, name: str) -> Any:
            return lambda request: getattr(servicer, name)(request, None)

    return Calls()


@pytest.mark.parametrize(
    ("statement", "check", "subject"),
    [
        ("DELETE FROM receipts WHERE account_id = 'b'", "receipt", "b:1"),
        ("DELETE FROM receipts WHERE account_id = 'b'", "usage", "6"),
        ("DELETE FROM receipts WHERE receipt_seq = 3", "receipt", "a:2"),
        ("DELETE FROM receipts WHERE receipt_seq = 2", "receipt", "a:3"),
        ("DELETE FROM receipts WHERE receipt_seq = 2", "charge", "r2:outcome"),
        ("UPDATE receipts SET hash = body WHERE receipt_seq = 2", "receipt", "a:2"),
        ("UPDATE receipts SET body = hash WHERE receipt_seq = 2", "receipt", "a:2"),
        ("UPDATE receipts SET kind = 'x' WHERE receipt_seq = 3", "receipt", "a:3"),
        ("UPDATE receipts SET event_id = 'x\\:outcome' WHERE receipt_seq = 2", "receipt", "a:2"),
        ("UPDATE receipts SET txn_seq = 6 WHERE receipt_seq = 2", "receipt", "a:2"),
        ("UPDATE charges SET key_id = 'x' WHERE event_id = 'r1\\:outcome'", "charge",
         "r1:outcome"),
        ("UPDATE charges SET model_id = 'x' WHERE event_id = 'r1\\:outcome'", "charge",
         "r1:outcome"),
        ("UPDATE receipt_heads SET receipt_seq = 9 WHERE account_id = 'a'", "receipt", "a:3"),
        ("INSERT INTO receipt_heads SELECT 'c', 1, hash FROM receipt_heads"
         " WHERE account_id = 'a'", "receipt", "c:1"),
    ],
)  # fmt: skip
async def test_verification_names_a_receipt_without_any_root(
    rig: Rig, statement: str, check: str, subject: str
) -> None:
    assert (await rig.verify()).is_clean
    await rig.transactions.write(drop_guards)
    await rig.transactions.write(partial(_execute, statement))

    answer = await rig.verify()

    assert (check, subject) in {(found.check, found.subject) for found in answer.findings}


async def test_receipt_that_cannot_be_read_is_named_although_it_is_hashed(rig: Rig) -> None:
    await rig.transactions.write(drop_guards)
    cut = "UPDATE receipts SET body = hash WHERE account_id = 'b'"
    await rig.transactions.write(partial(_execute, cut))
    await rig.transactions.write(rehash)

    answer = await rig.verify()

    details = {(each.subject, each.detail.partition(":")[0]) for each in answer.findings}
    assert ("b:1", "It cannot be read") in details
    assert ("s1:outcome", "Its receipt cannot be read.") in details


async def test_receipt_of_another_place_is_named_although_it_is_hashed(rig: Rig) -> None:
    await rig.transactions.write(drop_guards)
    await rig.transactions.write(partial(edit_receipt, account_id="b", place=1, receipt_seq="7"))
    await rig.transactions.write(partial(edit_receipt, account_id="a", place=1, request_id="r7"))
    await rig.transactions.write(rehash)

    details = {(each.subject, each.detail) for each in (await rig.verify()).findings}

    assert ("b:1", "It is filed as another receipt than it is.") in details
    assert ("a:1", "It is filed under another request than its own.") in details


async def test_charge_that_costs_nothing_has_no_receipt(rig: Rig) -> None:
    await rig.settle(outcome("free", "", hold_nusd=0, charge_nusd=0, account_id="a"))

    assert 3 == len(await ProofStore(rig.transactions).receipts_of("a", after=0, count_max=9))
    assert (await rig.verify()).is_clean


async def test_receipts_are_listed_in_pages_with_what_proves_them(rig: Rig, tmp_path: Path) -> None:
    calls = service(rig, tmp_path / "roots.jsonl")
    unsigned = await calls.ListReceipts(pb.ListReceiptsRequest(account_id="a"))
    await signed(rig, tmp_path / "roots.jsonl", root_transactions_max=1)

    first = await calls.ListReceipts(pb.ListReceiptsRequest(account_id="a", page_size=2))
    rest = await calls.ListReceipts(
        pb.ListReceiptsRequest(account_id="a", page_size=2, page_token=first.next_page_token)
    )
    one = await calls.GetReceipt(pb.GetReceiptRequest(account_id="a", request_id="r2"))
    roots = await calls.ListRoots(pb.ListRootsRequest(page_size=7))

    assert [None] * 3 == [json.loads(each)["proof"] for each in unsigned.receipts]
    assert ("2", "") == (first.next_page_token, rest.next_page_token)
    assert [5, 5, 7] == [
        json.loads(each)["proof"]["root"] for each in (*first.receipts, *rest.receipts)
    ]
    assert list(one.receipts) == [first.receipts[1], rest.receipts[0]]
    assert list(one.roots) == [*first.roots, *rest.roots]
    assert ("7", 7) == (roots.next_page_token, len(roots.roots))


@pytest.mark.parametrize(
    ("method", "request_", "reason", "param"),
    [
        ("GetReceipt", pb.GetReceiptRequest(account_id="a"), Reason.MISSING_FIELD, "request_id"),
        ("GetReceipt", pb.GetReceiptRequest(account_id="a", request_id="r1\n"),
         Reason.INVALID_VALUE, "request_id"),
        ("GetReceipt", pb.GetReceiptRequest(account_id="a", request_id="s1"), Reason.NOT_FOUND,
         "request_id"),
        ("ListReceipts", pb.ListReceiptsRequest(), Reason.MISSING_FIELD, "account_id"),
        ("ListReceipts", pb.ListReceiptsRequest(account_id="a", page_size=201),
         Reason.INVALID_VALUE, "page_size"),
        ("ListReceipts", pb.ListReceiptsRequest(account_id="a", page_token="x"),
         Reason.INVALID_VALUE, "page_token"),
        ("ListRoots", pb.ListRootsRequest(page_size=-1), Reason.INVALID_VALUE, "page_size"),
        ("VerifyRoots", pb.VerifyRootsRequest(lines=[""] * 65), Reason.INVALID_VALUE, "lines"),
        ("VerifyRoots", pb.VerifyRootsRequest(page_token="1:2"), Reason.INVALID_VALUE,
         "page_token"),
        ("VerifyRoots", pb.VerifyRootsRequest(public_keys=["x"]), Reason.INVALID_VALUE,
         "public_keys"),
        ("VerifyRoots", pb.VerifyRootsRequest(public_keys=["x"] * 17), Reason.INVALID_VALUE,
         "public_keys"),
        ("SignQuote", pb.SignQuoteRequest(account_id="a"), Reason.MISSING_FIELD, "model_id"),
        ("SignQuote", pb.SignQuoteRequest(account_id="a", model_id="m",
         price=usage_pb2.Price(unit_pusd=-1)), Reason.INVALID_VALUE, "price.unit_pusd"),
    ],
)  # fmt: skip
async def test_bad_wish_is_refused_by_name(
    rig: Rig, tmp_path: Path, method: str, request_: Any, reason: Reason, param: str
) -> None:
    calls = service(rig, tmp_path / "roots.jsonl")

    with pytest.raises(TurnpikeError) as refused:
        await getattr(calls, method)(request_)

    assert (reason, param) == (refused.value.reason, refused.value.metadata["param"])


async def test_kept_lines_that_are_none_are_findings(rig: Rig, tmp_path: Path) -> None:
    lines = await signed(rig, tmp_path / "roots.jsonl", root_transactions_max=3)
    calls = service(rig, tmp_path / "roots.jsonl")
    changed = [
        "{}", "[]", "nonsense", "[" * 50_000, "x" * (1024 * 1024 + 1),
        lines[1].replace('"transactions":[["4"', '"transactions":[["5"'),
        lines[1].replace('"leaf_count":"3"', '"leaf_count":"2"'),
        lines[1].replace('"signature":"', '"signature":"zz'),
    ]  # fmt: skip

    for line in changed:
        found = await calls.VerifyRoots(pb.VerifyRootsRequest(lines=[lines[0], line]))
        assert ("root", "2") in {(each.check, each.subject) for each in found.findings}, line[:40]


async def test_without_a_key_nothing_is_signed_and_nothing_trusted(
    rig: Rig, tmp_path: Path
) -> None:
    await signed(rig, tmp_path / "roots.jsonl")
    calls = service(rig, tmp_path / "roots.jsonl", signer=None)

    key = await calls.GetPublicKey(pb.GetPublicKeyRequest())
    found = await calls.VerifyRoots(pb.VerifyRootsRequest())
    by_key = await calls.VerifyRoots(pb.VerifyRootsRequest(public_keys=[SIGNER.public_key]))

    assert "" == key.public_key
    assert ["root"] == [each.check for each in found.findings]
    assert [] == list(by_key.findings)


def _execute(statement: str, connection: Connection) -> None:
    connection.execute(text(statement))
