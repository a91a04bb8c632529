"""The page that the matrix is kept in, and that no provider is missing from it."""

from services.router.provider_entries import KINDS
from tests.matrix.page import PAGE, expected, page
from tests.matrix.providers import PROVIDERS


def test_kept_page_is_what_the_table_makes() -> None:
    assert page(expected()) == PAGE.read_text(), "write it by `python -m tests.matrix.page`"


def test_every_kind_of_provider_has_a_row() -> None:
    assert {provider.kind for provider in PROVIDERS} == KINDS


def test_rows_have_names_of_their_own() -> None:
    assert len(PROVIDERS) == len({provider.name for provider in PROVIDERS})


def test_page_tells_what_was_not_found_from_what_was_found_otherwise() -> None:
    name = PROVIDERS[0].name
    found = {(name, "text"): {"ok"}, (name, "image"): {"ok", "failed"}, (name, "cut"): {"failed"}}

    (row, _) = [line for line in page(found).splitlines() if line.startswith(f"| {name} |")]

    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert ["ok", "", "", "?", "", "", "", "", "? failed", "", ""] == cells
