"""What a refusal of the Messages API means, without repeating its text; pure.

Nothing is told apart by a message's wording unless there is no other sign: an empty account and a
prompt that is too long are both plain `invalid_request_error`. Source: Anthropic API reference,
`Errors`; the error types of anthropic-sdk-python 2.14; issues that quote them (read 2026-11).
"""

import re
from typing import Any, Final, NamedTuple

import msgspec

from services.router.providers.openai.errors import JUNK, error_of_status, retry_after_s
from services.router.providers.port import Failure, ProviderError

_FAILURES: Final = {
    "invalid_request_error": Failure.REJECTED,
    "request_too_large": Failure.REJECTED,
    "authentication_error": Failure.CREDENTIALS,
    "permission_error": Failure.CREDENTIALS,
    "billing_error": Failure.CREDENTIALS,
    "not_found_error": Failure.NOT_FOUND,
    "rate_limit_error": Failure.RATE_LIMITED,
    "timeout_error": Failure.UNAVAILABLE,
    "api_error": Failure.UNAVAILABLE,
    "overloaded_error": Failure.UNAVAILABLE,
}
_SENTENCES: Final = {
    Failure.CREDENTIALS: "The upstream did not accept the gateway's account",
    Failure.NOT_FOUND: "The upstream does not know the model or the path",
    Failure.UNAVAILABLE: "The upstream is unavailable",
    Failure.RATE_LIMITED: "The upstream limits the rate of requests",
    Failure.REJECTED: "The upstream refused the request",
}
_OF_CALLER: Final = frozenset({"invalid_request_error", "request_too_large"})
_ACCOUNT_TEXT: Final = re.compile(
    r"credit balance|usage limits|spend limit|organization has been disabled|purchase credits",
    re.IGNORECASE,
)
_ACCOUNT_CODE: Final = re.compile(r"billing|billable|spend_limit|on_hold|cmek")
_CONTEXT_TEXT: Final = re.compile(
    r"prompt is too long|exceeds? (?:the )?context (?:limit|window)", re.IGNORECASE
)
_POLICY_TEXT: Final = re.compile(r"content filtering policy", re.IGNORECASE)
_CONTEXT_TOKENS: Final = re.compile(r"> (\d{1,9})\b")
_FIELD: Final = re.compile(r"[a-z_]{1,40}(?=[.:])")
_PARAMS: Final = {
    "max_tokens": "max_tokens",
    "messages": "messages",
    "metadata": "user",
    "output_config": "response_format",
    "stop_sequences": "stop",
    "system": "messages",
    "temperature": "temperature",
    "thinking": "reasoning_effort",
    "tool_choice": "tool_choice",
    "tools": "tools",
    "top_k": "top_k",
    "top_p": "top_p",
}
"""What the field that a message begins with is called in a chat completion."""


class _Detail(NamedTuple):
    kind: str = ""
    code: str = ""
    text: str = ""


def error_of_answer(
    status: int, body: bytes, *, retry_after: bytes = b"", now_unix_s: float = 0.0
) -> ProviderError:
    """Return what an answer that is not 200 means.

    Args:
        status: HTTP status.
        body: What came of the answer's body; may be empty or junk.
        retry_after: The header of that name; empty when absent.
        now_unix_s: Unix time, for a date in that header.
    """
    detail = _detail(body)
    if detail.kind not in _FAILURES:
        return error_of_status(status, b"", retry_after=retry_after, now_unix_s=now_unix_s)
    wait_s = retry_after_s(retry_after, now_unix_s)
    telling = detail.text if detail.kind in _OF_CALLER else ""
    if _CONTEXT_TEXT.search(telling):
        return ProviderError(Failure.CONTEXT_LENGTH, _too_long(telling), status=status)
    if _POLICY_TEXT.search(telling):
        message = "The upstream refused the content by its policy."
        return ProviderError(Failure.CONTENT_POLICY, message, status=status)
    is_account = _ACCOUNT_TEXT.search(telling)
    if is_account or _ACCOUNT_CODE.search(detail.code):
        failure = Failure.CREDENTIALS
    else:
        failure = _FAILURES[detail.kind]
    param = _param(detail.text) if failure is Failure.REJECTED else ""
    facts = ", ".join(filter(None, (f"HTTP {status}", detail.kind, param and f"param {param}")))
    return ProviderError(
        failure,
        f"{_SENTENCES[failure]} ({facts}).",
        status=status,
        retry_after_s=wait_s,
        param=param,
    )


def error_in_answer(body: bytes) -> ProviderError:
    """Return what an error in an answer of status 200 means."""
    if _detail(body).kind not in _FAILURES:
        return ProviderError(Failure.UNAVAILABLE, "The upstream is unavailable.", status=200)
    return error_of_answer(200, body)


def _detail(body: bytes) -> _Detail:
    try:
        found: Any = msgspec.json.decode(body)
    except JUNK:
        return _Detail()
    error = found.get("error") if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return _Detail()
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else ""
    return _Detail(
        *(
            each if isinstance(each, str) else ""
            for each in (error.get("type"), code, error.get("message"))
        )
    )


def _param(text: str) -> str:
    """Return the field at fault, which many messages begin with."""
    found = _FIELD.match(text)
    return _PARAMS.get(found[0], "") if found else ""


def _too_long(text: str) -> str:
    tokens = _CONTEXT_TOKENS.search(text)
    if tokens:
        return f"The request is longer than the model's {tokens[1]} tokens of context."
    return "The request is longer than the model's context."
