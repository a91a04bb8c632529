"""The fakes of vendors that speak OpenAI in words of their own as upstreams of the matrix.

They answer by the request itself: tools are called, schemas kept to, and words in the prompt make
them think or go wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.fakes.vendors import VendorUpstream
from tests.matrix.http_upstreams import openai_usage
from tests.matrix.reply import PIECES_PAUSE_MS, PROMPT, Asked, Reply, Speaker, Told

_WORDS: Final = {
    "refusal": "error before",
    "error": "error late",
    "cut": "cut",
    "junk": "junk",
    "silence": "slow",
}


@dataclass
class VendorSpeaker(Speaker):
    """A fake of one vendor."""

    upstream: VendorUpstream
    usage_count: int = 0

    def __post_init__(self) -> None:
        self.seconds = 3

    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        upstream = self.upstream
        upstream.pieces = reply.after if reply.trouble else -1
        upstream.pieces_sent = 0
        upstream.is_aborted = False
        is_broken = reply.trouble in ("error", "junk", "cut")
        upstream.pause_s = PIECES_PAUSE_MS / 1000 if is_broken else 0.0
        self.usage_count = len(upstream.usages)
        words = [PROMPT]
        if reply.thoughts:
            words.append("Do think.")
        if reply.trouble == "error" and not is_streaming:
            words.append(_WORDS["refusal"])
        elif reply.trouble:
            words.append(_WORDS[reply.trouble])
        return Asked(" ".join(words))

    def tell_operation(self, name: str) -> Mapping[str, Any]:
        self.usage_count = len(self.upstream.usages)
        return super().tell_operation(name)

    def told(self) -> Told | None:
        usages = self.upstream.usages
        return openai_usage(usages[-1]) if len(usages) > self.usage_count else None

    def made(self) -> int:
        return self.upstream.pieces_sent

    def is_left(self) -> bool:
        return self.upstream.is_aborted

    def asked_count(self) -> int:
        return len(self.upstream.seen)

    def has_seen(self, picture: str) -> bool:
        return picture in json.dumps(self.upstream.seen[-1])
