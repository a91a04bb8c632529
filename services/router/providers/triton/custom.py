"""A language model on Triton whose tensors its owner has named; pure.

Types and ranks are the model's own. Why an answer ended and what it used are told by outputs, if
there are such; stop strings are cut here, so the model need not know them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.router.constraints import Kind
from services.router.providers.port import Body, Call
from services.router.providers.refusals import unsupported
from services.router.providers.triton.contract import (
    ALWAYS_KNOWN,
    FIELDS,
    Inputs,
    check_refused,
    is_asked,
    no_images,
    texts,
    unfit,
)
from services.router.providers.triton.reader import OutputNames, PlainReader
from services.router.providers.triton.stops import StopCutter
from services.router.providers.triton.wire import INTEGERS, Ask, Signature, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTensors:
    """What the tensors of a model are called; empty where it has none.

    `flags` are BOOL inputs that are raised in every request, `stream` among them if it has one.
    `parameters` are inputs by the request field that they take.
    """

    text: str
    max_tokens: str
    outputs: OutputNames
    flags: Sequence[str] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


class CustomContract:
    """One model with the tensors that its owner has named."""

    def __init__(self, signature: Signature, tensors: ChatTensors) -> None:
        """Take a model.

        Raises:
            ProviderError: INVALID_RESPONSE: it has not the tensors that were named.
        """
        self._signature = signature
        self._tensors = tensors
        outputs = tensors.outputs
        self.is_counted = bool(outputs.prompt_tokens and outputs.completion_tokens)
        self._served = frozenset({*tensors.parameters, "stop", "include_stop_str_in_output"})
        named = (tensors.text, tensors.max_tokens, *tensors.flags, *tensors.parameters.values())
        for name in named:
            if name not in signature.inputs:
                raise unfit(f"has no input `{name}`")
        for name in (outputs.text, *outputs[1:4]):
            if name and name not in signature.outputs:
                raise unfit(f"has no output `{name}`")
        self._check_type("input", tensors.text, {"BYTES"})
        self._check_type("input", tensors.max_tokens, INTEGERS)
        self._check_type("output", outputs.text, {"BYTES"})

    def ask(self, call: Call, body: Body, prompt: str) -> Ask:
        """Return the inputs of a request; see `Contract.ask`."""
        check_refused(body, self._served)
        if call.adapter:
            raise unsupported("model")
        if call.constraint is not None and call.constraint.kind is not Kind.FREE:
            raise unsupported(call.constraint.param)
        inputs = Inputs(self._signature)
        inputs.put(self._tensors.text, prompt)
        inputs.put(self._tensors.max_tokens, call.max_tokens)
        for flag in self._tensors.flags:
            inputs.put(flag, True)  # noqa: FBT003 - the value of a tensor
        for param, name in self._tensors.parameters.items():
            inputs.put_field(body, param, name)
        return inputs.ask()

    def check_takes_images(self) -> None:
        """Refuse images; see `Contract.check_takes_images`."""
        raise no_images()

    def images(self, _files: Sequence[str]) -> Tensor:
        """Refuse images."""
        raise no_images()

    def reader(self, call: Call, body: Body) -> PlainReader:
        """Return what reads the responses to a request."""
        is_kept = is_asked(body, "include_stop_str_in_output")
        cutter = StopCutter(texts(body, "stop"), is_kept=is_kept)
        return PlainReader(self._tensors.outputs, max_tokens=call.max_tokens, cutter=cutter)

    def ignored(self, _call: Call, body: Body) -> list[str]:
        """Return the request fields that change nothing here."""
        return sorted(body.keys() - ALWAYS_KNOWN - FIELDS - self._tensors.parameters.keys())

    def _check_type(self, side: str, name: str, wanted: set[str] | frozenset[str]) -> None:
        signature = self._signature
        tensors = signature.inputs if side == "input" else signature.outputs
        if tensors[name].datatype not in wanted:
            raise unfit(f"has an {side} `{name}` of an unexpected type")
