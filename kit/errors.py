"""The one error type and the one table that translates it outward.

A `TurnpikeError` is raised where the fact is known. `kit.rpc` turns it into a gRPC status with an
`ErrorInfo`; `gateway.errors` turns it into an HTTP status and an OpenAI body. Nothing else does.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why something was refused or failed; the value in lower case is OpenAI's `error.code`."""

    INVALID_JSON = "INVALID_JSON"
    MISSING_FIELD = "MISSING_FIELD"
    INVALID_VALUE = "INVALID_VALUE"
    UNSUPPORTED_PARAMETER = "UNSUPPORTED_PARAMETER"
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    PRICE_CEILING_INCOMPLETE = "PRICE_CEILING_INCOMPLETE"
    CONTENT_POLICY_VIOLATION = "CONTENT_POLICY_VIOLATION"
    BAD_REQUEST = "BAD_REQUEST"
    PROVIDER_KEY_REFUSED = "PROVIDER_KEY_REFUSED"
    INVALID_API_KEY = "INVALID_API_KEY"
    KEY_REVOKED = "KEY_REVOKED"
    KEY_EXPIRED = "KEY_EXPIRED"
    INSUFFICIENT_QUOTA = "INSUFFICIENT_QUOTA"
    BILLING_HARD_LIMIT_REACHED = "BILLING_HARD_LIMIT_REACHED"
    BILLING_NOT_ACTIVE = "BILLING_NOT_ACTIVE"
    PAYMENT_REQUIRED = "PAYMENT_REQUIRED"
    INVALID_PAYMENT = "INVALID_PAYMENT"
    PAYMENT_METHOD_UNSUPPORTED = "PAYMENT_METHOD_UNSUPPORTED"
    PAYMENT_FORBIDDEN = "PAYMENT_FORBIDDEN"
    VOUCHER_TIMEOUT = "VOUCHER_TIMEOUT"
    KEY_SCOPE = "KEY_SCOPE"
    FUNCTION_NOT_FOUND = "FUNCTION_NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    GONE = "GONE"
    LENGTH_REQUIRED = "LENGTH_REQUIRED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    UNPROCESSABLE = "UNPROCESSABLE"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    TOKENS_LIMIT_EXCEEDED = "TOKENS_LIMIT_EXCEEDED"
    CONCURRENCY_EXCEEDED = "CONCURRENCY_EXCEEDED"
    CLIENT_CLOSED_REQUEST = "CLIENT_CLOSED_REQUEST"
    INTERNAL = "INTERNAL"
    ALL_PROVIDERS_FAILED = "ALL_PROVIDERS_FAILED"
    UPSTREAM_INVALID_RESPONSE = "UPSTREAM_INVALID_RESPONSE"
    UPSTREAM_INCOMPLETE = "UPSTREAM_INCOMPLETE"
    NO_PROVIDERS_AVAILABLE = "NO_PROVIDERS_AVAILABLE"
    AUTH_UNAVAILABLE = "AUTH_UNAVAILABLE"
    LEDGER_UNAVAILABLE = "LEDGER_UNAVAILABLE"
    UNAVAILABLE = "UNAVAILABLE"
    JOURNAL_FULL = "JOURNAL_FULL"
    OVERLOADED = "OVERLOADED"
    TIMEOUT = "TIMEOUT"


@dataclass(frozen=True, slots=True)
class Outward:
    """How a reason looks outside.

    `grpc_code` is the name of a `grpc.StatusCode`; `type_name` is OpenAI's `error.type`.
    """

    grpc_code: str
    http_status: int
    type_name: str
    is_retryable: bool = False


_BAD: Final = Outward("INVALID_ARGUMENT", 400, "invalid_request_error")
_WHO: Final = Outward("UNAUTHENTICATED", 401, "authentication_error")
_PAY: Final = Outward("FAILED_PRECONDITION", 402, "billing_error")
_VOUCHER: Final = Outward("FAILED_PRECONDITION", 402, "payment_required")
_DOWN: Final = Outward("UNAVAILABLE", 503, "server_error", is_retryable=True)
_LIMIT: Final = Outward("RESOURCE_EXHAUSTED", 429, "rate_limit_error", is_retryable=True)
_GATE: Final = Outward("UNAVAILABLE", 502, "server_error", is_retryable=True)


def _refused(code: str, status: int) -> Outward:
    return Outward(code, status, "invalid_request_error")


OUTWARD: Final[dict[Reason, Outward]] = {
    Reason.INVALID_JSON: _BAD,
    Reason.MISSING_FIELD: _BAD,
    Reason.INVALID_VALUE: _BAD,
    Reason.UNSUPPORTED_PARAMETER: _BAD,
    Reason.CONTEXT_LENGTH_EXCEEDED: _BAD,
    Reason.PRICE_CEILING_INCOMPLETE: _BAD,
    Reason.CONTENT_POLICY_VIOLATION: _BAD,
    Reason.BAD_REQUEST: _BAD,
    Reason.PROVIDER_KEY_REFUSED: _BAD,
    Reason.INVALID_API_KEY: _WHO,
    Reason.KEY_REVOKED: _WHO,
    Reason.KEY_EXPIRED: _WHO,
    Reason.INSUFFICIENT_QUOTA: _PAY,
    Reason.BILLING_HARD_LIMIT_REACHED: _PAY,
    Reason.BILLING_NOT_ACTIVE: _PAY,
    Reason.PAYMENT_REQUIRED: _VOUCHER,
    Reason.INVALID_PAYMENT: _VOUCHER,
    Reason.PAYMENT_METHOD_UNSUPPORTED: _BAD,
    Reason.PAYMENT_FORBIDDEN: Outward("PERMISSION_DENIED", 403, "permission_error"),
    Reason.VOUCHER_TIMEOUT: _VOUCHER,
    Reason.KEY_SCOPE: Outward("PERMISSION_DENIED", 403, "permission_error"),
    Reason.FUNCTION_NOT_FOUND: Outward("NOT_FOUND", 404, "not_found_error"),
    Reason.MODEL_NOT_FOUND: Outward("NOT_FOUND", 404, "not_found_error"),
    Reason.NOT_FOUND: Outward("NOT_FOUND", 404, "not_found_error"),
    Reason.METHOD_NOT_ALLOWED: _refused("UNIMPLEMENTED", 405),
    Reason.REQUEST_TIMEOUT: _refused("DEADLINE_EXCEEDED", 408),
    Reason.ALREADY_EXISTS: _refused("ALREADY_EXISTS", 409),
    Reason.GONE: _refused("NOT_FOUND", 410),
    Reason.LENGTH_REQUIRED: _refused("INVALID_ARGUMENT", 411),
    Reason.PAYLOAD_TOO_LARGE: _refused("RESOURCE_EXHAUSTED", 413),
    Reason.UNSUPPORTED_MEDIA_TYPE: _refused("INVALID_ARGUMENT", 415),
    Reason.UNPROCESSABLE: _refused("FAILED_PRECONDITION", 422),
    Reason.HEADERS_TOO_LARGE: _refused("RESOURCE_EXHAUSTED", 431),
    Reason.RATE_LIMIT_EXCEEDED: _LIMIT,
    Reason.TOKENS_LIMIT_EXCEEDED: _LIMIT,
    Reason.CONCURRENCY_EXCEEDED: _LIMIT,
    Reason.CLIENT_CLOSED_REQUEST: _refused("CANCELLED", 499),
    Reason.INTERNAL: Outward("INTERNAL", 500, "server_error"),
    Reason.ALL_PROVIDERS_FAILED: _GATE,
    Reason.UPSTREAM_INVALID_RESPONSE: _GATE,
    Reason.UPSTREAM_INCOMPLETE: _GATE,
    Reason.NO_PROVIDERS_AVAILABLE: _DOWN,
    Reason.AUTH_UNAVAILABLE: _DOWN,
    Reason.LEDGER_UNAVAILABLE: _DOWN,
    Reason.UNAVAILABLE: _DOWN,
    Reason.JOURNAL_FULL: _DOWN,
    Reason.OVERLOADED: _DOWN,
    Reason.TIMEOUT: Outward("DEADLINE_EXCEEDED", 504, "server_error", is_retryable=True),
}


class TurnpikeError(Exception):
    """A refusal or failure that a caller is told about.

    `message` is one sentence that a client developer can act on and never holds a prompt, a
    completion or a secret. `metadata` values are strings on the wire; `param` names the request
    field, `retry_after_s` says when a repeat makes sense.
    """

    def __init__(self, reason: Reason, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = metadata

    @property
    def outward(self) -> Outward:
        """How this error looks outside."""
        return OUTWARD[self.reason]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
