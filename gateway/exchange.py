"""One HTTP exchange: what the border knows about it, whoever handles it."""

from dataclasses import dataclass, field
from typing import Final

from gateway.admission import Caller
from gateway.openai.dialect import Dialect
from gateway.stream import Report


@dataclass(slots=True)
class Exchange:
    """Facts for the error body, the access line and the metrics; times are monotonic seconds."""

    dialect: Dialect
    start_s: float
    report: Report = field(default_factory=Report)
    route: str = "other"
    model_id: str = ""
    is_streaming: bool = False
    key_id: str = ""
    caller: Caller | None = None


CLIENT_ID_CHARS_MAX: Final = 200
"""How much of a client's own request id is echoed."""
