"""What the errors of AWS mean, in an answer or in a stream, without repeating their texts; pure.

Source: botocore service models `bedrock-runtime` and `sagemaker-runtime`; AWS General Reference,
"Common error types" (read 2026-11).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from services.router.providers.aws.event_stream import Message
from services.router.providers.openai.errors import JUNK, error_of_status, retry_after_s
from services.router.providers.port import Failure, ProviderError
from services.router.upstream_types import ResponseHead

_TYPE_HEADER: Final = b"x-amzn-errortype"
_CONTEXT: Final = re.compile(
    r"(?i)input is too long|prompt is too long|too many (?:input )?tokens|context (?:length|limit"
    r"|window)|exceeds? the (?:model's )?max(?:imum)?[a-z ]* tokens|maximum input length"
)
_POLICY: Final = re.compile(r"(?i)content filter|content policy|blocked by our")
_NO_MODEL: Final = re.compile(
    r"(?i)model identifier is invalid|on-demand throughput isn|endpoint \S+ (?:of|not|does)"
    r"|could not (?:find|resolve)|variant .* not found"
)
_LAST_NAME: Final = re.compile(r"[A-Za-z]{1,64}")
_FAILURES: Final[Mapping[str, Failure]] = {
    "accessdenied": Failure.CREDENTIALS,
    "expiredtoken": Failure.CREDENTIALS,
    "incompletesignature": Failure.CREDENTIALS,
    "invalidclienttokenid": Failure.CREDENTIALS,
    "invalidsignature": Failure.CREDENTIALS,
    "missingauthenticationtoken": Failure.CREDENTIALS,
    "notauthorized": Failure.CREDENTIALS,
    "optinrequired": Failure.CREDENTIALS,
    "requestexpired": Failure.CREDENTIALS,
    "signaturedoesnotmatch": Failure.CREDENTIALS,
    "unrecognizedclient": Failure.CREDENTIALS,
    "resourcenotfound": Failure.NOT_FOUND,
    "unknownoperation": Failure.NOT_FOUND,
    "throttling": Failure.RATE_LIMITED,
    "toomanyrequests": Failure.RATE_LIMITED,
    "servicequotaexceeded": Failure.RATE_LIMITED,
    "limitexceeded": Failure.RATE_LIMITED,
    "modelnotready": Failure.UNAVAILABLE,
    "modeltimeout": Failure.UNAVAILABLE,
    "modelerror": Failure.UNAVAILABLE,
    "modelstreamerror": Failure.UNAVAILABLE,
    "internalserver": Failure.UNAVAILABLE,
    "internalfailure": Failure.UNAVAILABLE,
    "internalstreamfailure": Failure.UNAVAILABLE,
    "internaldependency": Failure.UNAVAILABLE,
    "serviceunavailable": Failure.UNAVAILABLE,
    "validation": Failure.REJECTED,
    "serialization": Failure.REJECTED,
}
_SENTENCES: Final = {
    Failure.CREDENTIALS: "The upstream did not accept the gateway's account",
    Failure.NOT_FOUND: "The upstream does not know the model",
    Failure.UNAVAILABLE: "The upstream is unavailable",
    Failure.RATE_LIMITED: "The upstream limits the rate of requests",
    Failure.REJECTED: "The upstream refused the request",
    Failure.CONTEXT_LENGTH: "The request is longer than the model's context",
    Failure.CONTENT_POLICY: "The upstream refused the content by its policy",
}


def error_of_answer(head: ResponseHead, answer: bytes, *, now_unix_s: float) -> ProviderError:
    """Return what an answer that is not 200 means; `answer` may be empty or junk."""
    fields = _fields(answer)
    kind = _kind(head.headers.get(_TYPE_HEADER, b"").decode("latin-1")) or _kind(
        fields.get("__type") or fields.get("code")
    )
    retry_after = head.headers.get(b"retry-after", b"")
    failure = _FAILURES.get(kind)
    if failure is None:
        return error_of_status(head.status, b"", retry_after=retry_after, now_unix_s=now_unix_s)
    return _error(
        _judged(failure, _text(fields)),
        f"HTTP {head.status}",
        status=head.status,
        wait_s=retry_after_s(retry_after, now_unix_s),
    )


def error_in_stream(message: Message) -> ProviderError:
    """Return what a message that is no event means."""
    kind = _kind(message.text(":exception-type") or message.text(":error-code"))
    failure = _FAILURES.get(kind)
    if failure is None:
        return ProviderError(
            Failure.UNAVAILABLE, "The upstream's stream broke off with an error.", status=200
        )
    failure = _judged(failure, _text(_fields(message.payload)))
    return _error(failure, "in its stream", status=200)


def fields_of_error(answer: bytes) -> Mapping[str, Any]:
    """Return the members of an error's body; empty for what is none."""
    return _fields(answer)


def kind_of_error(head: ResponseHead) -> str:
    """Return which error an answer says that it is, in lower case without its ending."""
    return _kind(head.headers.get(_TYPE_HEADER, b"").decode("latin-1"))


def _error(failure: Failure, fact: str, *, status: int, wait_s: float = 0.0) -> ProviderError:
    return ProviderError(
        failure, f"{_SENTENCES[failure]} ({fact}).", status=status, retry_after_s=wait_s
    )


def _judged(failure: Failure, text: str) -> Failure:
    """Return what a refusal of a request is about, as far as its text tells."""
    if failure is not Failure.REJECTED:
        return failure
    for pattern, meant in (
        (_CONTEXT, Failure.CONTEXT_LENGTH),
        (_POLICY, Failure.CONTENT_POLICY),
        (_NO_MODEL, Failure.NOT_FOUND),
    ):
        if pattern.search(text):
            return meant
    return failure


def _kind(value: object) -> str:
    """Return an error's name as the table has it: no namespace, no address, no `Exception`."""
    if not isinstance(value, str):
        return ""
    name = value.partition(":")[0].rpartition("#")[2].strip()
    if not _LAST_NAME.fullmatch(name):
        return ""
    lowered = name.lower()
    for ending in ("exception", "error"):
        if lowered not in _FAILURES:
            lowered = lowered.removesuffix(ending)
    return lowered


def _fields(body: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except JUNK:
        return {}
    return found if isinstance(found, dict) else {}


def _text(fields: Mapping[str, Any]) -> str:
    text = fields.get("message") or fields.get("Message")
    return text if isinstance(text, str) else ""
