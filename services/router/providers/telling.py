"""Lets the caller know which parameters an upstream leaves aside."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.router.providers.port import Batch


async def telling(
    stream: AsyncGenerator[Batch, None], ignored: Sequence[str]
) -> AsyncGenerator[Batch, None]:
    """Yield the batches of an answer, the first one with the names of what it ignored."""
    names = list(ignored)
    async with aclosing(stream) as batches:
        async for batch in batches:
            if names:
                batch.route.ignored_parameters.extend(names)
                names = []
            yield batch
