"""How much of uploads is in hand at once."""

from kit.errors import Reason, TurnpikeError


class UploadRoom:
    """How many bytes of uploads may be in hand at once."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max

    def take(self, size: int) -> None:
        """Count an upload.

        Raises:
            TurnpikeError: `OVERLOADED`; there is no room for it now.
        """
        if size > self._left:
            raise TurnpikeError(
                Reason.OVERLOADED, "Too many uploads are under way.", retry_after_s="1"
            )
        self._left -= size

    def give_back(self, size: int) -> None:
        """Forget an upload."""
        self._left += size
