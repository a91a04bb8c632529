"""Golden answers: what one request gets in each dialect, with what differs each time masked.

`tests/golden/answers/<dialect>.json` holds the plain answer and the events of a stream of three
requests. Written anew by hand from what the test prints when the form of answers changes.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

from tests.rows.request_cases import TOOL, USER

FOLDER: Final = Path(__file__).parents[1] / "golden" / "answers"
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "text": {"messages": [USER], "max_tokens": 3},
    "thought": {"messages": [{"role": "user", "content": "think"}], "max_tokens": 6},
    "tools": {"messages": [USER], "tools": [TOOL, TOOL]},
}


def masked(value: Any) -> Any:
    """Return an answer with ids and times masked."""
    text = _ID.sub("<uuid7>", json.dumps(value))
    return json.loads(re.sub(r'"created": \d+', '"created": "<unix s>"', text))


def golden(dialect: str) -> Any:
    """Return the kept answers of a dialect."""
    return json.loads((FOLDER / f"{dialect}.json").read_text())
