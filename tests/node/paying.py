"""The public mppx client as a test runs it: `pay` starts `mpp/pay.mjs` and reads what it says."""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.fakes.tempo_payer import PAYEE, PAYER_KEY
from tests.fixtures.tempo_node import MPP
from tests.node.conftest import node


@dataclass(frozen=True, slots=True)
class Shop:
    """What is bought: its address, and the node of the chain that it is paid on."""

    url: str
    rpc_url: str
    model: str = "sea"
    payee: str = PAYEE
    key: str = PAYER_KEY


async def pay(case: str, shop: Shop, **more: str) -> Any:
    """Run one case of `pay.mjs`; `more` are variables without their `PAY_`, such as `tokens`."""
    variables = {
        "PAY_URL": shop.url,
        "PAY_RPC": shop.rpc_url,
        "PAY_MODEL": shop.model,
        "PAY_PAYEE": shop.payee,
        "PAY_KEY": shop.key,
        **{f"PAY_{name.upper()}": value for name, value in more.items()},
    }
    return json.loads(await node(str(MPP / "pay.mjs"), case, variables=variables))


def assert_session_is_paid(said: Any, *, vouchers_min: int = 3) -> None:
    """Assert that a session was opened, used and closed, and that money moved by what was spent."""
    assert 1 == said["sent"]["open"]
    assert vouchers_min <= said["sent"]["voucher"]
    assert 1 <= said["sent"]["topUp"]
    assert 1 <= said["sent"]["close"]
    assert [200, 200, 200] == [each["status"] for each in said["plains"]]
    assert all(each["has_text"] for each in said["plains"])
    spent = int(said["close"]["spent"])
    receipts = [said["stream"]["receipt"], *(each["receipt"] for each in said["plains"])]
    spends = [0, *(int(each["spent"]) for each in receipts)]
    assert all(before < after for before, after in pairwise(spends))
    assert spent == spends[-1]
    assert spent == int(said["payee_got"])
    assert spent == int(said["payer_paid"]) - int(said["fees"])
    ((channel, settled, _),) = said["closes"]
    assert (said["channel"], spent) == (channel, int(settled))
