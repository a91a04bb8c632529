"""The coverage-guided targets, each in a process of its own: short here, long under `make fuzz`."""

import os
import subprocess
import sys

import pytest

from tests.house.tree import ROOT

TARGETS = [
    "sse", "forward", "stream", "headers", "url", "chat", "texts", "messages", "responses", "form",
    "answers", "schema", "regex",
]  # fmt: skip
RUNS = 200_000 if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else 4_000
INPUT_S = 1
"""An input that takes longer is a finding."""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.timeout(300)
def test_target_finds_nothing(target: str) -> None:
    options = [f"-runs={RUNS}", f"-timeout={INPUT_S}", "-rss_limit_mb=2048", "-max_len=4096"]

    found = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.targets", target, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos' / 'gen'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    assert 0 == found.returncode, found.stderr[-3000:]
