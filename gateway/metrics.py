"""The gateway's counters; children are looked up once, because `labels` is slow."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.exchange import Exchange

LABEL_SETS_MAX: Final = 2_000
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 81.92)


class _Children:
    """The metric children of one label set."""

    __slots__ = ("charge", "completion_tokens", "duration", "prompt_tokens", "requests", "ttft")

    def __init__(self, owner: "GatewayMetrics", route: str, status: str, model: str) -> None:
        self.requests = owner.requests.labels(route, status, model)
        self.duration = owner.duration.labels(route)
        self.ttft = owner.ttft.labels(model)
        self.prompt_tokens = owner.tokens.labels(model, "prompt")
        self.completion_tokens = owner.tokens.labels(model, "completion")
        self.charge = owner.charge.labels(model)


class GatewayMetrics:
    """Counts finished exchanges. No label holds a key, a user or a prompt."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "turnpike_gateway_requests",
            "Finished requests.",
            ["route", "status", "model"],
            registry=registry,
        )
        self.duration = Histogram(
            "turnpike_gateway_duration_seconds",
            "Request durations.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.ttft = Histogram(
            "turnpike_gateway_ttft_seconds",
            "Time to first content.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "turnpike_gateway_tokens", "Tokens answered.", ["model", "class"], registry=registry
        )
        self.charge = Counter(
            "turnpike_gateway_charge_nusd", "Charged, nano-USD.", ["model"], registry=registry
        )
        self.running = Gauge(
            "turnpike_gateway_running_requests", "Requests that run now.", registry=registry
        )
        self._children: dict[tuple[str, int, str], _Children] = {}

    def count(self, exchange: Exchange, status: int, duration_s: float) -> None:
        """Count one finished exchange."""
        children = self._find(exchange.route, status, exchange.model_id)
        children.requests.inc()
        children.duration.observe(duration_s)
        report = exchange.report
        if report.ttft_s:
            children.ttft.observe(report.ttft_s)
        if report.usage is not None:
            children.prompt_tokens.inc(report.usage.prompt_token_count)
            children.completion_tokens.inc(report.usage.completion_token_count)
        if report.charge_nusd:
            children.charge.inc(report.charge_nusd)

    def _find(self, route: str, status: int, model: str) -> _Children:
        key = (route, status, model)
        children = self._children.get(key)
        if children is None:
            if len(self._children) >= LABEL_SETS_MAX:
                key = ("other", 0, "other")
            children = _Children(self, key[0], str(key[1]), key[2])
            self._children[key] = children
        return children
