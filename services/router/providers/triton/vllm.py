"""The tensors of Triton's vLLM backend; pure.

Sampling parameters travel as JSON in one input, so every one that vLLM knows can be said.

Source: triton-inference-server/vllm_backend `src/model.py` and `src/utils/request.py`, read
2026-01.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from services.router.constraints import Constraint
from services.router.providers.constraint_fields import structured_outputs
from services.router.providers.openai.request import choice_count
from services.router.providers.port import Body, Call
from services.router.providers.refusals import unsupported
from services.router.providers.triton.contract import (
    ALWAYS_KNOWN,
    FIELDS,
    GOES_ON,
    Inputs,
    Part,
    check_refused,
    is_asked,
    no_images,
    number,
    unfit,
)
from services.router.providers.triton.errors import STRUCTURED
from services.router.providers.triton.logprobs import logprob_entries
from services.router.providers.triton.wire import (
    Ask,
    Outputs,
    Signature,
    Tensor,
    count_of,
    elements,
    malformed,
    tensor,
    text_of,
)

SAMPLING_KEYS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop",
    "min_tokens",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "bad_words",
    "skip_special_tokens",
)
"""Request fields that vLLM's `SamplingParams` know by the same name; an unknown one would make the
backend fail with a text that says nothing."""

REQUIRED_INPUTS: Final = frozenset(
    {"text_input", "stream", "sampling_parameters", "return_finish_reason"}
    | {"return_num_input_tokens", "return_num_output_tokens"}
)
"""Without these a model cannot be asked, or its answer not be billed."""

_FLAGS: Final = (
    "stream",
    "exclude_input_in_output",
    "return_finish_reason",
    "return_num_input_tokens",
    "return_num_output_tokens",
)
_IMAGE: Final = "image"
_LOGPROBS: Final = "return_logprobs"
_SERVED: Final = frozenset({*SAMPLING_KEYS, "n", "logprobs", "top_logprobs"})
_KNOWN: Final = ALWAYS_KNOWN | FIELDS | _SERVED


class VllmContract:
    """A model behind the vLLM backend, or one with its tensors."""

    is_counted = True

    def __init__(self, signature: Signature) -> None:
        """Take a model.

        Raises:
            ProviderError: INVALID_RESPONSE: one of `REQUIRED_INPUTS` is missing.
        """
        if missing := sorted(REQUIRED_INPUTS - signature.inputs.keys()):
            raise unfit(f"has no input `{missing[0]}`; Triton's vLLM tensors are needed")
        self._signature = signature

    def ask(self, call: Call, body: Body, prompt: str) -> Ask:
        """Return the inputs of a request; see `Contract.ask`."""
        check_refused(body, _SERVED)
        inputs = Inputs(self._signature)
        has_logprobs = is_asked(body, "logprobs")
        if has_logprobs and (call.operation or not inputs.has(_LOGPROBS)):
            raise unsupported("logprobs")
        sampling = sampling_parameters(
            body, max_tokens=call.max_tokens, adapter=call.adapter, constraint=call.constraint
        )
        inputs.put("text_input", prompt)
        inputs.put("sampling_parameters", sampling)
        for flag in _FLAGS:
            inputs.put(flag, True)  # noqa: FBT003 - the value of a tensor
        if has_logprobs:
            inputs.put(_LOGPROBS, True)  # noqa: FBT003 - the value of a tensor
        return inputs.ask()

    def check_takes_images(self) -> None:
        """Refuse images that the model has no input for; see `Contract.check_takes_images`."""
        if _IMAGE not in self._signature.inputs:
            raise no_images()

    def images(self, files: Sequence[str]) -> Tensor:
        """Return the input for images; it has an element for each."""
        return tensor(_IMAGE, self._signature.inputs[_IMAGE], files)

    def reader(self, _call: Call, body: Body) -> "VllmReader":
        """Return what reads the responses to a request."""
        return VllmReader(choice_count(body), top_count=_top_count(body))

    def ignored(self, _call: Call, body: Body) -> list[str]:
        """Return the request fields that change nothing here."""
        return sorted(body.keys() - _KNOWN)


class VllmReader:
    """Reads the responses to one request; each has deltas, and the end in its last one.

    Every response has an element for each choice; `top_count` is how many likely tokens were asked
    for beside each sampled one, -1 for no log probabilities at all.
    """

    def __init__(self, choice_count: int = 1, *, top_count: int = -1) -> None:
        self.choice_count = choice_count
        self._top_count = top_count

    def read(self, outputs: Outputs) -> Sequence[Part]:
        """Return what a response has; see `Reader.read`."""
        if self.choice_count == 1:
            parts: Sequence[Part] = (_part(outputs),)
        else:
            parts = [_part(each, index) for index, each in enumerate(self._split(outputs))]
        if self._top_count >= 0:
            self._put_logprobs(parts, outputs)
        return parts

    def end(self) -> Sequence[Part]:
        """Return nothing: the end was in a response, or the answer is not complete."""
        return ()

    def _split(self, outputs: Outputs) -> Iterator[Outputs]:
        """Yield what each choice has of a response."""
        count = self.choice_count
        names = ("text_output", "num_output_tokens", "finish_reason")
        found = {name: elements(outputs, name, count) for name in names}
        prompt = outputs.get("num_input_tokens")
        for index in range(count):
            own = {name: values[index] for name, values in found.items() if values is not None}
            yield {**own, "num_input_tokens": prompt}

    def _put_logprobs(self, parts: Sequence[Part], outputs: Outputs) -> None:
        found = elements(outputs, "logprobs", self.choice_count)
        if found is None:
            raise malformed()
        for part in parts:
            part.logprobs = tuple(logprob_entries(text_of(found[part.index]), self._top_count))


def _part(outputs: Outputs, index: int = 0) -> Part:
    """Return what a response has of one choice; every output has one element."""
    reason = text_of(outputs.get("finish_reason", ""))
    new, prompt = outputs.get("num_output_tokens"), outputs.get("num_input_tokens")
    return Part(
        text_of(outputs.get("text_output")),
        "" if reason in GOES_ON else reason,
        None if prompt is None else count_of(prompt),
        None if new is None else count_of(new),
        index,
    )


def sampling_parameters(
    body: Body, *, max_tokens: int, adapter: str = "", constraint: Constraint | None = None
) -> str:
    """Return vLLM's sampling parameters for an OpenAI request, as JSON.

    `max_tokens` is always there, because the backend's own default is 16. A constraint is itself
    JSON in a string.
    """
    fields = [f'"max_tokens":{max_tokens}']
    if (count := choice_count(body)) > 1:
        fields.append(f'"n":{count}')
    if (top_count := _top_count(body)) >= 0:
        fields.append(f'"logprobs":{top_count}')
    if adapter:
        fields.append(f'"lora_name":{msgspec.json.encode(adapter).decode()}')
    for name in SAMPLING_KEYS:
        raw = body.get(name)
        if raw is not None and (value := bytes(raw)) != b"null":
            fields.append(f'"{name}":{value.decode()}')
    if constraint is not None and (structured := structured_outputs(constraint)):
        inner = msgspec.json.encode(structured).decode()
        fields.append(f'"{STRUCTURED}":{msgspec.json.encode(inner).decode()}')
    return "{" + ",".join(fields) + "}"


def _top_count(body: Body) -> int:
    """Return how many likely tokens are wanted beside each one; -1 for no log probabilities."""
    if not is_asked(body, "logprobs"):
        return -1
    return int(number(body, "top_logprobs") or 0)
