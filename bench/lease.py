"""What it costs a request to draw its hold from a lease and to settle it: `make bench-micro`.

No payment room is asked while the lease lasts, so this is all that money costs on the way of a
request of a key.
"""

import asyncio
import gc
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos" / "gen")]

from gateway.leases import CreditLeases  # noqa: E402
from gateway.principal import Principal  # noqa: E402
from gateway.settings import GatewaySettings  # noqa: E402
from kit.clock import SystemClock  # noqa: E402
from kit.tasks import TaskPool  # noqa: E402
from tests.fakes.ledger import Ledger  # noqa: E402

DRAWS = 200_000
ROUNDS = 5
NEED_NUSD = 1_000
PRINCIPAL = Principal(account_id="account", key_id="key")


async def rounds() -> list[float]:
    """Return microseconds of CPU a draw and its settlement took, for each round."""
    tasks = TaskPool(tasks_max=16)
    leases = CreditLeases(
        payment=Ledger(10**15),  # type: ignore[arg-type]
        settings=GatewaySettings(lease_requests=10**6),
        clock=SystemClock(),
        holder_id="bench",
        tasks=tasks,
    )
    leases.settle(await leases.draw(PRINCIPAL, NEED_NUSD), 0)
    found = []
    for _ in range(ROUNDS):
        began_ns = time.process_time_ns()
        for _ in range(DRAWS):
            draw = leases.try_draw(PRINCIPAL, NEED_NUSD)
            assert draw is not None
            leases.settle(draw, NEED_NUSD // 2)
        found.append((time.process_time_ns() - began_ns) / DRAWS / 1_000)
    await leases.close()
    await tasks.close(wait_s=1.0)
    return found


def main() -> None:
    """Print the table."""
    gc.disable()
    found = asyncio.run(rounds())
    print("| | CPU µs | bar |\n|---|---|---|")
    print(f"| draw from a lease and settle, lowest of {ROUNDS} | {min(found):.2f} | 5 |")


if __name__ == "__main__":
    main()
