"""Tables as CSV, RFC 4180, that a spreadsheet opens without running anything. Pure."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

SHEET_TYPE: Final = "text/csv; charset=utf-8"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula."""
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def sheet(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table, that of the columns' names first, as `rows` yields them."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\r\n")
    for row in chain((columns,), rows):
        writer.writerow(map(_plain, row))
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _plain(text: str) -> str:
    """Return a cell, with an apostrophe in front where it would be a formula."""
    is_formula = text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


def wants_sheet(headers: Mapping[str, str], name: str) -> bool:
    """Return whether a table is asked for: by the end of its name, or where JSON is not."""
    accepted = headers.get("Accept", "").lower()
    return name.endswith(".csv") or ("text/csv" in accepted and "json" not in accepted)
