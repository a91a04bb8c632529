"""The fake node of Tempo as a process of its own, and what a test asks of it over JSON-RPC.

    python -m tests.fakes.tempo_process --fund ADDRESS --fund ADDRESS

It prints one line of JSON with its `url`, and ends with whoever started it.
"""

import argparse
import asyncio
import json
import sys
import urllib.request
from typing import Any

from eth_abi.abi import decode

from tests.fakes.tempo_chain import FUNDS, open_tempo_chain
from tests.fakes.tempo_payer import TOKEN, Terms, call_data

_CALL_S = 10.0


def asked(url: str, method: str, *parameters: Any) -> Any:
    """Call an RPC method and return its result."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_CALL_S) as answer:
        return json.load(answer)["result"]


def balance_of(url: str, address: str) -> int:
    """Return what an address has of the token, base units."""
    data = "0x" + call_data("balanceOf(address)", address).hex()
    found = asked(url, "eth_call", {"to": TOKEN, "data": data}, "latest")
    return int(decode(["uint256"], bytes.fromhex(found[2:]))[0])


async def _serve(funded: list[str]) -> None:
    async with open_tempo_chain(Terms()) as chain:
        for address in funded:
            chain.world.balances[TOKEN, address.lower()] = FUNDS
        sys.stdout.write(json.dumps({"url": chain.url}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fund", action="append", default=[])
    asyncio.run(_serve(parser.parse_args().fund))
