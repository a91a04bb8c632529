"""What a process watches itself with, in one piece; what is left out is off."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from kit.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where metrics are registered and what makes spans."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    tracing: Tracing = field(default_factory=Tracing)
