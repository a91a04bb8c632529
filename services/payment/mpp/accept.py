"""Accept-Payment: which offers a client would rather answer, and in which order.

Pure. Source: paymentauth.org draft 00; weights as in RFC 9110 section 12.4.2, in thousandths.
"""

from collections.abc import Sequence
from typing import Final

ACCEPT_CHARS_MAX: Final = 4_096


def preferred(header: str, offered: Sequence[str]) -> list[str]:
    """Return offers such as `tempo/session` by falling weight; those of weight 0 or unnamed go.

    Offers of equal weight keep their order. The header is passed over, and all offers are returned
    as they came, when it is empty, malformed, too long or would leave nothing.
    """
    raise NotImplementedError
