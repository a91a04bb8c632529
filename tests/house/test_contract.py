"""The contract: generated code is fresh, and the arrows between rooms hold."""

import filecmp
import subprocess
import sys
from pathlib import Path

from tests.house.tree import ROOT


def test_generated_code_is_what_the_protos_make(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "protos" / "generate.py", tmp_path], check=False, timeout=60
    )

    fresh = {p.relative_to(tmp_path) for p in tmp_path.rglob("*.py*")}
    kept = {
        p.relative_to(ROOT / "protos" / "gen")
        for p in (ROOT / "protos" / "gen").rglob("*.py*")
        if "__pycache__" not in p.parts
    }
    _, changed, missing = filecmp.cmpfiles(
        tmp_path, ROOT / "protos" / "gen", [str(name) for name in fresh], shallow=False
    )
    assert 0 == made.returncode
    assert fresh == kept
    assert [] == changed + missing


def test_protos_keep_the_lint_rules() -> None:
    found = _run("buf", "lint")

    assert (0, "") == (found.returncode, found.stdout)


def test_protos_do_not_break_what_was_released() -> None:
    base = _run("git", "rev-parse", "--verify", "--quiet", "HEAD").stdout.strip()

    found = _run("buf", "breaking", "--against", f".git#ref={base}")

    assert base
    assert (0, "") == (found.returncode, found.stdout)


def test_arrows_between_rooms_hold() -> None:
    found = _run("lint-imports", "--no-cache")

    assert 0 == found.returncode, found.stdout


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = Path(sys.executable).parent / tool
    return subprocess.run(
        [str(path) if path.exists() else tool, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
