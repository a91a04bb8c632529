"""The tensors of Triton's vLLM backend; pure.

Sampling parameters travel as JSON in one input, so every one that vLLM knows can be said.

Source: triton-inference-server/vllm_backend `src/model.py` and `src/utils/request.py`, read
2026-01.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from services.router.constraints import Constraint
from services.router.providers.constraint_fields import structured_outputs
from services.router.providers.port import Body, Call
from services.router.providers.triton_contract import (
    ALWAYS_KNOWN,
    FIELDS,
    GOES_ON,
    Inputs,
    Part,
    check_refused,
    no_images,
    unfit,
)
from services.router.providers.triton_errors import STRUCTURED
from services.router.providers.triton_wire import (
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
_SERVED: Final = frozenset(SAMPLING_KEYS)
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
        sampling = sampling_parameters(
            body, max_tokens=call.max_tokens, adapter=call.adapter, constraint=call.constraint
        )
        inputs = Inputs(self._signature)
        inputs.put("text_input", prompt)
        inputs.put("sampling_parameters", sampling)
        for flag in _FLAGS:
            inputs.put(flag, True)  # noqa: FBT003 - the value of a tensor
        return inputs.ask()

    def check_takes_images(self) -> None:
        """Refuse images that the model has no input for; see `Contract.check_takes_images`."""
        if _IMAGE not in self._signature.inputs:
            raise no_images()

    def images(self, files: Sequence[str]) -> Tensor:
        """Return the input for images; it has an element for each."""
        return tensor(_IMAGE, self._signature.inputs[_IMAGE], files)

    def reader(self, _call: Call, _body: Body) -> "VllmReader":
        """Return what reads the responses to a request."""
        return VllmReader()

    def ignored(self, body: Body) -> list[str]:
        """Return the request fields that change nothing here."""
        return sorted(body.keys() - _KNOWN)


class VllmReader:
    """Reads the responses to one request; each has deltas, and the end in its last one."""

    def read(self, outputs: Outputs) -> Sequence[Part]:
        """Return what a response has; see `Reader.read`."""
        texts = elements(outputs, "text_output", 1)
        if texts is None:
            raise malformed()
        counts = elements(outputs, "num_output_tokens", 1)
        reasons = elements(outputs, "finish_reason", 1)
        prompt = elements(outputs, "num_input_tokens", 1)
        reason = text_of(reasons[0]) if reasons else ""
        part = Part(
            text=text_of(texts[0]),
            finish_reason="" if reason in GOES_ON else reason,
            num_input_tokens=count_of(prompt[0]) if prompt else None,
            num_output_tokens=count_of(counts[0]) if counts else None,
        )
        return (part,)

    def end(self) -> Sequence[Part]:
        """Return nothing: the end was in a response, or the answer is not complete."""
        return ()


def sampling_parameters(
    body: Body, *, max_tokens: int, adapter: str = "", constraint: Constraint | None = None
) -> str:
    """Return vLLM's sampling parameters for an OpenAI request, as JSON.

    `max_tokens` is always there, because the backend's own default is 16. A constraint is itself
    JSON in a string.
    """
    fields = [f'"max_tokens":{max_tokens}']
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
