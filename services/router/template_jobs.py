"""One rendering of a client's chat template: the job that a worker gets, and its result; pure.

`template_pool` sends jobs, `template_engine.run_job` runs them in a worker's process.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec


class Trouble(StrEnum):
    """Why there is no prompt."""

    NONE = ""
    BROKEN = "broken"
    REFUSED = "refused"
    TOO_LONG = "too_long"


class Job(msgspec.Struct):
    """What is to be rendered; `unix_s` is what the template may know of the time."""

    source: str
    messages: list[dict[str, Any]]
    named: dict[str, Any]
    bos_token: str
    eos_token: str
    unix_s: int
    chars_max: int


class Result(msgspec.Struct):
    """What came of it."""

    text: str = ""
    trouble: Trouble = Trouble.NONE


encode: Final = msgspec.json.encode
decode_job: Final = msgspec.json.Decoder(Job).decode
decode_result: Final = msgspec.json.Decoder(Result).decode
