"""How a `TurnpikeError` looks to an OpenAI client, by dialect; pure."""

from typing import Final

import msgspec

from gateway.openai.dialect import CodeForm, Dialect
from kit.errors import OUTWARD, Reason, TurnpikeError

LIMIT_KEYS: Final = (
    "limit_source",
    "limit_nusd",
    "missing_nusd",
    "missing_usd",
    "resets_unix_s",
    "available_nusd",
    "need_nusd",
    "debt_nusd",
)
"""What a refusal for money says: which limit, how much is missing, until when."""
_DETAIL_KEYS: Final = ("excluded", "attempts", *LIMIT_KEYS)
_encode = msgspec.json.encode


def status_of(error: TurnpikeError) -> int:
    """Return the HTTP status."""
    return OUTWARD[error.reason].http_status


def error_object(error: TurnpikeError, dialect: Dialect, request_id: str) -> dict[str, object]:
    """Return the value of `error` in the body."""
    outward = OUTWARD[error.reason]
    kind = outward.type_name
    if outward.http_status == 401:
        kind = dialect.auth_error_type
    body: dict[str, object] = {"message": error.message, "type": kind}
    code = _code(error.reason, dialect.code_form, outward.http_status)
    if code is not None:
        body["code"] = code
    body["param"] = error.metadata.get("param")
    body["request_id"] = request_id
    details = {key: error.metadata[key] for key in _DETAIL_KEYS if key in error.metadata}
    if details:
        body["details"] = details
    return body


def error_body(error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
    """Return the whole JSON body."""
    return _encode({"error": error_object(error, dialect, request_id)})


def error_event(error: TurnpikeError, dialect: Dialect, request_id: str) -> bytes:
    """Return the SSE event that ends a broken stream; no `[DONE]` follows it."""
    return b"data: %b\n\n" % error_body(error, dialect, request_id)


def error_headers(error: TurnpikeError) -> dict[str, str]:
    """Return the headers that belong to the error."""
    outward = OUTWARD[error.reason]
    headers = {"Content-Type": "application/json; charset=utf-8"}
    if outward.http_status in (429, 503):
        headers["Retry-After"] = error.metadata.get("retry_after_s", "1")
    if outward.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if outward.http_status == 402:
        headers["Cache-Control"] = "no-store"
    headers |= limit_headers_of(error)
    if "allow" in error.metadata:
        headers["Allow"] = error.metadata["allow"]
    return headers


def limit_headers_of(error: TurnpikeError) -> dict[str, str]:
    """Return the figures of the limit that refused; none where no limit did."""
    if "rate_limit" not in error.metadata:
        return {}
    return {
        "X-RateLimit-Limit": error.metadata["rate_limit"],
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": error.metadata["rate_reset_unix_s"],
    }


def _code(reason: Reason, form: CodeForm, status: int) -> str | int | None:
    if form is CodeForm.LOWER:
        return reason.value.lower()
    if form is CodeForm.UPPER:
        return reason.value
    return status if form is CodeForm.STATUS else None
