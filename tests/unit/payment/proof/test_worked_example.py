"""The example of `docs/receipts.md`: its file is good, and its program finds what was changed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from services.payment.proof.bill import BillCheck
from services.payment.proof.receipts import FIELDS
from services.payment.proof.roots import FIELDS as ROOT_FIELDS
from tests.unit.payment.proof.bill_rig import KEYS, SIGNER

PAGE = (Path(__file__).parents[4] / "docs" / "receipts.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def program() -> Any:
    names: dict[str, Any] = {}
    exec(block("python"), names)  # the page's own program is what is tested
    return names["check"]


def test_example_is_proven_by_the_key_that_the_page_gives() -> None:
    check = BillCheck(KEYS)

    check.check(block("json").splitlines())

    assert [] == check.findings
    assert (3, 1, 0) == (check.sums.receipt_count, check.root_count, check.unsigned_count)
    assert SIGNER.public_key in PAGE


def test_program_of_the_page_agrees() -> None:
    lines = block("json").splitlines()

    assert 7_751 == program()(lines)
    for old, new in (('"7751"', '"7750"'), ("triton-a", "triton-b"), ('"index":0', '"index":2')):
        with pytest.raises((AssertionError, ValueError)):
            program()([line.replace(old, new) for line in lines])


def test_page_names_every_field_in_order() -> None:
    text = PAGE[PAGE.index("## A receipt") : PAGE.index("- **Framed.**")]
    members = json.loads(block("json").splitlines()[1])

    assert list(FIELDS) == [name for name in re.findall(r"`([a-z_]+)`", text) if name in FIELDS]
    assert list(ROOT_FIELDS) == [name for name in members if name in ROOT_FIELDS]
