"""Where Triton can run, and how the example starts it."""

import runpy
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.triton.environment import (
    DEBIAN_LIBPYTHON,
    DEBIAN_PYTHON,
    LOCK,
    CannotRunError,
    Machine,
    check_machine,
    choose_python,
    launch_variables,
)

SHARED = Path("/opt/python/lib/libpython3.11.so.1.0")
DEBIAN_12 = Machine(
    system="Linux",
    architecture="x86_64",
    glibc="2.36",
    python=(3, 11),
    executable=Path("/opt/python/bin/python3.11"),
    libpython=SHARED,
)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architecture": "aarch64"}, "x86-64"),
        ({"system": "Darwin"}, "Linux"),
        ({"glibc": "2.31"}, "glibc 2.35"),
        ({"glibc": ""}, "another libc"),
    ],
)
def test_machine_that_cannot_run_triton_is_told_why(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(CannotRunError, match=why):
        check_machine(replace(DEBIAN_12, **changes))


def test_debian_12_can_run_triton() -> None:
    check_machine(DEBIAN_12)


def test_running_python_is_taken_when_its_library_is_shared() -> None:
    python = choose_python(DEBIAN_12, lambda path: path == SHARED)

    assert python == DEBIAN_12.executable


@pytest.mark.parametrize("changes", [{"libpython": None}, {"python": (3, 12)}])
def test_debians_python_is_taken_otherwise(changes: dict[str, Any]) -> None:
    machine = replace(DEBIAN_12, **changes)

    python = choose_python(machine, lambda path: path in (DEBIAN_PYTHON, DEBIAN_LIBPYTHON))

    assert python == DEBIAN_PYTHON


def test_no_shared_library_at_all_names_the_package() -> None:
    with pytest.raises(CannotRunError, match="apt-get install"):
        choose_python(replace(DEBIAN_12, libpython=None), lambda path: path == DEBIAN_PYTHON)


def test_lock_holds_hashes_and_no_address() -> None:
    text = LOCK.read_text()

    assert "nvidia-pytriton==0.7.0 " in text
    assert "://" not in text
    assert text.count("--hash=sha256:") > 2


def test_nothing_is_written_outside_the_environment() -> None:
    variables = launch_variables(Path("/checkout/.venv-triton"))

    assert variables["XDG_CACHE_HOME"] == "/checkout/.venv-triton/cache"


def test_launcher_puts_its_own_python_before_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/other/lib")
    monkeypatch.setenv("PATH", "/usr/bin")
    launcher = runpy.run_path(str(LOCK.with_name("launch.py")))

    variables = launcher["environment"](Path("/site/nvidia_pytriton.libs"))

    libdir = sysconfig.get_config_var("LIBDIR")
    assert variables["LD_LIBRARY_PATH"] == f"/site/nvidia_pytriton.libs:{libdir}:/other/lib"
    assert variables["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
