"""Fixtures: a whole site in this process, with the gateway on a real socket."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.openai_model import OpenAiModel, open_openai_model
from tests.fixtures.gateway import migrated_rooms, open_site

__all__ = ["migrated_rooms", "open_site"]


@pytest.fixture
async def model() -> AsyncIterator[OpenAiModel]:
    """An upstream that does what it is asked."""
    async with open_openai_model() as opened:
        yield opened
