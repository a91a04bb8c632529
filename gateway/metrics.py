"""The gateway's counters; one look-up for each exchange, then plain additions."""

from typing import Final

from prometheus_client import CollectorRegistry

from gateway.exchange import Exchange
from kit.metrics import OTHER, Spread, Tally

LABEL_SETS_MAX: Final = 2_000
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 81.92)


class _Children:
    """The metric children of one label set."""

    __slots__ = ("charge", "completion_tokens", "duration", "prompt_tokens", "requests", "ttft")

    def __init__(self, owner: "GatewayMetrics", route: str, status: str, model: str) -> None:
        self.requests = owner.requests.child(route, status, model)
        self.duration = owner.duration.child(route)
        self.ttft = owner.ttft.child(model)
        self.prompt_tokens = owner.tokens.child(model, "prompt")
        self.completion_tokens = owner.tokens.child(model, "completion")
        self.charge = owner.charge.child(model)


class GatewayMetrics:
    """Counts finished exchanges. No label holds a key, a user or a prompt."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Tally(
            registry,
            "turnpike_gateway_requests",
            "Finished requests.",
            ("route", "status", "model"),
        )
        self.duration = Spread(
            registry,
            "turnpike_gateway_duration_seconds",
            "Request durations.",
            ("route",),
            buckets=_SECONDS,
        )
        self.ttft = Spread(
            registry,
            "turnpike_gateway_ttft_seconds",
            "Time to first content.",
            ("model",),
            buckets=_SECONDS,
        )
        self.tokens = Tally(
            registry, "turnpike_gateway_tokens", "Tokens answered.", ("model", "class")
        )
        self.charge = Tally(
            registry, "turnpike_gateway_charge_nusd", "Charged, nano-USD.", ("model",)
        )
        self._children: dict[tuple[str, int, str], _Children] = {}

    def count(self, exchange: Exchange, status: int, duration_s: float) -> None:
        """Count one finished exchange."""
        children = self._children.get((exchange.route, status, exchange.model_id))
        if children is None:
            children = self._find(exchange.route, status, exchange.model_id)
        children.requests.value += 1
        children.duration.observe(duration_s)
        report = exchange.report
        if report.ttft_s:
            children.ttft.observe(report.ttft_s)
        usage = report.usage
        if usage is not None:
            children.prompt_tokens.value += usage.prompt_token_count
            children.completion_tokens.value += usage.completion_token_count
        if report.charge_nusd:
            children.charge.value += report.charge_nusd

    def _find(self, route: str, status: int, model: str) -> _Children:
        if len(self._children) >= LABEL_SETS_MAX:
            route, status, model = OTHER, 0, OTHER
        children = _Children(self, route, str(status), model)
        self._children[route, status, model] = children
        return children
