"""Fixtures for what Node runs; `make node` installs the official client beside these files."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fixtures.gateway import migrated_rooms, open_site

HERE = Path(__file__).parent
RUN_S = 60.0

__all__ = ["migrated_rooms", "open_site"]


@pytest.fixture
async def model() -> AsyncIterator[OpenAiModel]:
    async with open_openai_model() as opened:
        yield opened


async def node(*arguments: str, variables: Mapping[str, str]) -> str:
    """Run Node to its good end and return what it wrote."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", *arguments, cwd=HERE, stdout=pipe, stderr=pipe, env={**os.environ, **variables}
    )
    try:
        async with asyncio.timeout(RUN_S):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, error.decode()
    return out.decode()
