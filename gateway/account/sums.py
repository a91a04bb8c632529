"""Hourly sums of usage, put together by day, model or key; pure."""

from collections.abc import Iterable

from gateway.account.shapes import Json, sum_object
from turnpike.metering.v1 import metering_pb2


class Sums:
    """Sums by the groups that were asked for."""

    def __init__(self, groups: tuple[str, ...]) -> None:
        self._groups = groups
        self._found: dict[tuple[str, ...], list[int]] = {}

    def add(self, summaries: Iterable[metering_pb2.UsageSummary]) -> None:
        """Add hours."""
        for each in summaries:
            parts = {"day": _day(each), "model": each.model_id, "key": each.key_id}
            place = tuple(parts[group] for group in self._groups)
            total = self._found.setdefault(place, [0, 0, 0, 0])
            total[0] += each.request_count
            total[1] += each.prompt_token_count
            total[2] += each.completion_token_count
            total[3] += each.charge_nusd

    def shown(self) -> list[Json]:
        """Return the sums, the last of each group's order first for days."""
        names = {"day": "day", "model": "model", "key": "key_id"}
        return [
            sum_object(
                {names[group]: part for group, part in zip(self._groups, place, strict=True)},
                (total[0], total[1], total[2], total[3]),
            )
            for place, total in sorted(self._found.items(), reverse=self._groups[0] == "day")
        ]


def _day(summary: metering_pb2.UsageSummary) -> str:
    return summary.hour_time.ToDatetime().date().isoformat()
