"""The recorded vectors of two public SDKs, and the keys that they were made with."""

import json
from typing import Any, Final

from tests.house.tree import ROOT

VECTORS: Final[dict[str, Any]] = json.loads((ROOT / "tests" / "vectors" / "mpp.json").read_text())
CHALLENGES: Final[list[dict[str, Any]]] = VECTORS["challenges"]
OPENS: Final[dict[str, dict[str, Any]]] = {row["name"]: row for row in VECTORS["opens"]}
VOUCHERS: Final[dict[str, dict[str, Any]]] = {
    f"{row['open']}-{row['cumulativeAmount']}": row for row in VECTORS["vouchers_v2"]
}
CREDENTIALS: Final[dict[str, dict[str, Any]]] = {row["name"]: row for row in VECTORS["credentials"]}
RECEIPTS: Final[list[dict[str, Any]]] = VECTORS["receipts"]
CHAIN_ID: Final[int] = VECTORS["chain"]["chainId"]
RESERVE: Final[str] = VECTORS["chain"]["reserve_v2"]
SECRET: Final[str] = CHALLENGES[0]["secret"]
PAYER: Final[dict[str, str]] = VECTORS["keys"]["payer"]
PAYEE: Final[dict[str, str]] = VECTORS["keys"]["payee"]
DELEGATE: Final[dict[str, str]] = VECTORS["keys"]["delegate"]


def scheme_less(authorization: str) -> str:
    """Return a recorded Authorization value without its scheme."""
    return authorization.removeprefix("Payment ")
