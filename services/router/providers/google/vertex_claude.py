"""Claude on Vertex AI, as a codec: its paths, and refusals of either maker.

Pure. Source: Vertex AI, Claude models; anthropic-sdk-python 2.14, `lib/vertex` (read 2026-11).
"""

from typing import Final

import msgspec

from services.router.providers.anthropic.codec import AnthropicCodec
from services.router.providers.anthropic.hosts import Host
from services.router.providers.google.gemini_errors import google_error
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import ProviderError
from services.router.upstream import ResponseHead

_MODEL: Final = "/publishers/anthropic/models/{model}"
_HOST: Final = Host(
    path=f"{_MODEL}:rawPredict",
    stream_path=f"{_MODEL}:streamRawPredict",
    probe_path="/endpoints?pageSize=1",
    model_prefix="anthropic/",
    fetches_images=True,
)


class _Refusal(msgspec.Struct):
    type: str = ""


_refusal: Final = msgspec.json.Decoder(_Refusal).decode


class VertexClaudeCodec(AnthropicCodec):
    """Speaks one version of the Messages API; see `translated.Codec`."""

    def __init__(self, version: str) -> None:
        super().__init__(_HOST._replace(body_version=version))

    def refusal(self, head: ResponseHead, answer: bytes, *, now_unix_s: float) -> ProviderError:
        """Return what an answer that is not 200 means: the model's host refuses in its own way."""
        if _is_anthropics(answer):
            return super().refusal(head, answer, now_unix_s=now_unix_s)
        retry_after = head.headers.get(b"retry-after", b"")
        return google_error(head.status, answer, retry_after=retry_after, now_unix_s=now_unix_s)


def _is_anthropics(answer: bytes) -> bool:
    try:
        return _refusal(answer).type == "error"
    except JUNK:
        return False
