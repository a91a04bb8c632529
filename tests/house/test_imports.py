"""Every module can be imported alone: no cycle hides behind an order."""

import subprocess
import sys

import pytest

from tests.house.tree import ROOMS, ROOT, source_files

FOLDERS = ("app", "gateway", "kit", *(f"services/{room}" for room in ROOMS))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_imports_alone(folder: str) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in source_files()
        if "migrations" not in path.parts and path.is_relative_to(ROOT / folder)
    ]
    assert modules
    # One child that forgets all of ours between imports: a process each would take minutes.
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for known in [m for m in sys.modules if m.split('.')[0] in"
        " ('app', 'gateway', 'services', 'kit')]:\n"
        "        del sys.modules[known]\n"
        "    importlib.import_module(name)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (0, "") == (found.returncode, found.stderr)
