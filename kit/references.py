"""Where settings point at a secret: `${VARIABLE}` or `file:/path`, in place of the secret."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_VARIABLE: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_FILE: Final = "file:"


def resolve(text: str, variables: Mapping[str, str]) -> str:
    """Return a text with what it points at: a whole file, or variables within it.

    Raises:
        KeyError: A variable is not set.
        OSError: The file cannot be read.
    """
    if text.startswith(_FILE):
        return Path(text.removeprefix(_FILE)).read_text().strip()
    return _VARIABLE.sub(lambda match: variables[match[1]], text)
