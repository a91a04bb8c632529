"""The tensors of TensorRT-LLM behind Triton: its older pipeline and its newer LLM API; pure.

The pipeline (`tensorrt_llm_bls`, `ensemble`) has a batch dimension, counts tokens, never says why
an answer ended and leaves the stop word in the text. Whether its text comes in pieces is in its
configuration, `accumulate_tokens`. The LLM API tells the whole text every time and why it ended,
and counts nothing. A model that may give only one response is asked for its whole answer.

Both choose the likeliest token unless something else is asked, so `top_p` 1 is said where the
request leaves it open; temperature 0 is said as one candidate, because 0 itself was long refused.

Source: NVIDIA/TensorRT-LLM `triton_backend/all_models/inflight_batcher_llm/tensorrt_llm_bls` and
`llmapi/tensorrt_llm`, configurations and `model.py`, read 2026-11.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

from services.router.constraints import JSON_KINDS, Constraint
from services.router.providers.constraint_fields import trtllm_guide
from services.router.providers.port import Body, Call
from services.router.providers.refusals import unsupported
from services.router.providers.triton.contract import (
    ALWAYS_KNOWN,
    FIELDS,
    Inputs,
    LoraSource,
    check_refused,
    is_asked,
    no_images,
    number,
    texts,
    unfit,
)
from services.router.providers.triton.reader import OutputNames, PlainReader
from services.router.providers.triton.stops import StopCutter
from services.router.providers.triton.wire import Ask, Signature, Tensor

_TRUE_WORDS: Final = frozenset({"true", "yes", "1", "t"})
_WHITESPACE: Final = "guided_whitespace_pattern"
NO_ADAPTERS: Final[Mapping[str, LoraSource]] = MappingProxyType({})
_SAMPLING: Final = ("temperature", "top_p", "top_k")


class _TrtLlmContract(ABC):
    """What both have in common: names of inputs by field, and what is refused."""

    FIELD_INPUTS: ClassVar[Mapping[str, str]] = {}
    REQUIRED: ClassVar[frozenset[str]] = frozenset()
    PREFIX: ClassVar[str] = ""
    STREAM: ClassVar[str] = ""
    is_counted = False

    def __init__(self, signature: Signature, adapters: Mapping[str, LoraSource]) -> None:
        """Take a model; `adapters` says where those that callers may name are.

        Raises:
            ProviderError: INVALID_RESPONSE: it lacks an input that is needed.
        """
        self._adapters = adapters
        if missing := sorted(self.REQUIRED - signature.inputs.keys()):
            raise unfit(f"has no input `{missing[0]}`; TensorRT-LLM's tensors are needed")
        self._signature = signature
        self._served = frozenset({*self.FIELD_INPUTS, *_SAMPLING, "stop"})

    def check_takes_images(self) -> None:
        """Refuse images; see `Contract.check_takes_images`."""
        raise no_images()

    def images(self, _files: Sequence[str]) -> Tensor:
        """Refuse images."""
        raise no_images()

    def ignored(self, call: Call, body: Body) -> list[str]:
        """Return the request fields that change nothing here."""
        known = ALWAYS_KNOWN | FIELDS
        if f"{self.PREFIX}seed" in self._signature.inputs:
            known |= {"seed"}
        constraint = call.constraint
        if constraint is not None and constraint.whitespace_pattern:
            # Of other kinds of constraints it is told for every engine.
            known -= {_WHITESPACE} if constraint.kind in JSON_KINDS else frozenset[str]()
        return sorted(body.keys() - known)

    @abstractmethod
    def _put_adapter(self, inputs: Inputs, name: str) -> None:
        """Say which adapter is wanted.

        Raises:
            ProviderError: UNSUPPORTED: the model takes none, or nobody said where this one is.
        """

    def _begin(self, call: Call, body: Body, prompt: str) -> Inputs:
        """Return inputs with the prompt and what decides the next token."""
        check_refused(body, self._served)
        inputs = Inputs(self._signature)
        if call.adapter:
            self._put_adapter(inputs, call.adapter)
        if call.constraint is not None:
            _put_constraint(inputs, call.constraint)
        inputs.put("text_input", prompt)
        inputs.put(f"{self.PREFIX}max_tokens", call.max_tokens)
        self._put_sampling(inputs, body)
        for param, name in self.FIELD_INPUTS.items():
            inputs.put_field(body, param, name)
        if inputs.has(f"{self.PREFIX}seed"):
            inputs.put_field(body, "seed", f"{self.PREFIX}seed")
        return inputs

    def _put_sampling(self, inputs: Inputs, body: Body) -> None:
        if number(body, "temperature") == 0 and inputs.has(f"{self.PREFIX}top_k"):
            inputs.put(f"{self.PREFIX}top_k", 1)
            return
        for param in _SAMPLING:
            # Every candidate is 0 or -1 elsewhere, and neither is one here.
            if param != "top_k" or is_asked(body, param):
                inputs.put_field(body, param, f"{self.PREFIX}{param}")
        if not (is_asked(body, "top_p", of=True) or is_asked(body, "top_k")):
            inputs.put(f"{self.PREFIX}top_p", 1.0)


class TrtLlmPipelineContract(_TrtLlmContract):
    """A model of the `inflight_batcher_llm` family, by its outermost part."""

    FIELD_INPUTS: ClassVar = {
        "min_tokens": "min_tokens",
        "presence_penalty": "presence_penalty",
        "frequency_penalty": "frequency_penalty",
        "repetition_penalty": "repetition_penalty",
        "bad_words": "bad_words",
    }
    REQUIRED = frozenset(
        {"text_input", "max_tokens", "stream"}
        | {"return_num_input_tokens", "return_num_output_tokens"}
    )
    STREAM = "stream"
    _FLAGS: Final = (
        "exclude_input_in_output",
        "return_num_input_tokens",
        "return_num_output_tokens",
    )
    is_counted = True

    def __init__(
        self,
        signature: Signature,
        *,
        is_whole: bool | None = None,
        adapters: Mapping[str, LoraSource] = NO_ADAPTERS,
    ) -> None:
        """Take a model; `is_whole` says whether its text is repeated, None that it may tell."""
        super().__init__(signature, adapters)
        self._served |= {"include_stop_str_in_output"}
        if is_whole is None:
            is_whole = (
                signature.settings.parameters.get("accumulate_tokens", "").lower() in _TRUE_WORDS
            )
        self._names = OutputNames(
            text="text_output",
            prompt_tokens="num_input_tokens",
            completion_tokens="num_output_tokens",
            is_whole=is_whole,
        )

    def ask(self, call: Call, body: Body, prompt: str) -> Ask:
        """Return the inputs of a request; see `Contract.ask`."""
        inputs = self._begin(call, body, prompt)
        for flag in self._FLAGS:
            inputs.put(flag, True)  # noqa: FBT003 - the value of a tensor
        if self._signature.settings.is_decoupled:
            inputs.put(self.STREAM, True)  # noqa: FBT003 - the value of a tensor
        if stops := texts(body, "stop"):
            # A model that cannot be told is stopped by closing the call.
            inputs.put("stop_words", *stops)
        return inputs.ask()

    def reader(self, call: Call, body: Body) -> PlainReader:
        """Return what reads the responses to a request."""
        is_kept = is_asked(body, "include_stop_str_in_output")
        cutter = StopCutter(texts(body, "stop"), is_kept=is_kept)
        return PlainReader(self._names, max_tokens=call.max_tokens, cutter=cutter)

    def _put_adapter(self, inputs: Inputs, name: str) -> None:
        source = self._adapters.get(name)
        if source is None or source.task_id < 0 or not inputs.put("lora_task_id", source.task_id):
            raise unsupported("model")


class TrtLlmApiContract(_TrtLlmContract):
    """A model of the LLM API."""

    PREFIX = "sampling_param_"
    FIELD_INPUTS: ClassVar = {
        "presence_penalty": "sampling_param_presence_penalty",
        "frequency_penalty": "sampling_param_frequency_penalty",
    }
    REQUIRED = frozenset(
        {"text_input", "streaming", "sampling_param_max_tokens", "return_finish_reason"}
    )
    STREAM = "streaming"
    _FLAGS: Final = (
        "sampling_param_exclude_input_from_output",
        "return_finish_reason",
    )

    def __init__(
        self,
        signature: Signature,
        *,
        is_whole: bool | None = None,
        adapters: Mapping[str, LoraSource] = NO_ADAPTERS,
    ) -> None:
        """Take a model; `is_whole` says whether its text is repeated, None that it is."""
        super().__init__(signature, adapters)
        self._names = OutputNames(
            text="text_output", finish_reason="finish_reason", is_whole=is_whole is not False
        )

    def ask(self, call: Call, body: Body, prompt: str) -> Ask:
        """Return the inputs of a request; see `Contract.ask`."""
        inputs = self._begin(call, body, prompt)
        for flag in self._FLAGS:
            inputs.put(flag, True)  # noqa: FBT003 - the value of a tensor
        if self._signature.settings.is_decoupled:
            inputs.put(self.STREAM, True)  # noqa: FBT003 - the value of a tensor
        if stops := texts(body, "stop"):
            inputs.put("sampling_param_stop", *stops)
        return inputs.ask()

    def reader(self, call: Call, body: Body) -> PlainReader:
        """Return what reads the responses to a request."""
        cutter = StopCutter(texts(body, "stop"))
        return PlainReader(self._names, max_tokens=call.max_tokens, cutter=cutter)

    def _put_adapter(self, inputs: Inputs, name: str) -> None:
        source = self._adapters.get(name)
        if source is None or source.task_id < 0 or not source.path or not inputs.has("lora_path"):
            raise unsupported("model")
        inputs.put("lora_id", source.task_id)
        inputs.put("lora_name", name)
        inputs.put("lora_path", source.path)


def _put_constraint(inputs: Inputs, constraint: Constraint) -> None:
    kind, guide = trtllm_guide(constraint)
    if not kind:
        return
    if not inputs.put("guided_decoding_guide_type", kind):
        raise unsupported(constraint.param)
    if guide and not inputs.put("guided_decoding_guide", guide):
        raise unsupported(constraint.param)
