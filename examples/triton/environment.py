"""Makes the environment that `launch.py` runs in, or says in one line why Triton cannot run here.

    python examples/triton/environment.py --path .venv-triton

Needs x86-64 Linux with glibc 2.35 or newer and a Python 3.11 that has its libpython as a shared
library: the one that runs this, else Debian's. Everything is written below `--path`; start the
server with XDG_CACHE_HOME=<path>/cache (see `launch_variables`), so that its copy of the backends
lies there as well. Standard library only.
"""

import argparse
import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOCK = Path(__file__).resolve().with_name("requirements.lock")
GLIBC_MIN = (2, 35)
PYTHON = (3, 11)
DEBIAN_PYTHON = Path("/usr/bin/python3.11")
DEBIAN_LIBPYTHON = Path("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0")
INSTALL_MAX_S = 600.0
_LOCK_NAME = "environment.lock"


class CannotRunError(Exception):
    """Triton cannot run here; the text is one line that says why."""


@dataclass(frozen=True)
class Machine:
    """What decides whether Triton can run."""

    system: str
    architecture: str
    glibc: str
    python: tuple[int, int]
    executable: Path
    libpython: Path | None

    @classmethod
    def here(cls) -> "Machine":
        """Describe this machine and the Python that runs this."""
        libpython = None
        if sysconfig.get_config_var("Py_ENABLE_SHARED"):
            folder = sysconfig.get_config_var("LIBDIR") or ""
            libpython = Path(folder, sysconfig.get_config_var("INSTSONAME") or "")
        return cls(
            system=platform.system(),
            architecture=platform.machine(),
            glibc=platform.libc_ver()[1],
            python=sys.version_info[:2],
            executable=Path(getattr(sys, "_base_executable", None) or sys.executable),
            libpython=libpython,
        )


def check_machine(machine: Machine) -> None:
    """Raise `CannotRunError` unless the server's binary can run on this machine."""
    if machine.system != "Linux" or machine.architecture != "x86_64":
        raise CannotRunError(
            f"Triton's wheel is for Linux on x86-64; this is {machine.system} on "
            f"{machine.architecture}."
        )
    numbers = machine.glibc.split(".")
    if not machine.glibc or tuple(int(n) for n in numbers[:2]) < GLIBC_MIN:
        wanted = ".".join(map(str, GLIBC_MIN))
        raise CannotRunError(
            f"Triton needs glibc {wanted} or newer; this is {machine.glibc or 'another libc'}."
        )


def choose_python(machine: Machine, exists: Callable[[Path], bool] = Path.exists) -> Path:
    """Return a Python 3.11 with a shared libpython: the running one, else Debian's.

    Raises:
        CannotRunError: There is none.
    """
    if machine.python == PYTHON and machine.libpython is not None and exists(machine.libpython):
        return machine.executable
    if exists(DEBIAN_PYTHON) and exists(DEBIAN_LIBPYTHON):
        return DEBIAN_PYTHON
    raise CannotRunError(
        "Triton needs a Python 3.11 with libpython3.11.so.1.0: apt-get install python3.11 "
        "python3.11-venv libpython3.11."
    )


def launch_variables(path: Path) -> dict[str, str]:
    """Return the variables to start `launch.py` with: nothing is written outside `path`."""
    return {"XDG_CACHE_HOME": str(path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}


def stamp_text(python: Path) -> str:
    """Return what the stamp of a finished environment holds."""
    return f"{python}\n{hashlib.sha256(LOCK.read_bytes()).hexdigest()}\n"


def make(path: Path) -> bool:
    """Make the environment at `path` unless it is there already; return whether it was made.

    Two that do it at once wait for each other. A half-made one is made anew.

    Raises:
        CannotRunError: Triton cannot run here or the install failed.
    """
    machine = Machine.here()
    check_machine(machine)
    python = choose_python(machine)
    stamp = path / "environment.stamp"
    with _only_one(path):
        if stamp.exists() and stamp.read_text() == stamp_text(python):
            return False
        _clear(path)
        _run([str(python), "-m", "venv", str(path)], "the environment could not be made")
        pip = [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        pip += ["--disable-pip-version-check", "--no-cache-dir"]
        pip += ["--require-hashes", "--no-deps", "-r", str(LOCK)]
        _run(pip, "nvidia-pytriton could not be installed")
        stamp.write_text(stamp_text(python))
    return True


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    with (path / _LOCK_NAME).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clear(path: Path) -> None:
    for child in path.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != _LOCK_NAME:
            child.unlink()


def _run(command: list[str], failed: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_MAX_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotRunError(f"Triton's environment: {failed} ({type(error).__name__}).") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CannotRunError(f"Triton's environment: {failed}: {lines[-1] if lines else '?'}")


def main() -> None:
    """Make the environment named by `--path`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--path", type=Path, default=Path(".venv-triton"))
    try:
        is_new = make(parser.parse_args().path.absolute())
    except CannotRunError as error:
        sys.exit(str(error))
    print("made" if is_new else "already there")


if __name__ == "__main__":
    main()
