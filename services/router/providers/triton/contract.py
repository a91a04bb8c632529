"""What the contracts of language models on Triton have in common; pure.

A contract is a set of tensors with a meaning: it turns an OpenAI request into inputs, of which only
those are sent that the model has, and reads responses into parts. What a model cannot be told is
refused by the name of the request's field, or left aside where it is best effort.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from services.router.constraints import CONSTRAINTS
from services.router.providers.openai.errors import JUNK
from services.router.providers.port import Body, Call, Failure, ProviderError
from services.router.providers.refusals import rejected, unsupported
from services.router.providers.triton.wire import Ask, Outputs, Signature, Tensor, Value, tensor

GOES_ON: Final = frozenset({"", "None", "null"})
"""What a finish reason is before the end."""

ALWAYS_KNOWN: Final = (
    frozenset({"model", "messages", "stream", "stream_options", "timeout_ms"})
    | frozenset({"max_tokens", "max_completion_tokens"})
    | frozenset({"chat_template", "chat_template_kwargs"})
    | CONSTRAINTS
)
"""Request fields that are honoured, refused or told of in the same way by every contract."""

_TRUE: Final = b"true"
_UNSET: Final = frozenset({b"null"})
_EMPTY: Final = frozenset({b"null", b"[]", b"{}", b"false", b'""'})
_MEANS_NOTHING: Final[dict[str, frozenset[bytes]]] = {
    "n": frozenset({b"1", b"1.0"}),
    "best_of": frozenset({b"1", b"1.0"}),
    "tool_choice": frozenset({b'"none"', b'"auto"'}),
    "function_call": frozenset({b'"none"', b'"auto"'}),
    "modalities": frozenset({b'["text"]'}),
    "top_logprobs": frozenset({b"0"}),
    "presence_penalty": frozenset({b"0", b"0.0"}),
    "frequency_penalty": frozenset({b"0", b"0.0"}),
    "repetition_penalty": frozenset({b"1", b"1.0"}),
    "top_p": frozenset({b"1", b"1.0"}),
    "top_k": frozenset({b"0", b"-1"}),
    "min_p": frozenset({b"0", b"0.0"}),
    "min_tokens": frozenset({b"0"}),
    "skip_special_tokens": frozenset({_TRUE}),
} | dict.fromkeys(
    (
        "tools",
        "functions",
        "logprobs",
        "logit_bias",
        "audio",
        "prediction",
        "web_search_options",
        "mm_processor_kwargs",
        "structured_outputs",
        "suffix",
        "stop",
        "stop_token_ids",
        "include_stop_str_in_output",
        "ignore_eos",
        "bad_words",
        "temperature",
    ),
    frozenset[bytes](),
)
"""Fields that change the answer, with the values that ask for nothing."""

FIELDS: Final = frozenset(_MEANS_NOTHING)
_SEED_BITS: Final = {"UINT64": 64, "INT64": 63, "UINT32": 32, "INT32": 31}
_IMAGES: Final = "messages"


class Part(msgspec.Struct):
    """What one response has of one choice.

    `text` and `num_output_tokens` are what is new, `num_input_tokens` is the total every time; a
    count is None where the contract has none. `finish_reason` is empty until the end. `logprobs`
    are entries of OpenAI's form, as JSON.
    """

    text: str = ""
    finish_reason: str = ""
    num_input_tokens: int | None = None
    num_output_tokens: int | None = None
    index: int = 0
    logprobs: Sequence[bytes] = ()


class LoraSource(NamedTuple):
    """What a model needs to know of an adapter beyond its name; -1 and empty where it does not."""

    task_id: int = -1
    path: str = ""


class Reader(Protocol):
    """Reads the responses of one request, whose answer has `choice_count` choices."""

    @property
    def choice_count(self) -> int:
        """How many choices there are."""

    def read(self, outputs: Outputs) -> Sequence[Part]:
        """Return what a response has; nothing for one that only ends the call.

        Raises:
            ProviderError: INVALID_RESPONSE: it is not what the contract says.
        """

    def end(self) -> Sequence[Part]:
        """Return what the end of the call says."""


class Contract(Protocol):
    """How one model is asked and read.

    `is_counted` tells that it counts tokens.
    """

    is_counted: bool

    def ask(self, call: Call, body: Body, prompt: str) -> Ask:
        """Return the inputs of a request.

        Raises:
            ProviderError: UNSUPPORTED or REJECTED, with `param`.
        """

    def check_takes_images(self) -> None:
        """Refuse images that the model has no input for.

        Raises:
            ProviderError: UNSUPPORTED, with `param` messages.
        """

    def images(self, files: Sequence[str]) -> Tensor:
        """Return the input for images, which are base64."""

    def reader(self, call: Call, body: Body) -> Reader:
        """Return what reads the responses to a request."""

    def ignored(self, call: Call, body: Body) -> list[str]:
        """Return the request fields that change nothing here, for the caller to know."""


class Inputs:
    """The inputs of one request while they are gathered."""

    def __init__(self, signature: Signature) -> None:
        self._known = signature.inputs
        self._found: list[Tensor] = []

    def ask(self) -> Ask:
        """Return what was gathered."""
        return tuple(self._found)

    def has(self, name: str) -> bool:
        """Return whether the model has an input."""
        return name in self._known

    def put(self, name: str, *values: Value, param: str = "") -> bool:
        """Set an input; whether the model has it.

        Raises:
            ProviderError: REJECTED with `param`, if there is one, else INVALID_RESPONSE: the
                input is of a type that cannot say this.
        """
        if name not in self._known:
            return False
        try:
            self._found.append(tensor(name, self._known[name], values))
        except ValueError:
            if param:
                raise rejected(param) from None
            raise unfit(f"has an input `{name}` of an unexpected type") from None
        return True

    def put_field(self, body: Body, param: str, name: str) -> None:
        """Set an input from a field of the request, a value or a list of them.

        Raises:
            ProviderError: UNSUPPORTED: it asks for something and the model has no such input.
                REJECTED: it has a value that the input cannot say.
        """
        if not is_asked(body, param, of=name in self._known):
            return
        if name not in self._known:
            raise unsupported(param)
        found = decoded(body, param)
        values = found if isinstance(found, list) else [found]
        if param == "seed":
            values = [_seed(value, self._known[name].datatype) for value in values]
        if values:
            self.put(name, *values, param=param)


def _seed(value: Value, datatype: str) -> Value:
    """Return a seed that the type can hold: any number will do, as long as it is the same."""
    bits = _SEED_BITS.get(datatype)
    if bits is None or isinstance(value, bool) or not isinstance(value, int):
        return value
    whole: int = value % (1 << bits)
    return whole


def is_asked(body: Body, param: str, *, of: bool = False) -> bool:
    """Return whether a field asks for something; `of` a model that knows it any value does."""
    raw = body.get(param)
    if raw is None:
        return False
    value = bytes(raw)
    if of:
        return value != b"null"
    nothing = _MEANS_NOTHING.get(param, frozenset())
    return value not in nothing and value not in (_UNSET if _TRUE in nothing else _EMPTY)


def check_refused(body: Body, served: frozenset[str]) -> None:
    """Refuse every field that asks for something beyond what is served.

    Raises:
        ProviderError: UNSUPPORTED, with `param`.
    """
    for name in _MEANS_NOTHING:
        if name in body and name not in served and is_asked(body, name):
            raise unsupported(name)


def decoded(body: Body, param: str) -> Value | list[Value]:
    """Return the value of a field.

    Raises:
        ProviderError: REJECTED: it is no value and no list of values.
    """
    try:
        found: Value | list[Value] = _values(body[param])
    except JUNK:
        raise rejected(param) from None
    return found


_values: Final = msgspec.json.Decoder(
    str | bool | int | float | list[str | bool | int | float]
).decode


def texts(body: Body, param: str) -> tuple[str, ...]:
    """Return the texts of a field that is one or a list of them; empty ones mean nothing.

    Raises:
        ProviderError: REJECTED: it is neither.
    """
    if not is_asked(body, param):
        return ()
    found = decoded(body, param)
    values = found if isinstance(found, list) else [found]
    if not all(isinstance(value, str) for value in values):
        raise rejected(param)
    return tuple(str(value) for value in values if value)


def number(body: Body, param: str) -> float | None:
    """Return the number of a field, None when it has none.

    Raises:
        ProviderError: REJECTED: it is none.
    """
    if not is_asked(body, param, of=True):
        return None
    found = decoded(body, param)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise rejected(param)
    return found


def no_images() -> ProviderError:
    """Return the refusal of images."""
    return ProviderError(
        Failure.UNSUPPORTED,
        "Images are not supported by this deployment.",
        status=400,
        param=_IMAGES,
    )


def unfit(what: str) -> ProviderError:
    """Return the failure of a model that does not have the tensors of its contract."""
    return ProviderError(Failure.INVALID_RESPONSE, f"The model {what}.")
