"""What Google's refusals mean, without repeating their text; pure.

Source: google.rpc.Status with ErrorInfo, RetryInfo and BadRequest; Gemini API, troubleshooting
(read 2026-11). The message may quote the prompt: only its two token counts are taken over.
"""

import re
from typing import Final

import msgspec

from services.router.providers.openai.errors import JUNK, RETRY_AFTER_MAX_S, retry_after_s
from services.router.providers.port import Failure, ProviderError

_TOKENS: Final = re.compile(
    r"token count([^.]{0,80}?)(?:maximum number of tokens|only supports up to)([^.]{0,40})"
)
_COUNT: Final = re.compile(r"\d{1,9}")
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]]{0,79}")
_ACCOUNT_REASONS: Final = frozenset(
    {"API_KEY_INVALID", "API_KEY_EXPIRED", "BILLING_DISABLED", "SERVICE_DISABLED"}
    | {"CONSUMER_INVALID", "CONSUMER_SUSPENDED", "ACCESS_TOKEN_EXPIRED", "CREDENTIALS_MISSING"}
)
_ACCOUNT_STATUSES: Final = frozenset({"FAILED_PRECONDITION", "PERMISSION_DENIED"})
"""The first tells of a country or a bill that does not fit."""

_FAILURES: Final = {
    400: Failure.REJECTED,
    401: Failure.CREDENTIALS,
    402: Failure.CREDENTIALS,
    403: Failure.CREDENTIALS,
    404: Failure.NOT_FOUND,
    408: Failure.UNAVAILABLE,
    413: Failure.REJECTED,
    422: Failure.REJECTED,
    429: Failure.RATE_LIMITED,
    499: Failure.UNAVAILABLE,
}
_SENTENCES: Final = {
    Failure.CREDENTIALS: "The upstream did not accept the gateway's account",
    Failure.NOT_FOUND: "The upstream does not know the model or the path",
    Failure.UNAVAILABLE: "The upstream is unavailable",
    Failure.RATE_LIMITED: "The upstream limits the rate of requests",
    Failure.REJECTED: "The upstream refused the request",
    Failure.INVALID_RESPONSE: "The upstream's answer makes no sense",
}


class _Violation(msgspec.Struct):
    field: str = ""


class _Detail(msgspec.Struct, rename="camel"):
    reason: str = ""
    retry_delay: str = ""
    field_violations: list[_Violation] = []


class _Status(msgspec.Struct):
    code: int = 0
    status: str = ""
    message: str = ""
    details: list[_Detail] = []

    @property
    def reasons(self) -> set[str]:
        """The identifiers of what went wrong."""
        return {detail.reason for detail in self.details if detail.reason}


class _Body(msgspec.Struct):
    error: _Status


class _Bare(msgspec.Struct):
    code: int = 0
    status: str = ""
    message: str = ""


class _BareBody(msgspec.Struct):
    error: _Bare


_bodies: Final = msgspec.json.Decoder(list[_Body])
_bare_bodies: Final = msgspec.json.Decoder(list[_BareBody])


def google_error(
    status: int, body: bytes, *, retry_after: bytes = b"", now_unix_s: float = 0.0
) -> ProviderError:
    """Return what an error means.

    Args:
        status: HTTP status; 200 for one that came inside of an answer.
        body: The error object, alone or in an array; may be empty or junk.
        retry_after: The header of that name; empty when absent.
        now_unix_s: Unix time, for a date in that header.
    """
    found = _status_of(body)
    code = status
    if status == 200:
        code = found.code if 400 <= found.code <= 599 else 500
    if code == 400 and (context := _TOKENS.search(found.message)) is not None:
        return ProviderError(Failure.CONTEXT_LENGTH, _too_long(context), status=status)
    failure = _failure(code, found)
    facts = [f"HTTP {code}"]
    if failure is Failure.REJECTED:
        facts += _fields(found)
    return ProviderError(
        failure,
        f"{_SENTENCES[failure]} ({', '.join(facts)}).",
        status=status,
        retry_after_s=max(_delay_s(found), retry_after_s(retry_after, now_unix_s)),
    )


def _too_long(context: re.Match[str]) -> str:
    has, takes = _COUNT.search(context[1]), _COUNT.search(context[2])
    if has is None or takes is None:
        return "The request is longer than the model's context."
    return f"The request has {has[0]} tokens; the model takes {takes[0]}."


def _failure(code: int, found: _Status) -> Failure:
    if 400 <= code < 404 and (
        found.status in _ACCOUNT_STATUSES or not _ACCOUNT_REASONS.isdisjoint(found.reasons)
    ):
        return Failure.CREDENTIALS
    if 500 <= code <= 599:
        return Failure.UNAVAILABLE
    return _FAILURES.get(code, Failure.INVALID_RESPONSE)


def _status_of(body: bytes) -> _Status:
    """Return the error of a body, without its details where they have a form that is not known."""
    text = body.strip()
    if not text.startswith(b"["):
        text = b"[%b]" % text
    try:
        return next((found.error for found in _bodies.decode(text)), _Status())
    except JUNK:
        pass
    try:
        bare = next((found.error for found in _bare_bodies.decode(text)), _Bare())
    except JUNK:
        bare = _Bare()
    return _Status(bare.code, bare.status, bare.message)


def _delay_s(found: _Status) -> float:
    matches = (_DURATION.fullmatch(detail.retry_delay) for detail in found.details)
    return min(max((float(m[1]) for m in matches if m), default=0.0), RETRY_AFTER_MAX_S)


def _fields(found: _Status) -> list[str]:
    names = (violation.field for detail in found.details for violation in detail.field_violations)
    return [f"field {name}" for name in names if _IDENTIFIER.fullmatch(name)][:1]
