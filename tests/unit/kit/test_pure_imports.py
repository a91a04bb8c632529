"""The values of kit stand on the standard library alone."""

import subprocess
import sys

import pytest

from tests.house.tree import ROOT

FOREIGN = (
    "aiohttp",
    "google",
    "grpc",
    "msgspec",
    "nats",
    "pydantic",
    "sqlalchemy",
    "structlog",
    "turnpike",
)
PURE = (
    "kit.errors",
    "kit.money",
    "kit.ids",
    "kit.clock",
    "kit.multipart",
    "kit.sound",
    "kit.sse",
    "kit.bus.port",
)


@pytest.mark.parametrize("module", PURE)
def test_value_module_imports_nothing_but_the_standard_library(module: str) -> None:
    program = f"import sys, {module}; print(*{{n.partition('.')[0] for n in sys.modules}})"

    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    loaded = set(done.stdout.split())
    assert set() == loaded & set(FOREIGN)
    assert {"kit", "__main__"} >= loaded - set(sys.stdlib_module_names)
