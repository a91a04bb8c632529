"""The embedded Triton Inference Server with the tiny model, as a child in its own environment."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from app.children import Child, ChildSpec, Nursery, open_child
from app.errors import StartError
from app.probes import http_is_ok, is_port_free
from app.settings_layers import child_environment
from app.settings_sections import TritonSettings
from kit.clock import Clock

HOST: Final = "127.0.0.1"
_STOP_S: Final = 10.0
_REASON_CHARS_MAX: Final = 300
_log = structlog.get_logger("app.triton")


@asynccontextmanager
async def open_triton(
    settings: TritonSettings, *, checkout: Path, nursery: Nursery, clock: Clock
) -> AsyncIterator[Child]:
    """Run Triton; on exit it, its Python stub and its shared memory are gone.

    Args:
        settings: Ports, and where the environment and the launcher are.
        checkout: What relative paths of the settings start from.
        nursery: Starts it.
        clock: Tells how long it has been running.

    Raises:
        StartError: It cannot run here; one line that says why.
    """
    await _install(settings, checkout)
    _check(settings, checkout)

    async def is_ready() -> bool:
        return await http_is_ok(HOST, settings.http_port, "/v2/health/ready")

    spec = _spec(settings, checkout)
    async with open_child(
        nursery, spec, is_ready=is_ready, ready_s=settings.ready_s, clock=clock
    ) as child:
        yield child


def find_obstacle(settings: TritonSettings, checkout: Path) -> str:
    """Return in one line why Triton cannot run here; empty when its environment is there."""
    for path in (checkout / settings.python, checkout / settings.launcher):
        if not path.is_file():
            return f"Triton cannot run here: {path} is missing."
    return ""


def environment_path(settings: TritonSettings, checkout: Path) -> Path:
    """Return the folder of the environment that the settings' Python belongs to."""
    return (checkout / settings.python).parent.parent


def _spec(settings: TritonSettings, checkout: Path) -> ChildSpec:
    cache = environment_path(settings, checkout) / "cache"
    return ChildSpec(
        name="triton",
        command=(
            str(checkout / settings.python),
            str(checkout / settings.launcher),
            f"--grpc-port={settings.grpc_port}",
            f"--http-port={settings.http_port}",
            f"--metrics-port={settings.metrics_port}",
        ),
        environment=child_environment()
        | {"XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"},
        stop_s=_STOP_S,
        shared_memory="triton{pid}_",
    )


async def _install(settings: TritonSettings, checkout: Path) -> None:
    """Make the environment when it is not there and something that makes it is."""
    installer = checkout / settings.installer
    is_there = (checkout / settings.python).is_file()
    if is_there or not settings.installer or not installer.is_file():
        return
    path = environment_path(settings, checkout)
    _log.info("triton_installing", path=str(path))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(installer),
        f"--path={path}",
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        env=child_environment(),
    )
    try:
        async with asyncio.timeout(settings.install_s):
            _, errors = await process.communicate()
    except TimeoutError as error:
        raise StartError("Triton cannot run here: its installation takes too long.") from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise StartError(f"Triton cannot run here: {lines[-1][:_REASON_CHARS_MAX]}")


def _check(settings: TritonSettings, checkout: Path) -> None:
    if obstacle := find_obstacle(settings, checkout):
        raise StartError(obstacle)
    for name in ("grpc_port", "http_port", "metrics_port"):
        port = getattr(settings, name)
        if not is_port_free(HOST, port):
            variable = f"TURNPIKE__TRITON__{name.upper()}"
            raise StartError(f"Triton cannot start: port {port} is taken; set {variable}.")
