"""Bounds that every channel shares."""

from typing import Final

MESSAGE_BYTES_MAX: Final = 40 * 1024**2
"""Largest message, a body of 32 MiB and what goes with it; a larger one is refused with
RESOURCE_EXHAUSTED."""

KEEPALIVE_S: Final = 20
KEEPALIVE_TIMEOUT_S: Final = 5
RECONNECT_MAX_S: Final = 2
