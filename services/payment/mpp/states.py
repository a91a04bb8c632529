"""Where a channel is in its life; pure, and apart so that it loads without the curves."""

from enum import StrEnum


class ChannelState(StrEnum):
    """Where a channel is in its life.

    `PAYER_CLOSING`: its payer closes alone, so nothing more is sold; `CLOSING`: we close it.
    """

    OPENING = "opening"
    OPEN = "open"
    PAYER_CLOSING = "payer_closing"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"
