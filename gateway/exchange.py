"""One HTTP exchange: what the border knows about it, whoever handles it."""

from dataclasses import dataclass

from aiohttp import web

from gateway.openai.dialect import Dialect
from gateway.stream import Report


@dataclass(slots=True)
class Exchange:
    """Facts for the error body, the access line and the metrics; times are monotonic seconds."""

    dialect: Dialect
    start_s: float
    report: Report
    route: str = "other"
    model_id: str = ""
    is_streaming: bool = False
    key_id: str = ""


EXCHANGE = web.RequestKey("exchange", Exchange)
