"""The coverage-guided targets, each in a process of its own: short here, long under `make fuzz`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.conftest import Note
from tests.fuzz.targets import TARGETS
from tests.house.tree import ROOT

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
LENGTH = "-max_total_time=9" if IS_LONG else "-runs=3000"
INPUT_S = 1
"""An input that takes longer is a finding."""

_PROGRESS = re.compile(r"^#(\d+)\s+(?:INITED|DONE)\s+cov: (\d+)", re.MULTILINE)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.timeout(120)
def test_target_finds_nothing(target: str, tmp_path: Path, note: Note) -> None:
    options = [LENGTH, f"-timeout={INPUT_S}", "-rss_limit_mb=2048", "-max_len=4096"]

    found = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.targets", target, *options, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos' / 'gen'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    assert 0 == found.returncode, found.stderr[-3000:]
    (_, begun), (runs, done) = _PROGRESS.findall(found.stderr)
    note(f"{target:22} {runs} inputs, coverage {begun} -> {done}")
    assert int(runs) > 1000
