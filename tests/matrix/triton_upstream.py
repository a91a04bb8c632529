"""A real Triton as an upstream of the matrix: it is told what to say by a choice of one text.

What goes wrong in the model is asked for in the prompt, what goes wrong on the way is done by a
relay. How many tokens there were is in the model's journal.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from tests.fakes.relay import Relay
from tests.fixtures.triton import Triton
from tests.matrix.cells import model_of
from tests.matrix.reply import PROMPT, UNTOLD, Asked, Reply, Speaker, Told

_LONG: Final = 2000
SPOILT: Final = {"cut": b"", "junk": b"\xff" * 9 + b"secret prompt text"}
"""What relays send in the place of an answer: neither a frame nor a chunk begins so."""

_TIMES: Final = 4
"""How much longer an answer is that breaks: what came before must have been passed on by then."""

_seeds = count(7_000)


@dataclass
class TritonSpeaker(Speaker):
    """A model with a journal, `tiny-picture` for pictures, and relays by what they spoil.

    Connections to one address are shared, so each trouble on the way has an address of its own.
    """

    triton: Triton
    model: str
    relays: Mapping[str, Relay]
    seed: int = 0
    operation: str = ""

    def __post_init__(self) -> None:
        # It tells the exact figure with its first token, and its template adds to the prompt.
        self.prompt_tokens_max = 64

    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        self.seed = next(_seeds)
        self.operation = "picture" if reply.has_picture else ""
        fields: dict[str, Any] = {"seed": self.seed, "max_tokens": 256}
        if reply.trouble == "silence":
            # It does not stop of itself.
            return Asked(PROMPT, {**fields, "max_tokens": _LONG, "min_tokens": _LONG})
        if not reply.trouble:
            return Asked(PROMPT, {**fields, "guided_choice": [reply.text]})
        text, prompt = reply.text * _TIMES, PROMPT
        if reply.trouble in SPOILT:
            relay = self.relays[model_of(reply.trouble, is_streaming=is_streaming)]
            self._spoil(relay, SPOILT[reply.trouble], reply.after)
        else:
            after = 0 if reply.trouble == "refusal" else reply.after * _TIMES
            prompt += f" [crash after {after}]"
        return Asked(prompt, {**fields, "guided_choice": [text]}, text)

    def _spoil(self, relay: Relay, data: bytes, after: int) -> None:
        """Have a relay put this in the place of what comes after so many tokens.

        What came with the first two is passed on in any case.
        """
        passed = count(1)

        def spoil() -> bytes | None:
            made = self.made()
            if not made or next(passed) <= 2 or made <= after:
                return None
            relay.spoil = lambda: None
            return data

        relay.spoil = spoil

    def tell_operation(self, name: str) -> Mapping[str, Any]:
        self.operation = name
        if name != "completion":
            return {}
        self.seed = next(_seeds)
        return {"prompt": "Why is", "seed": self.seed, "max_tokens": 8}

    def told(self) -> Told | None:
        if self.operation == "embedding":
            return Told(UNTOLD, 0)
        if self.operation == "picture":
            return Told(self.triton.shown()[-1]["tokens"], UNTOLD)
        return Told(self.triton.prompt_tokens(self.seed, self.model), self.made())

    def made(self) -> int:
        return self.triton.journal(self.seed, self.model)[0]

    def is_left(self) -> bool:
        made, is_over = self.triton.journal(self.seed, self.model)
        return is_over and made < _LONG

    def asked_count(self) -> int:
        path = self.triton.repository / self.model / "1" / "journal.txt"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def has_seen(self, picture: str) -> bool:
        digest = hashlib.sha256(base64.b64decode(picture)).hexdigest()
        return [digest] == list(self.triton.shown()[-1]["digests"])
