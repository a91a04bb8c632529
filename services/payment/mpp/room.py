"""Opens machine payments inside the payment room."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry

from kit.bus.port import Bus
from kit.clock import Clock
from kit.ids import Uuid7Source
from kit.metrics import Reading
from kit.tasks import background
from services.payment.mpp.authorize import Authorizer
from services.payment.mpp.chain import Chain, ChainError
from services.payment.mpp.closings import Closings
from services.payment.mpp.manage import Manager
from services.payment.mpp.offers import Offers
from services.payment.mpp.openings import Openings
from services.payment.mpp.rounds import Rounds
from services.payment.mpp.servicer import MachineParts, MachineServicer
from services.payment.mpp.settings import MppSettings
from services.payment.mpp.store import MppStore
from services.payment.mpp.tempo import open_tempo
from services.payment.mpp.transfers import Transfers
from services.payment.mpp.vouchers import Vouchers
from services.payment.mpp.wakes import ChannelWakes
from services.payment.store_engine import Transactions

_NONCE_BYTES = 16
_log = structlog.get_logger("services.payment.mpp")


@asynccontextmanager
async def open_machine_payments(
    settings: MppSettings,
    *,
    transactions: Transactions,
    lease_s: float,
    bus: Bus,
    clock: Clock,
    registry: CollectorRegistry,
) -> AsyncIterator[MachineServicer]:
    """Open machine payments over a chain; while they are open they go round on it."""
    async with open_tempo(settings.chain) as chain:
        try:
            await chain.check()
        except ChainError as error:
            # The chain may come later; a wrong one is refused at every use.
            _log.warning("chain_not_checked", fault=error.fault, detail=error.detail)
        new_id = Uuid7Source().new
        store = MppStore(transactions, settings, lease_s=lease_s, clock=clock, new_id=new_id)
        wakes = ChannelWakes(bus, waiters_max=settings.waiters_max)
        parts, rounds = _parts(store, chain, wakes, settings, clock)
        Reading(
            registry,
            "turnpike_payment_machine_lost_base_units",
            "Spent by machines that closed their channel for less, base units of the token.",
            lambda: {(): rounds.lost_base_units},
            is_counter=True,
        )
        async with (
            background(wakes.run, name="payment_channel_wakes"),
            background(lambda: rounds.run(settings, clock.unix_ms), name="payment_chain_rounds"),
        ):
            yield MachineServicer(parts)


def _parts(
    store: MppStore, chain: Chain, wakes: ChannelWakes, settings: MppSettings, clock: Clock
) -> tuple[MachineParts, Rounds]:
    offers = Offers(
        settings,
        payee=chain.payee,
        unix_ms=clock.unix_ms,
        nonce=lambda: secrets.token_urlsafe(_NONCE_BYTES),
    )
    vouchers = Vouchers(
        store, chain, settings, unix_ms=clock.unix_ms, monotonic_s=clock.monotonic_s
    )
    openings = Openings(store, chain, vouchers, settings, unix_ms=clock.unix_ms)
    transfers = Transfers(store, chain, settings)
    closings = Closings(store, chain, wakes, settings, monotonic_s=clock.monotonic_s)
    authorizer = Authorizer(store, offers, vouchers, openings, transfers, wakes)
    manager = Manager(store, offers, vouchers, openings, closings, wakes)
    parts = MachineParts(store, offers, authorizer, manager, wakes, settings, clock)
    return parts, Rounds(store, chain, openings, transfers, closings, wakes)
