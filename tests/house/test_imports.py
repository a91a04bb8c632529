"""Every module can be imported alone: no cycle hides behind an order."""

import subprocess
import sys

from tests.house.tree import ROOT, source_files


def test_every_module_imports_alone() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in source_files()
        if "migrations" not in path.parts
    ]
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
