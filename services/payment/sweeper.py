"""The clockwork that gives back what ended leases and dead holds still bind."""

import asyncio

import structlog

from kit.errors import TurnpikeError
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore

_log = structlog.get_logger("services.payment")


class Sweeper:
    """Sweeps at a steady pace for as long as it runs; `open_lease_count` is the last turn's."""

    def __init__(self, store: PaymentStore, *, settings: PaymentSettings) -> None:
        self._store = store
        self._sweep_s = settings.sweep_s
        self.open_lease_count = 0

    async def run(self) -> None:
        """Sweep for ever; a ledger that is away is met again at the next turn."""
        while True:
            await asyncio.sleep(self._sweep_s)
            try:
                swept = await self._store.sweep()
            except TurnpikeError as error:
                _log.warning("sweep_failed", reason=error.reason)
                continue
            self.open_lease_count = swept.open_lease_count
            if swept.lease_ids or swept.expired_requests:
                _log.info(
                    "leases_swept",
                    released_nusd=swept.released_nusd,
                    lease_ids=swept.lease_ids,
                    expired_requests=swept.expired_requests,
                )
