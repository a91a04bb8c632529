"""What upstreams are told to answer in every cell, in no vendor's words.

All of them say the same, so that one check fits every provider.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from tests.fakes.openai_model import WORDS

THOUGHTS: Final = ("Let", " me", " think.")
ARGUMENTS: Final = ('{"at"', ': "Paris"}')
ARGUED: Final = {"at": "Paris"}
STRUCTURED: Final = ('{"answer"', ": 7}")
PROMPT: Final = "Why is the sea salty?"
PROMPT_TOKENS: Final = 20
"""What upstreams say of it that can be told."""

PIECES_PAUSE_MS: Final = 4
"""Between two pieces of an answer that breaks, so that what came before is passed on."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    `tools` are called with `ARGUMENTS`. `trouble` is refusal, error, cut, junk or silence, and
    comes after so many of the pieces; in a whole answer `after` does not matter. `has_picture` is
    about the request.
    """

    pieces: tuple[str, ...] = tuple(WORDS)
    thoughts: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    is_structured: bool = False
    has_picture: bool = False
    trouble: str = ""
    after: int = 0

    @property
    def text(self) -> str:
        """The pieces in one."""
        return "".join(self.pieces)


UNTOLD: Final = -1


class Told(NamedTuple):
    """What an upstream said that it used, in OpenAI's meaning; `UNTOLD` where it says nothing."""

    prompt: int
    completion: int


class Asked(NamedTuple):
    """How an upstream has to be asked to answer as it was told: prompt, and more fields.

    `text` is what it would say without the trouble, if it is not the pieces.
    """

    prompt: str
    fields: Mapping[str, Any] = {}
    text: str = ""


class Upstream(Protocol):
    """An upstream that can be told what to answer, and remembers what it did.

    What it says of its last answer is `told`; `made` is how many completion tokens of it were
    sent. `is_left` tells that it saw the answer's connection end too early.
    """

    @property
    def seconds(self) -> int:
        """How long it says a recording is."""

    @property
    def prompt_tokens_max(self) -> int:
        """Most prompt tokens that it counts in any of these requests."""

    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        """Have the next request answered so."""

    def tell_operation(self, name: str) -> Mapping[str, Any]:
        """Have the next request for a completion or for two vectors answered; return its fields."""

    def told(self) -> Told | None:
        """Return the usage in the last answer; None if it had none."""

    def made(self) -> int:
        """Return the completion tokens of the last answer as far as they were sent."""

    def is_left(self) -> bool:
        """Return whether the last answer was broken off by who asked."""

    def asked_count(self) -> int:
        """Return how many requests there were."""

    def has_seen(self, picture: str) -> bool:
        """Return whether the last request had a picture, given as base64."""


@dataclass
class Speaker(ABC):
    """What upstreams usually do."""

    seconds: int = field(default=9, init=False)
    prompt_tokens_max: int = field(default=PROMPT_TOKENS, init=False)

    @abstractmethod
    def tell(self, reply: Reply, *, is_streaming: bool) -> Asked:
        """Have the next request answered so."""

    def tell_operation(self, name: str) -> Mapping[str, Any]:
        """Have the next request answered as usual."""
        del name
        self.tell(Reply(), is_streaming=False)
        return {}


PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYPj/HwADAgH/p3W8ZQAAAABJR"
    "U5ErkJggg=="
)  # fmt: skip
"""A picture of one pixel, PNG as base64."""
