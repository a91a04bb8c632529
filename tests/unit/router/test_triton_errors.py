"""What the error texts of Triton and of its backends mean."""

import pytest

from services.router.providers.port import Failure
from services.router.providers.triton.errors import error_of


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("Request for unknown model: 'x' is not found", Failure.NOT_FOUND),
        ("Request for unknown model: 'x' version 1 is not at ready state", Failure.UNAVAILABLE),
        ("Model is unavailable due to unhealthy vLLM engine", Failure.UNAVAILABLE),
        ("Model is unloading", Failure.UNAVAILABLE),
        ("Error generating stream: EngineDeadError", Failure.UNAVAILABLE),
        (
            "Error generating stream: the prompt has 15001 tokens, the limit is 4095",
            Failure.CONTEXT_LENGTH,
        ),
        (
            "Error generating stream: The decoder prompt (length 9) is longer than the maximum "
            "model length of 8.",
            Failure.CONTEXT_LENGTH,
        ),
        ("Request was cancelled", Failure.INCOMPLETE),
        ("unexpected inference input 'x' for model 'y'", Failure.INVALID_RESPONSE),
        ("Error generating stream: not a valid value: top_p", Failure.REJECTED),
        ("Failed to transform json schema into a grammar: secret", Failure.REJECTED),
        ("Invalid grammar specification.", Failure.REJECTED),
        (
            "Error generating stream: 'NoneType' object has no attribute 'lora_name'",
            Failure.REJECTED,
        ),
        ("Traceback (most recent call last): secret", Failure.INVALID_RESPONSE),
        ("", Failure.INVALID_RESPONSE),
    ],
)
def test_error_text_is_classified_and_never_repeated(text: str, failure: Failure) -> None:
    error = error_of(text)

    assert error.failure is failure
    assert "secret" not in error.message
    assert text == "" or text not in error.message


def test_refused_parameter_is_named_when_the_text_names_it() -> None:
    error = error_of("Error generating stream: top_p must be in (0, 1], got 7.0")

    assert error.message == "Parameter `top_p` was refused by the model."


@pytest.mark.parametrize(
    ("last", "failure"),
    [
        ("ValueError: max_tokens must be a single value > 0", Failure.REJECTED),
        ("RuntimeError: the prompt has 9 tokens, the limit is 8", Failure.CONTEXT_LENGTH),
        ("RuntimeError: secret", Failure.INVALID_RESPONSE),
    ],
)
def test_of_a_traceback_only_the_last_line_counts(last: str, failure: Failure) -> None:
    text = f"""Traceback (most recent call last):
  File "model.py", line 9, in execute
    raise Cancelled("this must be out of range: unhealthy")
{last}
"""

    assert failure is error_of(text).failure
