"""What Prometheus sees of the router."""

from prometheus_client import CollectorRegistry

from kit.journal import Journal
from kit.metrics import Reading
from services.router.dispatch import Dispatcher
from services.router.fleet import Fleet
from services.router.turn_states import TurnStates
from services.router.usage_log import UsageLog


def watch(registry: CollectorRegistry, *, fleet: Fleet, usage: UsageLog, journal: Journal) -> None:
    """Show the router's parts for as long as the registry lives."""
    if fleet.turns is not None:
        _watch_turns(registry, fleet.turns)
    Reading(
        registry,
        "turnpike_router_attempts",
        "Ended attempts; abandoned ones say nothing about the deployment.",
        lambda: fleet.attempt_counts,
        ("deployment", "result"),
        is_counter=True,
    )
    Reading(
        registry,
        "turnpike_router_invalid_output",
        "Answers that broke the constraint they were asked for.",
        lambda: fleet.invalid_output_counts,
        ("deployment",),
        is_counter=True,
    )
    Reading(
        registry,
        "turnpike_router_unjudged_output",
        "Constrained answers that could not be held against their constraint.",
        lambda: fleet.unjudged_output_counts,
        ("deployment",),
        is_counter=True,
    )
    Reading(
        registry,
        "turnpike_router_running_attempts",
        "Attempts that run now.",
        lambda: {(name,): count for name, count in fleet.in_flight().items()},
        ("deployment",),
    )
    Reading(
        registry,
        "turnpike_router_open_breakers",
        "1 while a deployment's breaker keeps calls away.",
        lambda: {(name,): is_open for name, is_open in fleet.open_breakers().items()},
        ("deployment",),
    )
    Reading(
        registry,
        "turnpike_router_open_requests",
        "Requests that run now.",
        lambda: {(): usage.open_count},
    )
    Reading(
        registry,
        "turnpike_router_backlog_events",
        "Outcomes that the usage stream does not have yet.",
        lambda: {(): usage.backlog_count},
    )
    Reading(
        registry,
        "turnpike_router_journal_bytes",
        "Live bytes of the usage journal.",
        lambda: {(): journal.live_bytes},
    )


def _watch_turns(registry: CollectorRegistry, turns: TurnStates) -> None:
    Reading(
        registry,
        "turnpike_router_turn_states",
        "What models want back with the next turn: stored and recalled, or why not.",
        lambda: turns.counts,
        ("result",),
        is_counter=True,
    )


def watch_calls(registry: CollectorRegistry, dispatcher: Dispatcher) -> None:
    """Show calls beyond a request's first and beside it, for as long as the registry lives."""
    Reading(
        registry,
        "turnpike_router_refused_retries",
        "Requests that were not tried elsewhere because too many were of late.",
        lambda: {(): dispatcher.retries.budget.refused_count},
        is_counter=True,
    )
    Reading(
        registry,
        "turnpike_router_hedges",
        "Ended second calls of requests whose first one was late.",
        lambda: dispatcher.hedging.counts if dispatcher.hedging is not None else {},
        ("deployment", "result"),
        is_counter=True,
    )
