"""Accept-Payment: which offers a client would rather answer, and in which order.

Pure. Source: paymentauth.org draft 00; weights as in RFC 9110 section 12.4.2, in thousandths.
`*` stands for any method or intent; the narrowest entry that fits an offer counts.
"""

import re
from collections.abc import Sequence
from typing import Final

ACCEPT_CHARS_MAX: Final = 4_096
_WEIGHT_MAX: Final = 1_000
_ENTRY: Final = re.compile(
    r"(?P<method>\*|[a-z0-9:_-]+)/(?P<intent>\*|[a-z0-9:_-]+)"
    r"(?:[ \t]*;[ \t]*[qQ]=(?P<weight>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)


def preferred(header: str, offered: Sequence[str]) -> list[str]:
    """Return offers such as `tempo/session` by falling weight; those of weight 0 or unnamed go.

    Offers of equal weight keep their order. The header is passed over, and all offers are returned
    as they came, when it is empty, malformed, too long or would leave nothing.
    """
    weights = _weights(header)
    weighed = [(offer, _weight(weights, offer)) for offer in offered]
    ranked = sorted((pair for pair in weighed if pair[1]), key=lambda pair: -pair[1])
    return [offer for offer, _ in ranked] or list(offered)


def _weight(weights: dict[str, int], offer: str) -> int:
    method, _, intent = offer.partition("/")
    for entry in (offer, f"{method}/*", f"*/{intent}", "*/*"):
        if entry in weights:
            return weights[entry]
    return 0


def _weights(header: str) -> dict[str, int]:
    """Return thousandths by entry; nothing when the header is malformed."""
    if len(header) > ACCEPT_CHARS_MAX:
        return {}
    weights: dict[str, int] = {}
    for part in header.split(","):
        entry = part.strip(" \t")
        if not entry:
            continue
        found = _ENTRY.fullmatch(entry)
        if not found:
            return {}
        name = f"{found['method']}/{found['intent']}"
        weights.setdefault(name, _thousandths(found["weight"]))
    return weights


def _thousandths(weight: str | None) -> int:
    if weight is None:
        return _WEIGHT_MAX
    whole, _, part = weight.partition(".")
    return int(whole) * _WEIGHT_MAX + int(part.ljust(3, "0"))
