"""Metrics for Prometheus, kept by hand: counting is an addition, the text is made when it is read.

The client library takes a lock and looks labels up for every count; here a child is looked up once
and kept by whoever counts. Everything happens on the event loop's thread. No label may hold a key,
a user or a text of a client: what is counted per key comes from the database.
"""

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

LABEL_SETS_MAX: Final = 2_000
LABEL_LENGTH_MAX: Final = 128
OTHER: Final = "other"
DURATION_BUCKETS_S: Final = tuple(round(0.01 * 2**step, 2) for step in range(14))
"""Seconds, 0.01 to 81.92. Source: OpenTelemetry GenAI conventions, client operation duration."""
TOKEN_BUCKETS: Final = tuple(4**step for step in range(14))
"""Tokens, 1 to 67,108,864. Source: OpenTelemetry GenAI conventions, client token usage."""

Labels = tuple[str, ...]


class Count:
    """One counter; `value` may be added to directly, and never falls."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | float = 0

    def add(self, amount: float = 1) -> None:
        """Add `amount`, which is not negative."""
        self.value += amount


class Heap:
    """One histogram: how many observations fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: int | float = 0

    def observe(self, value: float) -> None:
        """Count `value`, in the unit of the metric's name."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


Child = TypeVar("Child", Count, Heap)


class _Family(Collector, Generic[Child]):
    """The children of one metric, by label values."""

    def __init__(self, name: str, says: str, labels: Sequence[str], label_sets_max: int) -> None:
        self._name = name
        self._says = says
        self._labels = tuple(labels)
        self._label_sets_max = label_sets_max
        self._found: dict[Labels, Child] = {}
        self._children: dict[Labels, Child] = {}

    def child(self, *values: str) -> Child:
        """Return the child of these label values, in the order of the labels.

        When there are too many label sets already, a new one is counted under `other`.

        Raises:
            ValueError: There are more or fewer values than labels.
        """
        child = self._found.get(values)
        return self._find(values) if child is None else child

    def _find(self, values: Labels) -> Child:
        if len(values) != len(self._labels):
            raise ValueError(f"{self._name} has {len(self._labels)} labels, not {len(values)}.")
        if len(self._found) >= self._label_sets_max:
            return self._at((OTHER,) * len(values))
        child = self._found[values] = self._at(tuple(map(_shown, values)))
        return child

    def _at(self, shown: Labels) -> Child:
        child = self._children.get(shown)
        if child is None:
            child = self._children[shown] = self._make()
        return child

    def describe(self) -> Iterator[Metric]:
        """Yield the metric, so that the registry knows its name."""
        return self.collect()

    @abstractmethod
    def _make(self) -> Child:
        """Return a child that counted nothing yet."""

    @abstractmethod
    def collect(self) -> Iterator[Metric]:
        """Yield the metric as it stands."""


class Tally(_Family[Count]):
    """A counter by labels; Prometheus shows it with `_total` behind its name.

    Args:
        registry: Shows it.
        name: `turnpike_<room>_<noun>_<unit>`.
        says: The sentence that explains it.
        labels: Names of the labels.
        label_sets_max: Bound of the label sets; the rest is counted under `other`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        says: str,
        labels: Sequence[str] = (),
        *,
        label_sets_max: int = LABEL_SETS_MAX,
    ) -> None:
        super().__init__(name, says, labels, label_sets_max)
        if not labels:
            self.child()
        registry.register(self)

    def _make(self) -> Count:
        return Count()

    def collect(self) -> Iterator[Metric]:
        """Yield the counter as it stands."""
        family = CounterMetricFamily(self._name, self._says, labels=self._labels)
        for labels, count in self._children.items():
            family.add_metric(labels, count.value)
        yield family


class Spread(_Family[Heap]):
    """A histogram by labels; `buckets` are upper bounds that belong to their bucket.

    Raises:
        ValueError: The buckets do not ascend from above zero.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        says: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = DURATION_BUCKETS_S,
        *,
        label_sets_max: int = LABEL_SETS_MAX,
    ) -> None:
        super().__init__(name, says, labels, label_sets_max)
        if not all(low < high for low, high in pairwise((0, *buckets))):
            raise ValueError(f"The buckets of {name} must ascend from above zero.")
        self._bounds = tuple(buckets)
        self._bound_names = [*map(floatToGoString, self._bounds), "+Inf"]
        if not labels:
            self.child()
        registry.register(self)

    def _make(self) -> Heap:
        return Heap(self._bounds)

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as it stands."""
        family = HistogramMetricFamily(self._name, self._says, labels=self._labels)
        for labels, heap in self._children.items():
            buckets = list(zip(self._bound_names, accumulate(heap.counts), strict=True))
            family.add_metric(labels, buckets, sum_value=heap.total)
        yield family


class Reading(Collector):
    """A gauge, or a counter that somebody else keeps, that is asked when Prometheus reads.

    Args:
        registry: Shows it.
        name: `turnpike_<room>_<noun>_<unit>`.
        says: The sentence that explains it.
        read: Returns the value by label values; without labels, under `()`.
        labels: Names of the labels.
        is_counter: Whether the value never falls while the process lives.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        says: str,
        read: Callable[[], Mapping[Labels, float]],
        labels: Sequence[str] = (),
        *,
        is_counter: bool = False,
    ) -> None:
        self._name = name
        self._says = says
        self._labels = tuple(labels)
        self._read = read
        self._kind = CounterMetricFamily if is_counter else GaugeMetricFamily
        registry.register(self)

    def describe(self) -> Iterator[Metric]:
        """Yield the metric without values, for the registry knows it before it can be read."""
        yield self._kind(self._name, self._says, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as it is now."""
        family = self._kind(self._name, self._says, labels=self._labels)
        for labels, value in self._read().items():
            family.add_metric(tuple(map(_shown, labels)), value)
        yield family


def _shown(value: str) -> str:
    """Return a label's text as it can be written: short, and valid Unicode."""
    return value[:LABEL_LENGTH_MAX].encode(errors="replace").decode()
