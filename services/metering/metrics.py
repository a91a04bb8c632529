"""What Prometheus sees of metering."""

import asyncio

from prometheus_client import CollectorRegistry

from kit.metrics import Reading
from services.metering.consumer import UsageConsumer


def watch(registry: CollectorRegistry, *, consumer: UsageConsumer) -> None:
    """Show the room's parts for as long as the registry lives; read on the event loop."""
    Reading(
        registry,
        "turnpike_metering_silence_seconds",
        "Since usage was stored last; living routers report every second.",
        lambda: {(): asyncio.get_running_loop().time() - consumer.stored_s},
    )
    Reading(
        registry,
        "turnpike_metering_dead_letters",
        "What the usage stream held and cannot be stored.",
        lambda: {(): consumer.dead_letter_count},
        is_counter=True,
    )
