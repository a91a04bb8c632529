"""Where auth speaks on the bus; listeners repeat these strings."""

from typing import Final

KEY_CHANGED: Final = "auth.key_changed.v1"
HEARTBEAT: Final = "auth.heartbeat.v1"
SLOT_RECALL: Final = "auth.slot_recall.v1"
