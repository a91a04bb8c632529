"""What checking a payment costs, CPU µs: `make bench-micro`.

    python bench/voucher.py            a voucher's signature, and what surrounds it

Each figure is the best of five runs. The bar is 400 µs for the check of a voucher. `refused` is a
voucher by another key, which costs the same; a signature of another form costs next to nothing.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos" / "gen")]

from services.payment.mpp.challenge import Offer, header_value, is_ours, issue  # noqa: E402
from services.payment.mpp.credential import read_credential  # noqa: E402
from services.payment.mpp.payloads import Voucher, read_payload  # noqa: E402
from services.payment.mpp.problems import PaymentError  # noqa: E402
from services.payment.mpp.voucher import (  # noqa: E402
    RESERVE,
    channel_id,
    check_voucher,
    domain_separator,
)

ROUNDS = 5
CHECKS = 500
VECTORS = json.loads((ROOT / "tests" / "vectors" / "mpp.json").read_text())
CHAIN_ID = VECTORS["chain"]["chainId"]
SECRET = VECTORS["challenges"][0]["secret"]
VALUE = VECTORS["credentials"][1]["authorization"].removeprefix("Payment ")


def measured(work: Callable[[], object]) -> float:
    """Return what one call costs, µs."""
    times = []
    for _ in range(ROUNDS):
        start_s = time.process_time()
        for _ in range(CHECKS):
            work()
        times.append(time.process_time() - start_s)
    return 1e6 * min(times) / CHECKS


def checked(payload: Voucher, signer: str) -> None:
    """Check a voucher as the server does."""
    check_voucher(
        payload.signature,
        domain=domain_separator(RESERVE, CHAIN_ID),
        channel=payload.channel_id,
        cumulative_base_units=payload.cumulative_base_units,
        signer=signer,
    )


def refused(payload: Voucher) -> None:
    """Check a voucher that another key should have signed."""
    with suppress(PaymentError):
        checked(payload, payload.descriptor.payee)


def offered(offer: Offer) -> str:
    """Return a challenge's header value."""
    return header_value(issue(SECRET, offer, expires_unix_s=1_800_000_000, nonce="nonce"))


def main() -> None:
    """Print the table."""
    credential = read_credential(VALUE)
    payload = read_payload("session", credential.payload)
    assert isinstance(payload, Voucher)
    offer = Offer("api.turnpike.test", "tempo", "session", credential.challenge.request)
    figures = {
        "check of a voucher": measured(lambda: checked(payload, payload.descriptor.signer)),
        "refused": measured(lambda: refused(payload)),
        "channel id": measured(lambda: channel_id(payload.descriptor, RESERVE, CHAIN_ID)),
        "credential read": measured(lambda: read_credential(VALUE)),
        "payload read": measured(lambda: read_payload("session", credential.payload)),
        "challenge is ours, two secrets": measured(
            lambda: is_ours(credential.challenge, ["another", SECRET])
        ),
        "challenge issued and written": measured(lambda: offered(offer)),
    }
    print("| payment | µs |")
    print("|---|---|")
    for name, figure_us in figures.items():
        print(f"| {name} | {figure_us:.1f} |")


if __name__ == "__main__":
    main()
