"""One HTTP exchange: what the border knows about it, whoever handles it."""

from typing import Final

import msgspec

from gateway.admission import Caller
from gateway.bodies import LongBody
from gateway.call import Api
from gateway.openai.chat import CHAT
from gateway.openai.dialect import Dialect
from gateway.stream import Report


class Exchange(msgspec.Struct, eq=False):
    """Facts for the error body, the access line and the metrics; times are monotonic seconds.

    A struct, as all that each request makes: it costs a third of a dataclass.
    """

    dialect: Dialect
    start_s: float
    report: Report = msgspec.field(default_factory=Report)
    route: str = "other"
    model_id: str = ""
    is_streaming: bool = False
    key_id: str = ""
    caller: Caller | None = None
    api: Api = CHAT
    long_body: LongBody | None = None


CLIENT_ID_CHARS_MAX: Final = 200
"""How much of a client's own request id is echoed."""
