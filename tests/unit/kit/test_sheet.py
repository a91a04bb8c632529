"""Tables as CSV: what is written is read back, and nothing in it is a formula."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.sheet import plain, sheet, wants_sheet

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))


@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2)))
def test_table_is_read_back_as_it_was(rows: list[list[str]]) -> None:
    text = sheet(("one", "two"), rows)

    assert [["one", "two"], *rows] == [*csv.reader(io.StringIO(text, newline=""))]


@given(text=CELLS)
def test_cell_of_others_is_a_number_or_no_formula(text: str) -> None:
    found = plain(text)

    assert found in {text, f"'{text}"}
    if found[:1] in {"=", "+", "-", "@", "\t", "\r"} and found:
        float(found)


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-1+2", "@SUM(A1)", "\t=1", "-1e5", "-"])
def test_formula_gets_an_apostrophe(text: str) -> None:
    assert f"'{text}" == plain(text)


@pytest.mark.parametrize("text", ["-0.5", "+3", "0", "tiny-chat", "a=b", ""])
def test_what_is_no_formula_stays(text: str) -> None:
    assert text == plain(text)


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
