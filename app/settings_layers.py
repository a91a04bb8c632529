"""The layers that settings come from, and where in them a value stands.

A layer is a tree of values with a name for each place in it: a flag, an environment variable, a
secret file, a line of `turnpike.yaml`. Upper layers win value by value. Only `app.settings` uses
this file.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from kit.yaml_lines import YamlError, YamlFile

ENV_PREFIX: Final = "TURNPIKE__"
ENV_DELIMITER: Final = "__"
CATALOGUE_KEY: Final = "catalogue"
SECRET_BYTES_MAX: Final = 64 * 1024
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")

Path_ = tuple[str, ...]


class ConfigError(Exception):
    """Settings are wrong; the message names the place and the key."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings.

    `kind` is flag, env, secret, file or derived. `place` names where the value at a path stands.
    What `data` holds may be secret, and its `repr` hides it.
    """

    kind: str
    data: dict[str, Any] = field(repr=False)
    source: str = ""
    yaml: YamlFile | None = None

    def place(self, path: Sequence[str | int]) -> str:
        """Return the name of the value's place, such as `turnpike.yaml:3`."""
        names = [str(step) for step in path]
        if self.yaml is not None:
            return f"{self.source}:{self.yaml.line(list(path))}"
        if self.kind == "env":
            return ENV_PREFIX + ENV_DELIMITER.join(names).upper()
        if self.kind == "secret":
            return str(Path(self.source) / ENV_DELIMITER.join(names))
        if self.kind == "flag":
            return "--" + ".".join(names).replace("_", "-")
        return self.source

    def holds(self, path: Sequence[str | int]) -> bool:
        """Return whether this layer has a value at `path`."""
        found, _ = find(self.data, path)
        return found


def find(tree: object, path: Sequence[str | int]) -> tuple[bool, Any]:
    """Return whether `tree` has something at `path`, and what."""
    for step in path:
        is_key = isinstance(tree, Mapping) and step in tree
        if not is_key and not (isinstance(tree, list | tuple) and step in range(len(tree))):
            return False, None
        tree = tree[step]  # type: ignore[index]
    return True, tree


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Return both trees as one; where both have a value, the upper's counts."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def leaves(tree: Mapping[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every value of a tree with its path."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def read_env(model: type[BaseSettings]) -> Layer:
    """Return the layer of `TURNPIKE__...` variables.

    Raises:
        ConfigError: A variable names no section, or holds no JSON where a list or mapping goes.
    """
    for name in environment():
        if name.upper().startswith(ENV_PREFIX):
            section = name[len(ENV_PREFIX) :].partition(ENV_DELIMITER)[0].lower()
            if section not in model.model_fields or section == CATALOGUE_KEY:
                raise ConfigError(f"{name}: there is no setting {section!r}.")
    source = EnvSettingsSource(
        model, env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER, case_sensitive=False
    )
    try:
        return Layer("env", source())
    except SettingsError as error:
        raise ConfigError(f"Environment: {error}.") from error


def read_secrets(folder: Path) -> Layer:
    """Return the layer of secret files; `admin__token` holds `admin.token`.

    Hidden files, as Kubernetes makes them beside a mounted secret, are passed over.

    Raises:
        ConfigError: The folder or a file cannot be read, or a file is too long.
    """
    data: dict[str, Any] = {}
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_file()]
        for path in files:
            if path.name.startswith("."):
                continue
            if path.stat().st_size > SECRET_BYTES_MAX:
                raise ConfigError(f"{path}: a secret has at most {SECRET_BYTES_MAX} bytes.")
            _put(data, path.name.lower().split(ENV_DELIMITER), path.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder}: secret files cannot be read: {error}.") from error
    return Layer("secret", data, source=str(folder))


def read_file(path: Path) -> Layer:
    """Return the layer of `turnpike.yaml`; its catalogue is the router's and is left out.

    Raises:
        ConfigError: It cannot be read or is no YAML mapping; with the line where that is known.
    """
    try:
        yaml = YamlFile(path.read_text())
    except YamlError as error:
        place = f"{path}:{error.line}" if error.line else str(path)
        raise ConfigError(f"{place}: {error.message}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: it cannot be read: {error}.") from error
    is_set = {key: value for key, value in yaml.data.items() if value is not None}
    data = {str(key): value for key, value in is_set.items() if key != CATALOGUE_KEY}
    return Layer("file", data, source=str(path), yaml=yaml)


def environment() -> Mapping[str, str]:
    """Return this process's environment; the one place that reads it."""
    return os.environ  # noqa: TID251 - this is the place


def child_environment() -> dict[str, str]:
    """Return what a child process gets of the environment: where programs are, and no secrets."""
    return {name: value for name, value in environment().items() if name in INHERITED}


def _put(tree: dict[str, Any], path: Sequence[str], value: str) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
    tree[path[-1]] = value
