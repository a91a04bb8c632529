"""What Prometheus reads of the router."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from kit.errors import TurnpikeError
from kit.journal import open_journal
from services.router.metrics import watch
from services.router.providers.port import Failure, ProviderError
from tests.unit.router.scripted import Rig, Step, content, finish, open_rig, request

DOWN = ProviderError(Failure.UNAVAILABLE, "The upstream is down.")
REJECTED = ProviderError(Failure.REJECTED, "The request is bad.")
Scripts = dict[str, list[Sequence[Step]]]


async def read_all(rig: Rig) -> None:
    async for _ in rig.dispatcher.run(request()):
        pass


async def test_attempts_are_counted_by_deployment_and_how_they_ended(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    scripts: Scripts = {"a": [[DOWN], [REJECTED]], "b": [[content("x"), finish()]]}
    async with open_rig(tmp_path, scripts) as rig:
        with open_journal(tmp_path / "other", bytes_max=10**6) as journal:
            watch(registry, fleet=rig.fleet, usage=rig.log, journal=journal)

            await read_all(rig)
            with pytest.raises(TurnpikeError):
                await read_all(rig)

            found = {
                (sample.labels["deployment"], sample.labels["result"]): sample.value
                for family in registry.collect()
                for sample in family.samples
                if sample.name == "turnpike_router_attempts_total"
            }
    assert {("a", "unavailable"): 1, ("a", "abandoned"): 1, ("b", "ok"): 1} == found


async def test_what_is_open_and_what_waits_is_read_as_it_is_now(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    scripts: Scripts = {"a": [[DOWN]] * 5, "b": [[content("x"), content("y"), finish()]] * 6}
    async with open_rig(tmp_path, scripts) as rig:
        with open_journal(tmp_path / "other", bytes_max=10**6) as journal:
            watch(registry, fleet=rig.fleet, usage=rig.log, journal=journal)
            for _ in range(5):
                await read_all(rig)
            ticket = journal.append(b"record")
            running = rig.dispatcher.run(request())
            await anext(running)

            names = ("open_requests", "backlog_events", "journal_bytes")
            found = [registry.get_sample_value(f"turnpike_router_{name}") for name in names]
            breakers = [_of(registry, "open_breakers", name) for name in "ab"]
            attempts = [_of(registry, "running_attempts", name) for name in "ab"]
            live_bytes = journal.live_bytes
            await running.aclose()
            journal.release(ticket)

    assert [1.0, 5.0, live_bytes] == found
    assert ([1.0, 0.0], [0.0, 1.0]) == (breakers, attempts)
    assert live_bytes > 0


def _of(registry: CollectorRegistry, name: str, deployment: str) -> float | None:
    return registry.get_sample_value(f"turnpike_router_{name}", {"deployment": deployment})
