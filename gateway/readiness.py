"""Whether the gateway takes requests: its parts are there and it is not stopping."""

from collections.abc import Callable

from gateway.models import Models


class Readiness:
    """Ready means: not stopping, the catalogue is there, and the process says so too."""

    def __init__(self, *, models: Models, process: Callable[[], bool]) -> None:
        self._models = models
        self._process = process
        self.is_stopping = False

    def missing(self) -> list[str]:
        """Return what is missing, by name; empty when ready."""
        parts = {
            "stopping": not self.is_stopping,
            "catalogue": self._models.is_loaded,
            "process": self._process(),
        }
        return [name for name, is_there in parts.items() if not is_there]
