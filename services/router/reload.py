"""Reads the catalogue file and follows its changes; a bad file keeps the old catalogue."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from kit.yaml_lines import YamlError
from services.router.catalog import EMPTY, Catalogue
from services.router.catalog_build import build
from services.router.catalog_entries import CatalogueFile
from services.router.catalog_file import parse

_log = structlog.get_logger("router.catalogue")
Adopt = Callable[[CatalogueFile, Catalogue], Awaitable[None]]


class CatalogueKeeper:
    """Holds the current catalogue and swaps it whole.

    `path` None means that there is no file and `default` is all there is.
    """

    def __init__(
        self,
        *,
        path: Path | None,
        default: CatalogueFile,
        variables: Mapping[str, str],
        adopt: Adopt,
    ) -> None:
        self._path = path
        self._default = default
        self._variables = variables
        self._adopt = adopt
        self._digest = b""
        self.current = EMPTY

    async def load(self) -> None:
        """Read the file for the first time.

        Raises:
            YamlError: It is bad; there is no older catalogue to keep.
            OSError: It cannot be read.
        """
        if self._path is None:
            await self._take(self._default)
            return
        text = await asyncio.to_thread(self._path.read_text)
        self._digest = hashlib.sha256(text.encode()).digest()
        await self._take(self._parse(text))

    async def refresh(self) -> bool:
        """Read the file again if it changed; return whether a new catalogue is in force."""
        if self._path is None:
            return False
        try:
            text = await asyncio.to_thread(self._path.read_text)
            digest = hashlib.sha256(text.encode()).digest()
            if digest == self._digest:
                return False
            self._digest = digest
            await self._take(self._parse(text))
        except YamlError as error:
            _log.error(
                "catalogue_refused", path=str(self._path), line=error.line, why=error.message
            )
            return False
        except (OSError, UnicodeDecodeError) as error:
            _log.error("catalogue_unreadable", path=str(self._path), why=type(error).__name__)
            return False
        _log.info("catalogue_loaded", generation=self.current.generation)
        return True

    async def watch(self, poll_s: float, on_change: Callable[[int], Awaitable[None]]) -> None:
        """Follow the file for ever; `on_change` gets each new generation."""
        while True:
            await asyncio.sleep(poll_s)
            if await self.refresh():
                await on_change(self.current.generation)

    def _parse(self, text: str) -> CatalogueFile:
        parsed = parse(text, variables=self._variables)
        return parsed if parsed.models or parsed.providers else self._default

    async def _take(self, file: CatalogueFile) -> None:
        catalogue = build(file, generation=self.current.generation + 1)
        await self._adopt(file, catalogue)
        self.current = catalogue
