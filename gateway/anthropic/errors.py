"""How a `TurnpikeError` looks to a client of the Messages API; pure.

`details.error_code` is the reason in lower case and `details.param` the field, where Anthropic's
own errors have their codes. Source: "Errors" of the Messages API and `ErrorResponse` of the SDK.
"""

from typing import Final

import msgspec

from gateway.errors import LIMIT_KEYS
from kit.errors import OUTWARD, TurnpikeError

_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OTHER: Final = "invalid_request_error"


def type_of(http_status: int) -> str:
    """Return Anthropic's error type for a status; all others are the request's fault."""
    return _TYPES.get(http_status, _OTHER)


def error_body(error: TurnpikeError, request_id: str) -> bytes:
    """Return the whole JSON body."""
    details = {"error_code": error.reason.value.lower()}
    if "param" in error.metadata:
        details["param"] = error.metadata["param"]
    details |= {key: error.metadata[key] for key in LIMIT_KEYS if key in error.metadata}
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {
                "type": type_of(OUTWARD[error.reason].http_status),
                "message": error.message,
                "details": details,
            },
            "request_id": request_id,
        }
    )


def error_event(error: TurnpikeError, request_id: str) -> bytes:
    """Return the SSE event that ends a broken stream; no `message_stop` follows it."""
    return b"event: error\ndata: %b\n\n" % error_body(error, request_id)
