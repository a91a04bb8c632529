"""The documents: what they tell people to type exists, and so does every file they name."""

import re
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from typer.testing import CliRunner

from app.cli import app
from app.settings import Settings
from kit.errors import Reason
from tests.house.test_deploy import MADE_BY_HAND
from tests.house.tree import PACKAGES, ROOT, relative

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OPERATING = ROOT / "docs" / "operating.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_TURNPIKE = re.compile(r"(?:^|[\s/;(])turnpike((?: +[^\s;|&)]+)+)")
_MAKE = re.compile(r"(?:^|[\s;&])make ([a-z][a-z0-9-]*)")
_PATH = re.compile(r"[\w.{},*-]+(?:/[\w.{},*-]*)+")
_SETTING = re.compile(r"[a-z]+(?:\.[a-z_0-9]+)+")
_METRIC = re.compile(r"turnpike(?:_[a-z]+){2,}")
_SUFFIX = re.compile(r"_(total|bucket|count|sum)$")
_HELP = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


def test_the_pages_that_people_start_with_are_there() -> None:
    names = {relative(path) for path in PAGES}

    assert {"README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docs/operating.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_turnpike_command_exists_with_its_options(page: Path) -> None:
    for words in _commands(page.read_text()):
        command, options = _split(words)
        shown = CliRunner().invoke(app, [*command, "--help"], env=_HELP)

        assert 0 == shown.exit_code, " ".join(words)
        assert [] == [option for option in options if option not in shown.output], " ".join(words)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = {name for text in _typed(page.read_text()) for name in _MAKE.findall(text)}

    assert set() == named - targets


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_setting_exists(page: Path) -> None:
    rooms = {
        name: set(field.annotation.model_fields)
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }

    named = [
        tuple(words[0].split("."))
        for words in map(str.split, _INLINE.findall(page.read_text()))
        if words and _SETTING.fullmatch(words[0]) and words[0].split(".")[0] in rooms
    ]

    unknown = [name for name in named if name[1] not in rooms[name[0]] | {"py", "v1"}]
    # Modules and their files are named like settings.
    assert [] == [name for name in unknown if not (ROOT / name[0] / f"{name[1]}.py").exists()]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_path_of_the_repository_exists(page: Path) -> None:
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != ".turnpike"}
    named = {
        found.group().rstrip(".,")
        for text in _typed(page.read_text())
        for found in _PATH.finditer(text)
        if found.group().split("/")[0] in top and _stands_alone(text, found)
    }

    assert [] == [name for name in named if not _exists(name)]


def test_operating_names_only_metrics_that_there_are() -> None:
    sources = "\n".join(
        path.read_text() for name in PACKAGES for path in (ROOT / name).rglob("*.py")
    )
    made = set(re.findall(r'"(turnpike_[a-z_]+)"', sources))
    # Payment's losses are named in a table, without their prefix.
    made |= {
        f"turnpike_payment_{name}" for name in re.findall(r'"([a-z]+_[a-z]+)", "[A-Z]', sources)
    }

    named = {_SUFFIX.sub("", name) for name in _METRIC.findall(OPERATING.read_text())}

    assert named
    assert set() == named - made


def test_operating_names_only_codes_settings_and_secrets_that_there_are() -> None:
    text = OPERATING.read_text()
    settings = CliRunner().invoke(app, ["config", "schema"]).output

    codes = re.findall(r"50\d `([a-z_]+)`", text)
    fields = re.findall(r"`(?:gateway|payment|router|auth)\.([a-z_]+)`", text)
    assert codes
    assert set() == set(codes) - {reason.lower() for reason in Reason}
    assert fields
    assert [] == [field for field in fields if f'"{field}"' not in settings]
    for secret, keys in MADE_BY_HAND.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{secret}`"))
        assert [] == [key for key in keys if f"`{key}`" not in row]


def _typed(text: str) -> list[str]:
    """What is set as code: lines of shell blocks, and what stands in backticks elsewhere."""
    blocks = [line.split(" #")[0] for block in _BLOCK.findall(text) for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [*blocks, *_INLINE.findall(prose)]


def _commands(text: str) -> list[list[str]]:
    return [found.split() for line in _typed(text) for found in _TURNPIKE.findall(line)]


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the names of the command, and the options it is given."""
    command = []
    group = typer.main.get_command(app)
    for word in words:
        commands = getattr(group, "commands", None)
        if commands is None or word.startswith("-"):
            break
        assert word in commands, f"there is no command {' '.join(words)}"
        group = commands[word]
        command.append(word)
    return command, [word.split("=")[0] for word in words if word.startswith("--")]


def _stands_alone(text: str, found: re.Match[str]) -> bool:
    """Whether it is no part of a URL, an absolute path, or a name with a placeholder."""
    before, after = text[: found.start()][-1:], text[found.end() :][:1]
    return before not in ("/", "$", ">", "<", ":", "~") and after not in ("<", "$")


def _exists(name: str) -> bool:
    braces = re.search(r"\{([^}]*)\}", name)
    if braces:
        parts = braces[1].split(",")
        return all(_exists(name[: braces.start()] + p + name[braces.end() :]) for p in parts)
    return any(ROOT.glob(name.rstrip("/").replace("NNNN-*", "[0-9]*")))
