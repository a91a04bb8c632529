"""The blocks of an answer while they grow, in a stream and in a whole answer alike; pure.

Blocks are told apart by their index and may grow at the same time.
"""

from typing import Any, Final

import msgspec

from services.router.providers.anthropic.blocks import REASONING_FORMAT
from services.router.providers.chunk_writer import ChunkWriter
from services.router.providers.openai.forward import invalid

OPEN_MAX: Final = 128
"""Most blocks that grow at the same time."""

BLOCKS_MAX: Final = 4096
"""Most blocks of one answer."""

_EMPTY: Final = msgspec.Raw(b"{}")


class Block(msgspec.Struct):
    """A block as it begins, or all of it."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = _EMPTY


class Delta(msgspec.Struct):
    """A piece of a block."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Open(msgspec.Struct):
    """A block that may still grow; `call_index` is that of a tool call."""

    type: str
    thoughts: list[str]
    signature: str = ""
    sealed: str = ""
    input: msgspec.Raw = _EMPTY
    has_input: bool = False
    call_index: int = -1


_GROWS_BY: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}


class Content:
    """What an answer holds; `answer_tool` is the tool whose input is the answer, if any."""

    def __init__(self, writer: ChunkWriter, answer_tool: str) -> None:
        self._writer = writer
        self._answer_tool = answer_tool
        self._open: dict[int, _Open] = {}
        self._count = 0

    def begin(self, index: int, block: Block) -> None:
        """Take the beginning of a block.

        Raises:
            ProviderError: INVALID_RESPONSE: it is of a kind that was not asked for.
        """
        self._count += 1
        if index in self._open or len(self._open) >= OPEN_MAX or self._count > BLOCKS_MAX:
            raise _senseless()
        begun = _Open(block.type, [], input=block.input)
        if block.type == "text":
            self._writer.text(block.text)
        elif block.type == "thinking":
            self._think(begun, block.thinking)
            begun.signature = block.signature
        elif block.type == "redacted_thinking":
            begun.sealed = block.data
        elif block.type != "tool_use":
            raise invalid("The upstream's answer holds something that was not asked for.")
        elif not self._answer_tool or block.name != self._answer_tool:
            begun.call_index = self._writer.tool_call(block.id, block.name)
        self._open[index] = begun

    def grow(self, index: int, delta: Delta) -> None:
        """Take a piece of a block; one of a kind that nobody knows is passed over.

        Raises:
            ProviderError: INVALID_RESPONSE: the block has not begun, or does not grow like that.
        """
        kind = _GROWS_BY.get(delta.type)
        if kind is None:
            return
        grown = self._open.get(index)
        if grown is None or grown.type != kind:
            raise _senseless()
        if delta.type == "text_delta":
            self._writer.text(delta.text)
        elif delta.type == "thinking_delta":
            self._think(grown, delta.thinking)
        elif delta.type == "signature_delta":
            grown.signature = delta.signature
        elif delta.partial_json:
            grown.has_input = True
            self._say_input(grown, delta.partial_json)

    def close(self, index: int) -> None:
        """Take the end of a block.

        Raises:
            ProviderError: INVALID_RESPONSE: it has not begun, or its input makes no sense.
        """
        closed = self._open.pop(index, None)
        if closed is None:
            raise _senseless()
        if closed.type == "thinking":
            text = "".join(closed.thoughts)
            if text or closed.signature:
                detail = {"type": "reasoning.text", "text": text, "signature": closed.signature}
                self._detail(detail)
        elif closed.sealed:
            self._detail({"type": "reasoning.encrypted", "data": closed.sealed})
        elif closed.type == "tool_use" and not closed.has_input:
            try:
                self._say_input(closed, bytes(closed.input).decode())
            except UnicodeDecodeError:
                raise _senseless() from None

    def _think(self, block: _Open, text: str) -> None:
        block.thoughts.append(text)
        self._writer.reasoning(text)

    def _say_input(self, block: _Open, piece: str) -> None:
        if block.call_index < 0:
            self._writer.text(piece)
        else:
            self._writer.tool_arguments(block.call_index, piece)

    def _detail(self, detail: dict[str, Any]) -> None:
        self._writer.reasoning_detail({**detail, "format": REASONING_FORMAT})


def _senseless() -> Exception:
    return invalid("The upstream's blocks of content make no sense.")
