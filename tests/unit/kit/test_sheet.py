"""Tables as CSV: what is written is read back, and nothing in it is a formula."""

import csv
import io
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.sheet import sheet, wants_sheet

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


def cell_of(text: str) -> str:
    """Return what a spreadsheet gets for a text."""
    (_, row) = csv.reader(io.StringIO("".join(sheet(("one", ""), [[text, ""]])), newline=""))
    return row[0]


@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2)))
def test_table_is_read_back_as_it_was(rows: list[list[str]]) -> None:
    text = "".join(sheet(("one", "two"), rows))

    found = csv.reader(io.StringIO(text, newline=""))
    expected = [["one", "two"], *([cell_of(cell) for cell in row] for row in rows)]
    assert expected == [*found]


@given(text=CELLS)
def test_cell_is_a_number_or_no_formula(text: str) -> None:
    found = cell_of(text)

    assert found in {text, f"'{text}"}
    if found[:1] in {"=", "+", "-", "@", "\t", "\r"} and found:
        float(found)


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-1+2", "@SUM(A1)", "\t=1", "-1e5", "-"])
def test_formula_gets_an_apostrophe(text: str) -> None:
    assert f"'{text}" == cell_of(text)


@pytest.mark.parametrize("text", ["-0.5", "+3", "0", "tiny-chat", "a=b", ""])
def test_what_is_no_formula_stays(text: str) -> None:
    assert text == cell_of(text)


def test_lines_come_as_their_rows_do() -> None:
    lines = sheet(("one",), (str(number) for number in count()))

    assert ["one\r\n", "0\r\n", "1\r\n"] == [*islice(lines, 3)]


@pytest.mark.parametrize(
    ("accept", "name", "expected"),
    [
        ("", "2026-11.csv", True),
        ("", "2026-11", False),
        ("text/csv", "2026-11", True),
        ("Text/CSV;q=0.9", "2026-11", True),
        ("application/json, text/csv", "2026-11", False),
        ("*/*", "2026-11", False),
    ],
)
def test_table_is_asked_for_by_name_or_header(accept: str, name: str, *, expected: bool) -> None:
    assert expected == wants_sheet({"Accept": accept} if accept else {}, name)
