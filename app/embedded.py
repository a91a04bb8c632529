"""What is started beside the services: a bus and a model server, as children of this process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from app.children import Nursery
from app.embedded_nats import open_nats_server
from app.embedded_triton import open_triton
from app.errors import StartError
from app.settings import Settings
from kit.clock import Clock

CHECKOUT: Final = Path(__file__).resolve().parent.parent
_log = structlog.get_logger("app.embedded")


@dataclass(frozen=True, slots=True)
class Embedded:
    """What runs.

    `triton_missing` says in one line why Triton does not run although it was asked for.
    """

    has_triton: bool
    triton_missing: str = ""


@asynccontextmanager
async def open_embedded(
    settings: Settings, *, target: str, nursery: Nursery, clock: Clock
) -> AsyncIterator[Embedded]:
    """Start what the settings ask for; on exit the children are gone.

    Raises:
        StartError: The bus cannot be started, or Triton cannot although `triton.embedded` is true.
    """
    async with AsyncExitStack() as stack:
        if settings.nats.is_embedded(target):
            nats = open_nats_server(
                settings.nats, state_dir=settings.state_dir, nursery=nursery, clock=clock
            )
            await stack.enter_async_context(nats)
        yield await _with_triton(stack, settings, target, nursery, clock)


async def _with_triton(
    stack: AsyncExitStack, settings: Settings, target: str, nursery: Nursery, clock: Clock
) -> Embedded:
    triton = settings.triton
    if not triton.is_embedded(target):
        return Embedded(has_triton=False)
    try:
        server = open_triton(
            triton,
            checkout=CHECKOUT,
            nursery=nursery,
            clock=clock,
        )
        await stack.enter_async_context(server)
    except StartError as error:
        if triton.embedded is True:
            raise
        _log.warning("triton_missing", why=str(error))
        return Embedded(has_triton=False, triton_missing=str(error))
    return Embedded(has_triton=True)
