"""mppx against mppx: what the session and charge tests of the gateway stand on works by itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.tempo_payer import PAYEE, PAYEE_KEY
from tests.fixtures.tempo_node import node_server, tempo_node
from tests.node.paying import Shop, assert_session_is_paid, pay

__all__ = ["tempo_node"]


@pytest.fixture
def shop(tempo_node: str, tmp_path: Path) -> Iterator[Shop]:
    variables = {"PAY_KEY": PAYEE_KEY, "PAY_RPC": tempo_node}
    script, log = "reference_server.mjs", tmp_path / "reference.log"
    with node_server(script, log=log, variables=variables) as url:
        yield Shop(url, tempo_node)


async def test_session_pays_exactly_what_was_spent(shop: Shop) -> None:
    said = await pay("session", shop)

    assert_session_is_paid(said)


async def test_drop_in_fetch_hides_payment_frames(shop: Shop) -> None:
    said = await pay("drop_in", shop)

    assert 200 == said["stream"]["status"]
    assert said["stream"]["leaks"] is False
    assert 200 == said["plain"]["status"]


async def test_charge_is_one_transfer(shop: Shop) -> None:
    said = await pay("charge", Shop(shop.url + "charge", shop.rpc_url))

    assert 200 == said["status"]
    assert 500 == int(said["payee_got"])
    assert PAYEE != said["receipt"]["reference"]
    assert 1 == said["sent"]["transaction"] + said["sent"]["hash"]
