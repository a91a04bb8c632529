"""Writes `docs/errors.md` from the one table: `python -m tests.house.error_page`."""

from kit.errors import OUTWARD
from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "errors.md"
_HEAD = """\
# Errors

Written from `kit/errors.py`; do not edit. The body is
`{"error": {"message", "type", "code", "param", "request_id"}}`; a dialect may write the code in
capitals, as the HTTP status, or not at all. 429 and 503 come with `Retry-After`. After the first
byte of a stream an error is one `data:` event and a closed stream without `[DONE]`.

| HTTP | type | code | gRPC | worth repeating |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    rows = sorted(OUTWARD.items(), key=lambda item: (item[1].http_status, item[0]))
    lines = [
        f"| {o.http_status} | `{o.type_name}` | `{reason.value.lower()}` | {o.grpc_code} "
        f"| {'yes' if o.is_retryable else 'no'} |"
        for reason, o in rows
    ]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
