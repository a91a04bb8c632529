"""The public mppx client, unmodified, pays a Turnpike of processes on a chain."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fixtures.tempo_node import tempo_node
from tests.node.paying import assert_session_is_paid, pay
from tests.node.selling import SLICE_TOKENS, Counter, open_counter

__all__ = ["tempo_node"]

VOUCHERS_MIN = 3
TOKENS = 6 * SLICE_TOKENS
LONG = f"prompt=40 shape=c{TOKENS}-d10"
TEXT = "".join(f"tok{index} " for index in range(TOKENS))
SHORT_TEXT = "".join(f"tok{index} " for index in range(16))
LONG_WISH = {"prompt": LONG, "tokens": str(TOKENS)}
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def counter(tempo_node: str, tmp_path: Path) -> AsyncIterator[Counter]:
    async with open_counter(tmp_path, tempo_node) as opened:
        yield opened


async def test_session_pays_exactly_what_was_spent(counter: Counter) -> None:
    said = await pay("session", counter.shop, **LONG_WISH)

    assert_session_is_paid(said)
    assert VOUCHERS_MIN <= said["stream"]["vouchers"]
    assert "[DONE]" == said["stream"]["last"]
    verified = await counter.settled(4)
    assert verified["is_clean"], verified["findings"]
    assert counter.price() == int(said["close"]["spent"])
    ((_, settled, refunded),) = said["closes"]
    await counter.has_earned(int(settled))
    assert 1_250_000 == int(settled) + int(refunded)


async def test_drop_in_fetch_hides_payment_frames(counter: Counter) -> None:
    said = await pay("drop_in", counter.shop, **LONG_WISH)

    assert 200 == said["stream"]["status"]
    assert said["stream"]["leaks"] is False
    assert said["stream"]["text"].endswith("data: [DONE]\n\n")
    assert 200 == said["plain"]["status"]
    assert SHORT_TEXT == said["plain"]["body"]["choices"][0]["message"]["content"]
    await _assert_idle_channel_is_paid(counter, 2)


async def test_openai_client_whose_fetch_pays_sees_its_answers_only(counter: Counter) -> None:
    said = await pay("openai", counter.shop, **LONG_WISH)

    assert TEXT == said["stream"]["text"]
    assert "stop" == said["stream"]["finish"]
    assert VOUCHERS_MIN <= said["stream"]["vouchers"]
    assert SHORT_TEXT == said["plain"]
    assert 16 == said["usage"]["completion_tokens"]
    await _assert_idle_channel_is_paid(counter, 2)


async def test_charge_is_one_transfer_whose_rest_comes_back(counter: Counter) -> None:
    said = await pay("charge", counter.shop)

    assert 200 == said["status"]
    assert SHORT_TEXT == said["body"]["choices"][0]["message"]["content"]
    assert "success" == said["receipt"]["status"]
    assert 1 == said["sent"]["transaction"] + said["sent"]["hash"]
    transferred = int(said["payee_got"])
    assert transferred == int(said["payer_paid"]) - int(said["fees"])
    verified = await counter.settled(1)
    assert verified["is_clean"], verified["findings"]
    assert counter.price() < transferred
    await counter.has_earned(transferred)
    await counter.again(refund_min_base_units=1, refund_after_s=0)
    await counter.has_earned(counter.price())
    verified = await counter.settled(1)
    assert verified["is_clean"], verified["findings"]


async def _assert_idle_channel_is_paid(counter: Counter, count: int) -> None:
    """Assert that a channel that nobody closes is closed for what was bought after a restart."""
    verified = await counter.settled(count)
    assert verified["is_clean"], verified["findings"]
    await counter.again(idle_close_s=0.5)
    await counter.has_earned(counter.price())
    verified = await counter.settled(count)
    assert verified["is_clean"], verified["findings"]
