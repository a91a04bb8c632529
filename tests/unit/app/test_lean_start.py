"""A process that runs everything loads nothing that it has no use for: it would stay resident."""

import subprocess
import sys

from tests.house.tree import ROOT

UNUSED = (
    "alembic",
    "cryptography",
    "grpc_health.v1",
    "grpc_reflection.v1alpha",
    "jinja2",
    "opentelemetry",
    "stripe",
    "tritonclient",
)


def test_serving_everything_loads_no_library_that_only_others_use() -> None:
    program = "import sys, app.cli, app.lifecycle; print(*sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert set() == set(done.stdout.split()) & set(UNUSED)


def test_listing_keys_imports_neither_grpc_nor_a_database() -> None:
    script = (
        "import sys; from app.cli import app\n"
        "try: app(['keys', 'list', '--admin', '127.0.0.1:9'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'grpc', 'sqlalchemy', 'aiohttp', 'google'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"TURNPIKE__ADMIN__TOKEN": "t", "PYTHONPATH": ":".join(sys.path)},
    )

    assert "[]" == done.stdout.strip()
    assert "Nothing answers on 127.0.0.1:9" in done.stderr
