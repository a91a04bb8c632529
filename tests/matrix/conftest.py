"""One open site for each provider, for as long as its cells are being asked."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.fixtures.gateway import Wish, migrated_rooms, running_site
from tests.matrix.providers import Provider, Surroundings
from tests.matrix.sites import Place, catalogue_of

__all__ = ["migrated_rooms"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(
    request: pytest.FixtureRequest, migrated_rooms: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    """The site over the provider that a test is parametrised with."""
    provider: Provider = request.param
    folder = tmp_path_factory.mktemp("matrix")
    shutil.copytree(migrated_rooms, folder / "site")
    async with AsyncExitStack() as stack:
        around = Surroundings(folder, lambda: request.getfixturevalue("triton"))
        opened = await provider.open(stack, around)
        catalogue, unwritable = catalogue_of(provider, opened)
        wish = Wish(catalogue=catalogue, router={"flush_s": 0.01})
        site = await stack.enter_async_context(running_site(wish, folder / "site"))
        yield Place(provider, opened, site, unwritable)
