"""Stored choices of routes, made again and compared."""

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from app.admin_client import AdminError, Json
from services.router.decisions import Decision, ReplayError, replayed
from services.router.snapshots import Snapshot
from turnpike.router.v1 import route_pb2

Fetch = Callable[[str], bytes]
"""Returns a snapshot by its id; raises AdminError when it is gone."""


@dataclass(slots=True)
class ReplayReport:
    """What came of it; `lost` are decisions whose snapshot is gone or whose rules are others."""

    same_count: int = 0
    different: list[Json] = field(default_factory=list)
    lost: list[Json] = field(default_factory=list)
    last: Decision | None = None

    def as_json(self) -> Json:
        """Return everything."""
        return {
            "same_count": self.same_count,
            "different": self.different,
            "lost": self.lost,
        }

    def lines(self, *, is_single: bool) -> Iterator[str]:
        """Yield what a person reads; of a single decision also its candidates."""
        for entry in self.different:
            yield f"{entry['request_id']}: {entry['was']} then, {entry['is']} now"
        for entry in self.lost:
            yield f"{entry['request_id']}: {entry['why']}"
        if is_single and self.last is not None:
            for each in self.last.explained():
                verdict = each.excluded_reason or ("band" if each.is_in_band else "fallback")
                yield f"  {each.deployment}: {verdict}, score {each.score}"
        yield (
            f"{self.same_count} the same, {len(self.different)} different, {len(self.lost)} lost"
        )


def replay_decisions(found: Iterable[Json], fetch: Fetch) -> ReplayReport:
    """Make decisions again, as `ListRouteDecisions` gives them in JSON."""
    report, known = ReplayReport(), dict[str, Snapshot]()
    for entry in found:
        request_id = entry["request_id"]
        data = base64.b64decode(entry["data"])
        message = route_pb2.Decision.FromString(data)
        try:
            snapshot = _snapshot(message.snapshot_id, fetch, known)
            decision = replayed(message, snapshot)
        except (ReplayError, AdminError) as error:
            report.lost.append({"request_id": request_id, "why": str(error)})
            continue
        report.last = decision
        if is_same(message, decision):
            report.same_count += 1
        else:
            first = next(decision.tries(), None)
            now = first.name if first is not None else "nobody"
            report.different.append({"request_id": request_id, "was": message.first, "is": now})
    return report


def is_same(message: route_pb2.Decision, decision: Decision) -> bool:
    """Return whether a choice that was made again is the stored one, bit for bit."""
    first = next(decision.tries(), None)
    again = decision.message(first.name if first is not None else "")
    return again.SerializeToString(deterministic=True) == message.SerializeToString(
        deterministic=True
    )


def _snapshot(snapshot_id: str, fetch: Fetch, known: dict[str, Snapshot]) -> Snapshot:
    if snapshot_id not in known:
        known[snapshot_id] = Snapshot(route_pb2.Snapshot.FromString(fetch(snapshot_id)))
    return known[snapshot_id]
