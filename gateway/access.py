"""What is counted and logged of each exchange; no field of it can hold a prompt or a key."""

import msgspec
from msgspec import UNSET, UnsetType

from gateway.deps import Deps
from gateway.exchange import Exchange


class AccessLine(msgspec.Struct, kw_only=True):
    """One exchange; what does not apply is left out. `ms` is its duration, milliseconds."""

    event: str = "request_finished"
    level: str = "info"
    unix_ms: int
    request_id: str
    route: str
    status: int
    ms: float
    model: str | UnsetType = UNSET
    key_id: str | UnsetType = UNSET
    is_streaming: bool | UnsetType = UNSET
    deployment: str | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    ttft_ms: float | UnsetType = UNSET
    tokens_in: int | UnsetType = UNSET
    tokens_out: int | UnsetType = UNSET
    cost_nusd: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


def finish(deps: Deps, exchange: Exchange, status: int) -> None:
    """Count and log an exchange that is over; `status` is HTTP's, whichever way it came."""
    report = exchange.report
    duration_s = deps.clock.monotonic_s() - exchange.start_s
    deps.metrics.count(exchange, status, duration_s)
    line = AccessLine(
        unix_ms=deps.clock.unix_ms(),
        request_id=report.request_id,
        route=exchange.route,
        status=status,
        ms=round(duration_s * 1000, 1),
    )
    if exchange.model_id:
        line.model = exchange.model_id
        line.key_id = exchange.key_id
        line.is_streaming = exchange.is_streaming
    if report.route is not None:
        line.deployment = report.route.deployment
        line.attempts = report.route.attempt_count
        line.ttft_ms = round(report.ttft_s * 1000, 1)
    if report.usage is not None:
        line.tokens_in = report.usage.prompt_token_count
        line.tokens_out = report.usage.completion_token_count
    if report.charge_nusd is not None:
        line.cost_nusd = report.charge_nusd
    if report.error is not None:
        line.error = report.error.reason
    deps.access_log.add(line)
