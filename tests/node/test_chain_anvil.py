"""The chain port over anvil with the double of the reserve: the fake node says nothing else."""

import time
from collections.abc import AsyncIterator

import pytest

from services.payment.mpp.tempo import open_tempo
from tests.contract.chain_cases import ChainCases, ChainWorld
from tests.fakes.tempo_chain import chain_settings
from tests.fakes.tempo_payer import TempoPayer
from tests.fixtures.tempo_node import tempo_node

__all__ = ["tempo_node"]


@pytest.fixture
async def world(tempo_node: str) -> AsyncIterator[ChainWorld]:
    settings = chain_settings(tempo_node, receipt_s=2.0)
    async with open_tempo(settings) as chain:
        opened = ChainWorld(chain, settings, TempoPayer())
        await opened.rpc("evm_mine")
        newest = await opened.rpc("eth_getBlockByNumber", "latest", False)
        opened.payer.ahead_s = int(newest["timestamp"], 16) - int(time.time())
        yield opened


class TestChainOverAnvil(ChainCases):
    """The cases of `chain_cases`."""
