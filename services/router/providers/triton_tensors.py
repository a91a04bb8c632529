"""The tensors of Triton's vLLM backend; pure.

Turns an OpenAI request into named inputs, reads what comes back, and says what Triton's error
texts mean. Which bytes carry them (gRPC or HTTP) is the transports' business.

Source: triton-inference-server/vllm_backend `src/model.py` and `src/utils/request.py`; KServe v2
`grpc_service.proto` (element forms of `raw_input_contents`), read 2026-01.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from services.router.constraints import CONSTRAINTS, Constraint
from services.router.providers.constraint_fields import structured_outputs
from services.router.providers.port import Body, Failure, ProviderError

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

STRUCTURED: Final = "structured_outputs"
IMAGE_INPUT: Final = "image"
"""The optional input for images."""

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
_EMPTY: Final = frozenset({b"null", b"[]", b"{}", b"false", b'""'})
_MEANS_NOTHING: Final[dict[str, frozenset[bytes]]] = {
    "n": frozenset({b"1", b"1.0"}),
    "best_of": frozenset({b"1", b"1.0"}),
    "tool_choice": frozenset({b'"none"', b'"auto"'}),
    "function_call": frozenset({b'"none"', b'"auto"'}),
    "modalities": frozenset({b'["text"]'}),
    "top_logprobs": frozenset({b"0"}),
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
    ),
    frozenset[bytes](),
)
"""Fields that change the answer and that this contract cannot honour yet, with the values that ask
for nothing."""

_KNOWN: Final = (
    frozenset({"model", "messages", "stream", "stream_options", "timeout_ms"})
    | frozenset({"max_tokens", "max_completion_tokens"})
    | frozenset({"chat_template", "chat_template_kwargs"})
    | frozenset(SAMPLING_KEYS)
    | CONSTRAINTS
    | frozenset(_MEANS_NOTHING)
)


class Part(msgspec.Struct, rename={"text": "text_output"}):
    """What one response of the model holds; the JSON form is an event of `generate_stream`.

    `text` and `num_output_tokens` are what is new, `num_input_tokens` is the total every time.
    `finish_reason` is the word "None" until the end.
    """

    text: str = ""
    finish_reason: str = ""
    num_input_tokens: int | None = None
    num_output_tokens: int | None = None
    error: str | None = None


class Ask(msgspec.Struct):
    """One request for text: the prompt, vLLM's sampling parameters as JSON, and flags to raise.

    `images` are files as base64, in the order that the prompt speaks of them. Or one for a vector:
    `embedding_request`, as JSON, takes the place of both texts.
    """

    text_input: str
    sampling_parameters: str
    flags: tuple[str, ...]
    embedding_request: str = ""
    images: tuple[str, ...] = ()

    def texts(self) -> tuple[tuple[str, str], ...]:
        """Return the inputs that are texts."""
        if self.embedding_request:
            return (("embedding_request", self.embedding_request),)
        return (
            ("text_input", self.text_input),
            ("sampling_parameters", self.sampling_parameters),
        )


def check_inputs(names: Iterable[str]) -> frozenset[str]:
    """Return the inputs that a model has.

    Raises:
        ProviderError: INVALID_RESPONSE: one of `REQUIRED_INPUTS` is missing.
    """
    known = frozenset(names)
    if missing := sorted(REQUIRED_INPUTS - known):
        raise ProviderError(
            Failure.INVALID_RESPONSE,
            f"The model has no input `{missing[0]}`; Triton's vLLM tensors are needed.",
        )
    return known


def check_takes_images(inputs: frozenset[str]) -> None:
    """Refuse images that the model has no input for.

    Raises:
        ProviderError: UNSUPPORTED, with `param` messages.
    """
    if IMAGE_INPUT not in inputs:
        raise ProviderError(
            Failure.UNSUPPORTED,
            "Images are not supported by this deployment.",
            status=400,
            param="messages",
        )


def sampling_parameters(
    body: Body, *, max_tokens: int, adapter: str = "", constraint: Constraint | None = None
) -> str:
    """Return vLLM's sampling parameters for an OpenAI request, as JSON.

    `max_tokens` is always there, because the backend's own default is 16. A constraint is itself
    JSON in a string.

    Raises:
        ProviderError: UNSUPPORTED: a field asks for something that this contract cannot do.
    """
    for name, harmless in _MEANS_NOTHING.items():
        raw = body.get(name)
        if raw is not None and bytes(raw) not in _EMPTY and bytes(raw) not in harmless:
            raise _refused(name)
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


def _refused(name: str) -> ProviderError:
    return ProviderError(
        Failure.UNSUPPORTED, f"{name} is not supported by this deployment.", status=400, param=name
    )


def ignored_fields(body: Body) -> list[str]:
    """Return the fields that change nothing here, for the caller to know."""
    return sorted(body.keys() - _KNOWN)


def ask(prompt: str, sampling: str, inputs: frozenset[str]) -> Ask:
    """Return the request; a flag is raised only if the model has the input."""
    return Ask(prompt, sampling, tuple(flag for flag in _FLAGS if flag in inputs))


def raw_inputs(request: Ask) -> list[tuple[str, str, bytes]]:
    """Return name, datatype and content of each input tensor.

    BYTES is a little-endian uint32 length and the UTF-8 text for each element, BOOL one byte. Every
    shape is [1], but that of `IMAGE_INPUT`: it has an element for each image.
    """
    tensors = [(name, "BYTES", _bytes_element(text)) for name, text in request.texts()]
    tensors.extend((flag, "BOOL", b"\x01") for flag in request.flags)
    if request.images:
        tensors.append((IMAGE_INPUT, "BYTES", b"".join(map(_bytes_element, request.images))))
    return tensors


def _bytes_element(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def json_inputs(request: Ask) -> bytes:
    """Return the same request as the body of `generate_stream`."""
    fields: dict[str, str | bool | tuple[str, ...]] = dict(request.texts())
    fields.update(dict.fromkeys(request.flags, True))
    if request.images:
        fields[IMAGE_INPUT] = request.images
    return msgspec.json.encode(fields)


def read_part(layout: Iterable[tuple[str, str]], contents: Sequence[bytes]) -> Part | None:
    """Return what one response holds; None for an empty final response.

    Args:
        layout: Name and datatype of each output; all are scalars of shape [], [1] or [1,1].
        contents: Their `raw_output_contents`, in the same order.

    Raises:
        ProviderError: INVALID_RESPONSE: a tensor is not what the contract says.
    """
    if not contents:
        return None
    part = Part()
    try:
        for (name, datatype), raw in zip(layout, contents, strict=True):
            if name == "text_output":
                part.text = _text(datatype, raw)
            elif name == "num_output_tokens":
                part.num_output_tokens = _integer(datatype, raw)
            elif name == "num_input_tokens":
                part.num_input_tokens = _integer(datatype, raw)
            elif name == "finish_reason":
                part.finish_reason = _text(datatype, raw)
    except ValueError as error:
        raise _malformed() from error
    return part


def _text(datatype: str, raw: bytes) -> str:
    if datatype != "BYTES" or int.from_bytes(raw[:4], "little") != len(raw) - 4:
        raise ValueError("not one BYTES element")
    return raw[4:].decode(errors="replace")


_INTEGERS: Final = {"UINT32": (4, False), "INT32": (4, True), "BOOL": (1, False)}


def _integer(datatype: str, raw: bytes) -> int:
    size, is_signed = _INTEGERS.get(datatype, (0, False))
    value = int.from_bytes(raw, "little", signed=is_signed)
    if len(raw) != size or size == 0 or value < 0:
        raise ValueError("not one count")
    return value


_PART: Final = msgspec.json.Decoder(Part)


def read_event(data: bytes) -> Part:
    """Return what one event of `generate_stream` holds; its `error` is set for a failure.

    Raises:
        ProviderError: INVALID_RESPONSE: it is not what the contract says.
    """
    try:
        return _PART.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed() from error


def _malformed() -> ProviderError:
    return ProviderError(
        Failure.INVALID_RESPONSE, "The model's answer does not have the expected tensors."
    )


_TOO_LONG: Final = re.compile(
    r"maximum model length|maximum context length|max_model_len|max_seq_len"
    r"|longer than the maximum|prompt has \d+ tokens, the limit is"
)
_TEXTS: Final = (
    (
        re.compile(
            r"not (at )?ready|unhealthy|unloading|unavailable|shutting down|queue size|enginedead"
            r"|engine (core )?(is |encountered|process)|out of memory|cuda error"
        ),
        Failure.UNAVAILABLE,
    ),
    (re.compile(r"is not found|unknown model"), Failure.NOT_FOUND),
    (_TOO_LONG, Failure.CONTEXT_LENGTH),
    (re.compile(r"cancel"), Failure.INCOMPLETE),
    (re.compile(r"unexpected inference input|expected \d+ inputs?"), Failure.INVALID_RESPONSE),
)
_BAD_SAMPLING: Final = re.compile(
    r"lora_name|sampling param|not a valid value|must be|out of range|got an unexpected keyword"
    r"|expected `|cannot be|could not convert"
)
_BAD_CONSTRAINT: Final = re.compile(
    r"into a grammar|invalid (json )?grammar|grammar specification|structural tag"
    r"|json schema contains|features not supported by|structured[_ ]outputs?"
)
"""What vLLM's grammar compilers say of a constraint that they cannot keep to."""

_MESSAGES: Final = {
    Failure.NOT_FOUND: ("The model is not loaded on this Triton server.", 404),
    Failure.UNAVAILABLE: ("The model is not ready on this Triton server.", 503),
    Failure.CONTEXT_LENGTH: ("The prompt is longer than the model's context.", 400),
    Failure.INCOMPLETE: ("The Triton server broke off.", 0),
    Failure.INVALID_RESPONSE: ("The Triton server failed to run the model.", 0),
}


def error_of(text: str) -> ProviderError:
    """Return what an error text of Triton or of its backend means; the text itself stays inside.

    Triton gives no code with an error, so the words have to do. What nobody knows counts as the
    server's fault, because then another deployment is tried.
    """
    lower = text.lower()
    for pattern, failure in _TEXTS:
        if pattern.search(lower):
            message, status = _MESSAGES[failure]
            return ProviderError(failure, message, status=status)
    is_constraint = bool(_BAD_CONSTRAINT.search(lower))
    if is_constraint or _BAD_SAMPLING.search(lower):
        words = {STRUCTURED} if is_constraint else set(re.findall(r"[a-z_]+", lower))
        names = ("max_tokens", STRUCTURED, *SAMPLING_KEYS)
        named = next((name for name in names if name in words), "")
        what = f"Parameter `{named}`" if named else "A sampling parameter"
        return ProviderError(
            Failure.REJECTED, f"{what} was refused by the model.", status=400, param=named
        )
    message, status = _MESSAGES[Failure.INVALID_RESPONSE]
    return ProviderError(Failure.INVALID_RESPONSE, message, status=status)
