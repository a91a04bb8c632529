"""No row is missing: each has a test here that names it."""

import re
from pathlib import Path

from tests.rows.table import ROWS

HERE = Path(__file__).parent
_QUOTED = re.compile(r'"([EPAHXTB]\d{1,2})"')
_NAMED = re.compile(r"^(?:async )?def test_([epahxtb]\d{1,2})_", re.MULTILINE)
_OF_SEEDS = "E10"
"""The seeds' own samples: `tests/e2e/test_seeds.py` and `tests/node`."""


def covered() -> set[str]:
    """Return the rows that the modules here name in a table or a test's name."""
    found = {_OF_SEEDS}
    for path in HERE.glob("*.py"):
        if path.name not in ("table.py", Path(__file__).name):
            text = path.read_text()
            found |= set(_QUOTED.findall(text))
            found |= {name.upper() for name in _NAMED.findall(text)}
    return found


def test_every_row_has_cases() -> None:
    assert [] == [row for row in ROWS if row not in covered()]


def test_no_case_names_a_row_that_does_not_exist() -> None:
    assert set() == covered() - set(ROWS)
