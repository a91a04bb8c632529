"""Prompts that are plain texts or token ids: their sizes, and what a request may use; pure.

Serves the two endpoints that take such prompts, completions and embeddings.
"""

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from gateway.call import Bounds, ModelCall, PromptSize, Sizes
from gateway.openai.figures import wrong
from kit.errors import Reason, TurnpikeError
from turnpike.router.v1 import router_pb2

TokenId = Annotated[int, Meta(ge=0)]
Prompts = str | list[str | TokenId | list[TokenId]]
_ESTIMATE_BYTES_PER_TOKEN: Final = 4
_CONTEXT_BYTES_PER_TOKEN_MAX: Final = 16
_SPECIAL_TOKENS_MAX: Final = 4
"""What an engine puts around a prompt, such as BOS and EOS."""


def prompt_sizes(
    name: str, value: Prompts, *, count_max: int, is_empty_allowed: bool
) -> tuple[PromptSize, ...]:
    """Return the size of each prompt in a field's value.

    A list of numbers is one prompt; other lists have one prompt in each entry, all of one kind.

    Raises:
        TurnpikeError: `INVALID_VALUE` naming the field or the entry at fault.
    """
    if isinstance(value, str):
        return (_size(name, value, is_empty_allowed=is_empty_allowed),)
    if not value:
        raise wrong(name, f"{name} is empty.")
    if {int} == set(map(type, value)):
        return (PromptSize(token_count=len(value)),)
    if len(value) > count_max:
        raise wrong(name, f"{name} has {len(value)} entries; {count_max} at most.")
    sizes: list[PromptSize] = []
    for index, entry in enumerate(value):
        where = f"{name}[{index}]"
        if isinstance(entry, int) or type(entry) is not type(value[0]):
            raise wrong(where, f"{where} is of another kind than the other entries.")
        sizes.append(_size(where, entry, is_empty_allowed=is_empty_allowed))
    return tuple(sizes)


def text_bounds(call: ModelCall, model: Sizes) -> Bounds:
    """Return what a request with `prompts` may use of a model; see `envelope.bounds`.

    The context is each prompt's own. Vectors have no completion, so their bound is 0.

    Raises:
        TurnpikeError: `CONTEXT_LENGTH_EXCEEDED` when even a sparing count of a prompt is longer.
    """
    context_length = model.context_length
    least = _longest(call.prompts, _CONTEXT_BYTES_PER_TOKEN_MAX)
    has_completion = call.operation != router_pb2.OPERATION_EMBEDDING
    if least + has_completion > context_length:
        param = "prompt" if has_completion else "input"
        raise TurnpikeError(
            Reason.CONTEXT_LENGTH_EXCEEDED,
            f"A prompt has at least {least} tokens; the model takes {context_length}.",
            param=param,
        )
    prompt_max = sum(
        min(_tokens_max(size, model.prompt_tokens_per_kilobyte_max), context_length)
        for size in call.prompts
    )
    max_tokens = 0
    if has_completion:
        left = max(1, context_length - _longest(call.prompts, _ESTIMATE_BYTES_PER_TOKEN))
        max_tokens = min(call.asked_max_tokens or model.default_max_tokens, left)
    return Bounds(max_tokens, prompt_max, max_tokens * call.choice_count)


def _size(where: str, prompt: str | list[int], *, is_empty_allowed: bool) -> PromptSize:
    if isinstance(prompt, str) and (prompt or is_empty_allowed):
        return PromptSize(byte_count=len(prompt.encode()))
    if not prompt:
        raise wrong(where, f"{where} is empty.")
    return PromptSize(token_count=len(prompt))


def _longest(sizes: Sequence[PromptSize], bytes_per_token: int) -> int:
    return max(size.token_count + size.byte_count // bytes_per_token for size in sizes)


def _tokens_max(size: PromptSize, tokens_per_kilobyte_max: int) -> int:
    text_tokens = -(-size.byte_count * tokens_per_kilobyte_max // 1024)
    return size.token_count + text_tokens + _SPECIAL_TOKENS_MAX
