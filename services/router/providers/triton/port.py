"""What the Triton adapter and its two transports agree on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from services.router.prompt_tools import PromptTools
from services.router.providers.triton.contracts import ANY_CONTRACT, ContractWish
from services.router.providers.triton.servers import ANY_RULES, Rules, Way
from services.router.providers.triton.vectors import ModelLayout, Output, TextsAsk
from services.router.providers.triton.wire import Ask, ModelSettings, Outputs, Signature
from services.router.template import ChatTemplate


class TritonAddress(NamedTuple):
    """Where one server is: `host:port` on a private network.

    Without an address of its metrics its queue is not read.
    """

    grpc: str = ""
    http: str = ""
    metrics: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonConfig:
    """One model on Triton servers; without a template it takes no conversations.

    The address of `transport` is needed; with `servers` there are several of them, all with the
    same model. An empty version of the model means the server's choice. `end_s` bounds the wait for
    the end of a call whose answer is complete.
    """

    model_name: str
    contract: ContractWish = ANY_CONTRACT
    template: ChatTemplate | None = None
    tools: PromptTools | None = None
    grpc_address: str = ""
    http_address: str = ""
    servers: tuple[TritonAddress, ...] = ()
    rules: Rules = ANY_RULES
    transport: Literal["grpc", "http"] = "grpc"
    model_version: str = ""
    connections_max: int = 1024
    connect_s: float = 3.0
    end_s: float = 1.0
    message_bytes_max: int = 16 * 1024 * 1024


class TritonGeneration(Protocol):
    """One running request."""

    async def read(self, deadline_s: float) -> list[Outputs]:
        """Return the responses that came since the last read, at least one; empty at the end.

        Args:
            deadline_s: Loop time after which the wait ends.

        Raises:
            ProviderError: It failed; INCOMPLETE once anything had been read.
        """

    async def finish(self) -> None:
        """Let the call end by itself: the answer is complete."""

    def close(self) -> None:
        """Stop the generation at once, unless it has ended."""


class TritonTransport(Way, Protocol):
    """A way to one language model on one server."""

    async def signature(self, deadline_s: float) -> Signature:
        """Return the tensors of the model, without its settings.

        Raises:
            ProviderError: The server cannot be asked or does not have the model.
        """

    async def settings(self, deadline_s: float) -> ModelSettings:
        """Return what the model's configuration says.

        Raises:
            ProviderError: The server cannot be asked, or does not show them.
        """

    async def start(self, request: Ask, request_id: str, deadline_s: float) -> TritonGeneration:
        """Send a request; the caller closes what comes back.

        Raises:
            ProviderError: It could not be sent.
        """


class EmbeddingTransport(Way, Protocol):
    """A way to one embedding model on one server."""

    async def layout(self, deadline_s: float) -> ModelLayout:
        """Return the model's inputs and outputs.

        Raises:
            ProviderError: The server cannot be asked or does not have the model.
        """

    async def infer(
        self, request: TextsAsk, request_id: str, deadline_s: float
    ) -> Sequence[Output]:
        """Run one call and return the outputs that it asks for.

        Raises:
            ProviderError: It failed, or its outputs did not come by the deadline.
        """

    async def start(self, request: Ask, request_id: str, deadline_s: float) -> TritonGeneration:
        """Send a request of the vLLM contract; see `TritonTransport.start`."""
