"""The example pays a server that is not ours, and then a Turnpike of processes."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from services.payment.mpp.tempo import open_tempo
from tests.contract.chain_cases import ChainWorld
from tests.fakes.tempo_chain import chain_settings
from tests.fakes.tempo_payer import PAYEE, PAYEE_KEY, PAYER_KEY
from tests.fixtures.tempo_node import node_server, tempo_node
from tests.node.selling import SLICE_TOKENS, open_counter

__all__ = ["tempo_node"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "mpp_client.py"
RUN_S = 60.0


async def _example(rpc_url: str, *arguments: str) -> tuple[str, str]:
    pipe = asyncio.subprocess.PIPE
    variables = {**os.environ, "TEMPO_RPC_URL": rpc_url, "TEMPO_PRIVATE_KEY": PAYER_KEY}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), *arguments), stdout=pipe, stderr=pipe, env=variables
    )
    try:
        async with asyncio.timeout(RUN_S):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, error.decode()
    return out.decode(), error.decode()


async def test_example_opens_streams_and_closes(tempo_node: str, tmp_path: Path) -> None:
    variables = {"PAY_KEY": PAYEE_KEY, "PAY_RPC": tempo_node}
    log = tmp_path / "reference.log"
    settings = chain_settings(tempo_node)
    async with open_tempo(settings) as chain:
        world = ChainWorld(chain, settings)
        before = await world.balance(PAYEE)
        with node_server("reference_server.mjs", log=log, variables=variables) as url:
            said, cost = await _example(tempo_node, "hello", "--url", url)
        got = await world.balance(PAYEE) - before

    assert 225 == got
    assert " ".join(f"word{index}" for index in range(8)) == said.strip()
    assert "$0.000225" in cost


@pytest.mark.timeout(180)
async def test_example_says_what_the_chain_paid(tempo_node: str, tmp_path: Path) -> None:
    tokens = 6 * SLICE_TOKENS
    async with open_counter(tmp_path, tempo_node) as counter:
        shop = counter.shop
        prompt = f"prompt=40 shape=c{tokens}-d5"

        said, cost = await _example(tempo_node, prompt, "--url", shop.url, "--model", shop.model)

        verified = await counter.settled(1)
        printed = re.fullmatch(r"\[paid \$0\.(\d{6}); .*\]\n", cost)
        assert printed, cost
        assert counter.price() == int(printed[1])
        await counter.has_earned(int(printed[1]))
    assert verified["is_clean"], verified["findings"]
    assert "".join(f"tok{index} " for index in range(tokens)).strip() == said.strip()
