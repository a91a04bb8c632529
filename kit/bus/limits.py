"""How durable consumers behave, on every bus alike."""

from typing import Final

ACK_WAIT_S: Final = 30.0
"""A delivery that is not acknowledged by then is handed out again."""

ACK_PENDING_MAX: Final = 4_096
"""Deliveries of one durable that may be unacknowledged at a time."""

PENDING_MESSAGES_MAX: Final = 4_096
"""Light messages kept for one slow subscriber."""
