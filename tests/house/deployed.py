"""What a container would see: variables of the image and its own, secret files, `turnpike.yaml`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from app.kept_secrets import fill_secrets
from app.settings import Settings, load_settings
from app.settings_layers import ENV_PREFIX, environment
from tests.house.tree import ROOT

DOCKERFILE: Final = ROOT / "docker" / "Dockerfile"
SECRETS_DIR: Final = f"{ENV_PREFIX}SECRETS_DIR"
STATE_DIR: Final = f"{ENV_PREFIX}STATE_DIR"
_VARIABLE: Final = re.compile(rf"({ENV_PREFIX}\w+)=(\S+)")


def image_variables() -> dict[str, str]:
    """Return the settings that the image brings along."""
    return dict(_VARIABLE.findall(DOCKERFILE.read_text()))


def locked(package: str) -> str:
    """Return the version of a package in the lock file."""
    match = re.search(rf"^{package}==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def settings_of(
    target: str,
    variables: Mapping[str, str],
    *,
    secrets: Mapping[str, str],
    config: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Return the settings of a process as it would start in that container.

    Args:
        target: What it runs.
        variables: Those of the container; the image's are added.
        secrets: Texts of its secret files by name.
        config: Text of its `turnpike.yaml`; empty for none.
        folder: An empty folder, in place of the container's.
        monkeypatch: Sets the environment and the working directory.
    """
    monkeypatch.chdir(folder)
    for name in [name for name in environment() if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    places = {SECRETS_DIR: str(folder / "secrets"), STATE_DIR: str(folder / "state")}
    for name, value in (image_variables() | dict(variables) | places).items():
        monkeypatch.setenv(name, value)
    (folder / "secrets").mkdir()
    for name, text in secrets.items():
        (folder / "secrets" / name).write_text(text)
    if config:
        (folder / "turnpike.yaml").write_text(config)
    return fill_secrets(load_settings().settings, target=target)
