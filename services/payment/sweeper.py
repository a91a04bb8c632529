"""The clockwork that gives back what ended leases and dead holds still bind."""

import asyncio

import structlog

from kit.errors import TurnpikeError
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore
from services.payment.store_sweep import Swept

_log = structlog.get_logger("services.payment")


class Sweeper:
    """Sweeps at a steady pace for as long as it runs; `last` is what the last turn found."""

    def __init__(self, store: PaymentStore, *, settings: PaymentSettings) -> None:
        self._store = store
        self._sweep_s = settings.sweep_s
        self.last = Swept()

    async def run(self) -> None:
        """Sweep for ever; a ledger that is away is met again at the next turn."""
        while True:
            await asyncio.sleep(self._sweep_s)
            try:
                swept = await self._store.sweep()
            except TurnpikeError as error:
                _log.warning("sweep_failed", reason=error.reason)
                continue
            self.last = swept
            if swept.lease_ids or swept.expired_requests or swept.ended_promos_nusd:
                _log.info(
                    "leases_swept",
                    released_nusd=swept.released_nusd,
                    ended_promos_nusd=swept.ended_promos_nusd,
                    lease_ids=swept.lease_ids,
                    expired_requests=swept.expired_requests,
                )
