"""How hosts of Claude differ from Anthropic's own API; pure.

Source: anthropic-sdk-python 2.14, `lib/vertex` and `lib/bedrock` (read 2026-11).
"""

from typing import Final, NamedTuple
from urllib.parse import quote

from services.router.providers.port import Call

VERSION: Final = "2023-06-01"
"""The version of the API that is spoken here; a header at Anthropic's, else in the body."""

_MODEL: Final = "{model}"


class Host(NamedTuple):
    """Where a request goes and what of it is said there; the defaults are Anthropic's own API.

    `path` goes behind the base URL, `stream_path` where an answer is streamed; `{model}` in them is
    the deployment's name of the model, percent-encoded, without `model_prefix`. `body_version` is
    the version of a host that wants it in the body: there the model stands in the path alone.
    `body_betas` are betas of a host that wants those in the body as well. `has_stream_flag` tells
    whether `stream` is in the body, `fetches_images` that the host takes no URLs of images.
    """

    path: str = "/v1/messages"
    stream_path: str = "/v1/messages"
    probe_path: str = "/v1/models"
    model_prefix: str = ""
    body_version: str = ""
    body_betas: tuple[str, ...] = ()
    has_stream_flag: bool = True
    fetches_images: bool = False

    def path_of(self, call: Call) -> str:
        """Return the path of one request."""
        path = self.stream_path if call.is_streaming else self.path
        if _MODEL not in path:
            return path
        return path.replace(_MODEL, quote(self._model(call), safe=""))

    def members(self, call: Call) -> dict[str, object]:
        """Return the members of a body that say what is asked of whom."""
        found: dict[str, object] = {}
        if self.body_version:
            found["anthropic_version"] = self.body_version
        else:
            found["model"] = self._model(call)
        if self.body_betas:
            found["anthropic_beta"] = self.body_betas
        if self.has_stream_flag:
            found["stream"] = call.is_streaming
        return found

    def _model(self, call: Call) -> str:
        return call.upstream_model.removeprefix(self.model_prefix)


ANTHROPIC: Final = Host()
