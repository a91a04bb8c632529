"""Server-sent events of an upstream, for who translates each one; pure."""

from kit.sse import EventTooLargeError, SseSplitter
from services.router.providers.openai.forward import EVENT_BYTES_MAX, invalid


class UpstreamSplitter(SseSplitter):
    """Splits an upstream's stream; an event of it that is too long is the upstream's failure."""

    def __init__(self) -> None:
        super().__init__(event_bytes_max=EVENT_BYTES_MAX)

    def feed(self, data: bytes) -> bytes:
        """Take a read and return the events that it completes.

        Raises:
            ProviderError: INVALID_RESPONSE.
        """
        try:
            return super().feed(data)
        except EventTooLargeError:
            raise invalid("An event of the upstream's stream is too long.") from None
