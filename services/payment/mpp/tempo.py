"""The way to a node: JSON-RPC over HTTP, the only client of machine payments that leaves the house.

One session, a deadline for each call, answers of bounded size, no redirects. Neither what is sent
nor what the node says in words gets into an error: transactions and vouchers move money.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import msgspec

from services.payment.mpp.node import read_refusal, silence
from services.payment.mpp.settings import ChainSettings
from services.payment.mpp.tempo_chain import TempoChain

_CONNECT_S: Final = 3.0
_OK: Final = 200


class TempoNode:
    """A node behind an address. Takes the session from its opener, which closes it."""

    def __init__(self, session: aiohttp.ClientSession, settings: ChainSettings) -> None:
        self._session = session
        self._settings = settings
        self._ids = itertools.count(1)
        self._room = asyncio.Semaphore(settings.calls_max)

    async def call(self, method: str, *parameters: object, wait_s: float = 0) -> object:
        """Ask the node; see `services.payment.mpp.node.Node`."""
        number = next(self._ids)
        body = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        try:
            async with asyncio.timeout(self._settings.call_s + wait_s), self._room:
                text = await self._post(msgspec.json.encode(body))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise silence(f"The node did not answer {method}.") from error
        return _result(text, number)

    async def _post(self, body: bytes) -> bytes:
        limit = self._settings.answer_bytes_max
        async with self._session.post(
            self._settings.rpc_url, data=body, allow_redirects=False
        ) as answer:
            text = bytearray()
            async for part in answer.content.iter_any():
                text += part
                if len(text) > limit:
                    raise silence(f"The node's answer is longer than {limit} bytes.")
            if answer.status != _OK:
                raise silence(f"The node answered with HTTP status {answer.status}.")
            return bytes(text)


def _result(text: bytes, number: int) -> object:
    try:
        answer = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise silence("The node's answer is not JSON.") from error
    if not isinstance(answer, dict) or answer.get("id") != number:
        raise silence("The node's answer does not belong to what was asked.")
    if answer.get("error") is not None:
        raise read_refusal(answer["error"])
    if "result" not in answer:
        raise silence("The node's answer has no result.")
    return answer["result"]


@asynccontextmanager
async def open_tempo(settings: ChainSettings) -> AsyncIterator[TempoChain]:
    """Open the chain; asks no node yet, `check` does.

    Raises:
        ValueError: `rpc_url` is empty, or `payee_key` is no private key.
    """
    if not settings.rpc_url:
        raise ValueError("payment.mpp.chain.rpc_url is empty; it has to name a node.")
    headers = {"Content-Type": "application/json"}
    authorization = settings.rpc_authorization.get_secret_value()
    if authorization:
        headers["Authorization"] = authorization
    timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S)
    connector = aiohttp.TCPConnector(limit=settings.calls_max)
    async with aiohttp.ClientSession(
        headers=headers, timeout=timeout, connector=connector, trust_env=False
    ) as session:
        yield TempoChain(TempoNode(session, settings), settings)
