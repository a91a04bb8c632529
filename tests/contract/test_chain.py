"""The chain port over the fake node."""

from collections.abc import AsyncIterator

import pytest

from services.payment.mpp.tempo import open_tempo
from tests.contract.chain_cases import ChainCases, ChainWorld
from tests.fakes.tempo_chain import chain_settings, open_tempo_chain


@pytest.fixture
async def world() -> AsyncIterator[ChainWorld]:
    async with open_tempo_chain() as node:
        settings = chain_settings(node.url)
        async with open_tempo(settings) as chain:
            yield ChainWorld(chain, settings)


class TestChainOverTheFakeNode(ChainCases):
    """The cases of `chain_cases`."""
