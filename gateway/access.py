"""The line that is logged for each exchange; no field of it can hold a prompt or a key."""

import msgspec


class AccessLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One exchange; what does not apply is left out. `ms` is its duration, milliseconds."""

    event: str = msgspec.field(default_factory=lambda: "request_finished")
    level: str = msgspec.field(default_factory=lambda: "info")
    unix_ms: int
    request_id: str
    route: str
    status: int
    ms: float
    model: str | None = None
    key_id: str | None = None
    is_streaming: bool | None = None
    deployment: str | None = None
    attempts: int | None = None
    ttft_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_nusd: int | None = None
    error: str | None = None
