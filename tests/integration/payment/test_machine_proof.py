"""Verification names what channels and the ledger do not agree about."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, text

from tests.integration.payment.till import Till, open_till


@pytest.fixture
async def till(database_url: str) -> AsyncIterator[Till]:
    async with open_till(database_url) as opened:
        yield opened


async def _channel(till: Till) -> str:
    opening, admitted = await till.opened(50_000, first=9_000)
    await till.run(admitted, 4_321_001, run_id="run")
    assert await till.is_proven()
    return opening.channel_id


async def _edit(till: Till, change: str, subject: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text(change), {"subject": subject})

    await till.rig.transactions.write(work)


async def _findings(till: Till) -> set[tuple[str, str]]:
    answer = await till.rig.verify()
    return {(finding.check, finding.subject) for finding in answer.findings}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("settled = 4323", id="settled beyond what was spent"),
        pytest.param("accepted = 4321, settled = 0", id="spent beyond what was accepted"),
        pytest.param("accepted = 9001", id="a promise that was never posted"),
        pytest.param("state = 'closed'", id="an end that the chain never saw"),
    ],
)
async def test_edited_channel_is_named(till: Till, change: str) -> None:
    channel_id = await _channel(till)

    await _edit(till, f"UPDATE channels SET {change} WHERE channel_id = :subject", channel_id)

    found = await _findings(till)
    assert {("channel", channel_id), ("channel", f"tempo_escrow:{channel_id}")} & found


async def test_deleted_channel_leaves_an_escrow_that_is_named(till: Till) -> None:
    channel_id = await _channel(till)

    await _edit(till, "DELETE FROM channels WHERE channel_id = :subject", channel_id)

    assert ("channel", f"tempo_escrow:{channel_id}") in await _findings(till)
