"""What Prometheus sees of the process itself: its bus and its access log."""

from prometheus_client import CollectorRegistry

from kit.bus.nats import NatsBus
from kit.logs import AccessLog
from kit.metrics import Reading


def watch_bus(registry: CollectorRegistry, bus: NatsBus) -> None:
    """Show the bus for as long as the registry lives."""
    Reading(
        registry,
        "turnpike_bus_connections",
        "1 while NATS can be reached.",
        lambda: {(): bus.is_connected},
    )
    Reading(
        registry,
        "turnpike_bus_lost_messages",
        "Light messages that were not sent, or ousted before their subscriber took them.",
        lambda: {("sent",): bus.dropped_count, ("received",): bus.missed_count},
        ("direction",),
        is_counter=True,
    )


def watch_access_log(registry: CollectorRegistry, access_log: AccessLog) -> None:
    """Show what the access log lost for as long as the registry lives."""
    Reading(
        registry,
        "turnpike_access_log_lost_lines",
        "Access lines that were never written.",
        lambda: {(): access_log.dropped_count},
        is_counter=True,
    )
