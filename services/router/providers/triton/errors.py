"""What the error texts of Triton and of its backends mean; pure.

Triton gives no code with an error, so the words have to do.

Source: triton-inference-server/server and vllm_backend `src/model.py`, NVIDIA/TensorRT-LLM
`triton_backend/all_models`, read 2026-01 and 2026-11.
"""

import re
from typing import Final

from services.router.providers.port import Failure, ProviderError

STRUCTURED: Final = "structured_outputs"
"""Where vLLM's sampling parameters have a constraint."""

_PARAMETERS: Final = frozenset(
    {"max_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "seed", "stop"}
    | {"frequency_penalty", "repetition_penalty", "min_tokens", "stop_token_ids", "bad_words"}
    | {"include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "n", "logprobs"}
)
"""Request fields that an error text may name by the same word."""

_TRACEBACK: Final = "Traceback (most recent call last)"
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
    r"|json schema contains|features not supported by|structured[_ ]outputs?|guided_?decoding"
)
"""What grammar compilers say of a constraint that they cannot keep to."""

_MESSAGES: Final = {
    Failure.NOT_FOUND: ("The model is not loaded on this Triton server.", 404),
    Failure.UNAVAILABLE: ("The model is not ready on this Triton server.", 503),
    Failure.CONTEXT_LENGTH: ("The prompt is longer than the model's context.", 400),
    Failure.INCOMPLETE: ("The Triton server broke off.", 0),
    Failure.INVALID_RESPONSE: ("The Triton server failed to run the model.", 0),
}


def error_of(text: str) -> ProviderError:
    """Return what an error text of Triton or of its backend means; the text itself stays inside.

    Of a traceback only the last line counts. What nobody knows counts as the server's fault,
    because then another deployment is tried.
    """
    if _TRACEBACK in text:
        text = text.rstrip().rpartition("\n")[2]
    lower = text.lower()
    for pattern, failure in _TEXTS:
        if pattern.search(lower):
            message, status = _MESSAGES[failure]
            return ProviderError(failure, message, status=status)
    is_constraint = bool(_BAD_CONSTRAINT.search(lower))
    if is_constraint or _BAD_SAMPLING.search(lower):
        words = re.findall(r"[a-z_]+", lower)
        named = next((word for word in words if word in _PARAMETERS), "")
        if is_constraint:
            named = STRUCTURED
        what = f"Parameter `{named}`" if named else "A sampling parameter"
        return ProviderError(
            Failure.REJECTED, f"{what} was refused by the model.", status=400, param=named
        )
    message, status = _MESSAGES[Failure.INVALID_RESPONSE]
    return ProviderError(Failure.INVALID_RESPONSE, message, status=status)
