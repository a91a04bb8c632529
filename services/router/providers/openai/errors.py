"""What an OpenAI-compatible upstream's refusal means, without repeating its text.

Pure. An upstream's message may quote the prompt or a key, so sentences are made here; only short
identifiers and the two numbers of a context error are taken over.
"""

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

from services.router.providers.port import Failure, ProviderError

RETRY_AFTER_MAX_S: Final = 3600.0

JUNK: Final = (ValueError, RecursionError)
"""What msgspec raises for bytes that are no JSON, no UTF-8 or nested too deep."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]]{0,39}")
_CONTEXT_TEXTS: Final = (
    re.compile(r"maximum context length (?:is|of) (\d{1,9}) tokens"),
    re.compile(r"maximum prompt length is (\d{1,9}) but"),
    re.compile(r"too large for model with (\d{1,9}) maximum context length"),
    re.compile(r"model maximum context length: (\d{1,9})"),
    re.compile(r"`?max_new_tokens`? must be <= (\d{1,9})"),
)
_ACCOUNT_TEXT: Final = re.compile(
    r"(?:incorrect|invalid) api key|insufficient (?:balance|credits|quota)|your account has"
    r"|your team .{1,80} has (?:either )?used all available credits"
    r"|you exceeded your current quota",
    re.IGNORECASE,
)
"""Beginnings of what is said to us about our account with a status that blames the request."""

_UNKNOWN_TEXT: Final = re.compile(
    r"Argument not supported on this model: ([A-Za-z_]{1,40})"
    r"|Model \S{1,99} does not support parameter ([A-Za-z_]{1,40})"
    r"|Extra inputs are not permitted, field: '([A-Za-z_]{1,40})"
)
"""Beginnings of what is said where a model does not know a parameter."""

_EXTRA: Final = "extra_forbidden"
_CAPITAL: Final = re.compile(r"([A-Z])")
_SECONDS: Final = re.compile(r"\d{1,9}(?:\.\d{1,9})?")

_CONTEXT_CODES: Final = frozenset(
    {"context_length_exceeded", "context_window_exceeded", "model_context_window_exceeded"}
)
_POLICY_CODES: Final = frozenset(
    {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}
)
_ACCOUNT_CODES: Final = frozenset(
    {
        "account_deactivated",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_too_low",
        "insufficient_credits",
        "insufficient_quota",
        "invalid_api_key",
    }
)
_STATUS_OF_KIND: Final = {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "insufficient_quota": 429,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "invalid_request_error": 400,
    "BadRequestError": 400,
    "not_found_error": 404,
    "NotFoundError": 404,
}
_REFUSING: Final = frozenset({400, 403, 413, 422})
_FAILURES: Final = {
    400: Failure.REJECTED,
    401: Failure.CREDENTIALS,
    402: Failure.CREDENTIALS,
    403: Failure.CREDENTIALS,
    404: Failure.NOT_FOUND,
    408: Failure.UNAVAILABLE,
    412: Failure.CREDENTIALS,
    413: Failure.REJECTED,
    422: Failure.REJECTED,
    425: Failure.UNAVAILABLE,
    429: Failure.RATE_LIMITED,
}
_ABOUT_A_FIELD: Final = (Failure.REJECTED, Failure.UNSUPPORTED)
_SENTENCES: Final = {
    Failure.CREDENTIALS: "The upstream did not accept the gateway's account",
    Failure.NOT_FOUND: "The upstream does not know the model or the path",
    Failure.UNAVAILABLE: "The upstream is unavailable",
    Failure.RATE_LIMITED: "The upstream limits the rate of requests",
    Failure.REJECTED: "The upstream refused the request",
    Failure.UNSUPPORTED: "The upstream does not know a parameter",
    Failure.INVALID_RESPONSE: "The upstream's answer makes no sense",
}


@dataclass(frozen=True, slots=True)
class _Detail:
    code: str = ""
    kind: str = ""
    param: str = ""
    status: int = 0
    context_tokens: str = ""
    is_account: bool = False
    is_flagged: bool = False
    unknown: str = ""


def error_of_status(
    status: int, body: bytes, *, retry_after: bytes, now_unix_s: float
) -> ProviderError:
    """Return what an answer that is not 200 means.

    Args:
        status: HTTP status.
        body: What came of the answer's body; may be empty or junk.
        retry_after: The header of that name; empty when absent.
        now_unix_s: Unix time, for a date in that header.
    """
    detail = _detail(body)
    wait_s = retry_after_s(retry_after, now_unix_s)
    return _error(status, detail, shown_status=status, wait_s=wait_s)


def error_in_answer(body: bytes) -> ProviderError:
    """Return what an error object inside an answer of status 200 means."""
    detail = _detail(body)
    status = detail.status or _STATUS_OF_KIND.get(detail.code, 0)
    status = status or _STATUS_OF_KIND.get(detail.kind, 500)
    return _error(status, detail, shown_status=200, wait_s=0.0)


def retry_after_s(value: bytes, now_unix_s: float) -> float:
    """Return how long a Retry-After header asks to wait, 0 when it does not say.

    Source: RFC 9110, section 10.2.3: seconds or an HTTP date.
    """
    text = value.decode("latin-1").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment.timestamp() - now_unix_s, 0.0), RETRY_AFTER_MAX_S)


def _error(status: int, detail: _Detail, *, shown_status: int, wait_s: float) -> ProviderError:
    if status in _REFUSING:
        if detail.code in _CONTEXT_CODES or detail.context_tokens:
            return ProviderError(
                Failure.CONTEXT_LENGTH, _context_sentence(detail), status=shown_status
            )
        if detail.is_flagged or detail.code in _POLICY_CODES or detail.kind in _POLICY_CODES:
            return ProviderError(
                Failure.CONTENT_POLICY,
                "The upstream refused the content by its policy.",
                status=shown_status,
            )
    failure = _failure(status)
    is_blamed = failure is Failure.REJECTED
    if status in _REFUSING and (detail.is_account or detail.code in _ACCOUNT_CODES):
        failure = Failure.CREDENTIALS
    elif is_blamed and detail.unknown:
        failure = Failure.UNSUPPORTED
    facts = [f"HTTP {status}"]
    if failure in _ABOUT_A_FIELD:
        facts += [f"{name} {value}" for name, value in _named(detail) if value]
    return ProviderError(
        failure,
        f"{_SENTENCES[failure]} ({', '.join(facts)}).",
        status=shown_status,
        retry_after_s=wait_s,
        param=(detail.unknown or detail.param) if failure in _ABOUT_A_FIELD else "",
    )


def _failure(status: int) -> Failure:
    if 500 <= status <= 599:
        return Failure.UNAVAILABLE
    return _FAILURES.get(status, Failure.INVALID_RESPONSE)


def _named(detail: _Detail) -> tuple[tuple[str, str], ...]:
    return (("code", detail.code), ("param", detail.unknown or detail.param))


def _context_sentence(detail: _Detail) -> str:
    if detail.context_tokens:
        return f"The request is longer than the model's {detail.context_tokens} tokens of context."
    return "The request is longer than the model's context."


def _detail(body: bytes) -> _Detail:
    """Read the shapes in use: an error object, bare, in an array, or spread over the body.

    Texts are looked at for their beginnings: further on they may quote the request.
    """
    try:
        found: Any = msgspec.json.decode(body)
    except JUNK:
        return _Detail()
    if isinstance(found, list) and found:
        found = found[0]
    if not isinstance(found, dict):
        return _Detail()
    inner = found.get("error")
    if isinstance(inner, dict):
        found = inner
    code, text = found.get("code"), found.get("message")
    if not isinstance(text, str):
        text = next((one for one in (inner, found.get("detail")) if isinstance(one, str)), "")
    kind, field = _of_validation(found)
    contexts = (pattern.search(text) for pattern in _CONTEXT_TEXTS)
    context = next((one for one in contexts if one is not None), None)
    metadata = found.get("metadata")
    unknown = _UNKNOWN_TEXT.match(text)
    return _Detail(
        code=_identifier(code),
        kind=_identifier(found.get("type")),
        param=_identifier(found.get("param")) or field,
        status=code if isinstance(code, int) and 400 <= code <= 599 else 0,
        context_tokens=context[1] if context else "",
        is_account=_ACCOUNT_TEXT.match(text) is not None,
        is_flagged=isinstance(metadata, dict) and "flagged_input" in metadata,
        unknown=_CAPITAL.sub(r"_\1", unknown[unknown.lastindex or 0]).lower()
        if unknown
        else (field if kind == _EXTRA else ""),
    )


def _of_validation(found: dict[str, Any]) -> tuple[str, str]:
    """Return kind and field of the first fault of a body, as FastAPI tells of it."""
    message = found.get("message")
    faults = message.get("detail") if isinstance(message, dict) else found.get("detail")
    first = faults[0] if isinstance(faults, list) and faults else None
    if not isinstance(first, dict):
        return "", ""
    where = first.get("loc")
    steps = [step for step in where if step != "body"] if isinstance(where, list) else []
    return _identifier(first.get("type")), _identifier(steps[0] if steps else None)


def _identifier(value: object) -> str:
    return value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else ""
