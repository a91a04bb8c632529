"""Lets the caller know which parameters an upstream leaves aside."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from services.router.providers.port import Batch


def tell(batch: Batch, ignored: Sequence[str]) -> bool:
    """Name what was ignored in a batch that reaches the caller; whether it is one.

    What comes before the first content may be kept back, so it is not told there.
    """
    if not (batch.content_event_count or batch.HasField("finish")):
        return False
    batch.route.ignored_parameters.extend(ignored)
    return True


async def telling(
    stream: AsyncGenerator[Batch, None], ignored: Sequence[str]
) -> AsyncGenerator[Batch, None]:
    """Yield the batches of an answer, the first with content has the names of what it ignored."""
    names = ignored
    async with aclosing(stream) as batches:
        async for batch in batches:
            if names and tell(batch, names):
                names = ()
            yield batch
