"""House rules of size and shape; see CONTRIBUTING.md. Split by noun, never loosen."""

import ast
import re
from pathlib import Path

import pytest

from kit.errors import OUTWARD, Reason
from tests.house import catalogue_page
from tests.house.error_page import PAGE, page
from tests.house.tree import (
    ROOMS,
    ROOT,
    body_lines,
    files_of_tests,
    functions,
    relative,
    source_files,
)

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PARAMETERS_MAX = 6
DONE_LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b(?!\(#\d+\))")
BINS = {"utils", "util", "helpers", "common", "misc", "manager"}


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_source_file_keeps_house_rules(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)

    assert ast.get_docstring(tree), "say what lives here"
    assert text.count("\n") <= FILE_LINES_MAX
    assert [] == [f.name for f in functions(tree) if body_lines(f) > FUNCTION_LINES_MAX]
    assert [] == [f.name for f in functions(tree) if len(_parameters(f)) > PARAMETERS_MAX]
    assert not DONE_LATER.search(text)
    assert path.stem not in BINS


@pytest.mark.parametrize("path", files_of_tests(), ids=relative)
def test_test_file_is_of_readable_size_and_skips_nothing(path: Path) -> None:
    text = path.read_text()

    assert text.count("\n") <= FILE_LINES_MAX
    assert not re.search(r"pytest\.(skip|mark\.(skip|xfail))|time\.sl" r"eep\(", text)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_have_the_same_shape(room: str) -> None:
    folder = ROOT / "services" / room

    for name in ("room.py", "servicer.py", "settings.py"):
        assert (folder / name).is_file(), name


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_with_a_database_keep_their_sql_in_stores(room: str) -> None:
    folder = ROOT / "services" / room
    allowed = re.compile(r"(store|tables)")

    offenders = [
        relative(path)
        for path in folder.glob("*.py")
        if re.search(r"^(from|import) (sqlalchemy|sqlmodel)", path.read_text(), re.MULTILINE)
        and not allowed.match(path.stem)
    ]

    assert [] == offenders
    assert list((folder / "migrations" / "versions").glob("*.py"))


def test_only_settings_and_process_control_read_the_environment() -> None:
    offenders = [
        relative(path)
        for path in source_files()
        if re.search(r"os\.environ|os\.getenv", path.read_text())
        and not path.stem.startswith("settings")
    ]

    assert [] == offenders


def test_every_reason_has_a_place_outside() -> None:
    assert set(Reason) == set(OUTWARD)


def test_no_file_holds_an_address_of_a_registry_or_of_this_machine() -> None:
    forbidden = re.compile(r"(pypi\.org|pythonhosted|/wo" r"rk/|/ro" r"ot/|index-url https?:)")
    looked = [
        path
        for pattern in (
            "*.lock",
            "*.toml",
            "*.md",
            "Makefile",
            "*.yaml",
            "docker/*",
            "docs/**/*.md",
        )
        for path in ROOT.glob(pattern)
        if path.is_file()
    ]

    offenders = [relative(path) for path in looked if forbidden.search(path.read_text())]

    assert looked
    assert [] == offenders


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    arguments = function.args
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument for argument in found if argument.arg not in ("self", "cls")]


def test_error_page_is_what_the_table_makes() -> None:
    assert page() == PAGE.read_text()


def test_catalogue_page_is_what_the_entries_make() -> None:
    assert catalogue_page.page() == catalogue_page.PAGE.read_text()
