"""The line that is logged for each exchange; no field of it can hold a prompt or a key."""

import msgspec
from msgspec import UNSET, UnsetType


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
