"""YAML whose values know their line, so that an error can point at it."""

from collections.abc import Sequence
from typing import Any, Final

import yaml

BYTES_MAX: Final = 4 * 1024**2


class YamlError(ValueError):
    """A YAML text is wrong; `line` counts from 1, 0 when it is not known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class YamlFile:
    """A parsed YAML mapping and the lines its values stand on."""

    def __init__(self, text: str) -> None:
        """Parse `text`.

        Raises:
            YamlError: It is too long, no YAML, or no mapping.
        """
        if len(text) > BYTES_MAX:
            raise YamlError(f"The file has {len(text)} characters; the limit is {BYTES_MAX}.")
        try:
            self._node = yaml.compose(text, Loader=yaml.CSafeLoader)
            data = yaml.load(text, Loader=yaml.CSafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            raise YamlError(str(error.problem), mark.line + 1 if mark else 0) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise YamlError("It is not YAML.") from error
        if data is not None and not isinstance(data, dict):
            raise YamlError("The top level must be a mapping.", 1)
        self.data: dict[str, Any] = data or {}

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line of the value at `path`, or of the nearest parent that exists."""
        node, line = self._node, self._node.start_mark.line + 1 if self._node else 0
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
        return line


def _child(node: object, step: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if str(step) == key.value:
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        value = node.value[step]
        return value, value.start_mark.line + 1
    return None
