"""What choosing a route costs, CPU µs: `make bench-micro`.

    python bench/routing.py            50 candidates, each kind of wish, the stored decision included

Each figure is the best of five runs of 2,000 choices, from the envelope to the first candidate and,
beside it, the bytes of the decision that the usage event carries. `one` is a model with one
deployment: nothing is decided there and nothing stored.
"""

import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "protos" / "gen")]

from services.router.catalog import DeploymentType  # noqa: E402
from services.router.decisions import Decision, features_of  # noqa: E402
from services.router.pricing import PriceRow  # noqa: E402
from services.router.snapshots import Candidate, Snapshot, candidate_message  # noqa: E402
from services.router.speed import PROMPT_TOKENS  # noqa: E402
from turnpike.router.v1 import route_pb2, router_pb2  # noqa: E402

CANDIDATES = 50
ROUNDS = 5
CHOICES = 2_000
WISHES = {
    "balanced": {},
    "cheapest": {"strategy": router_pb2.STRATEGY_CHEAPEST},
    "fastest": {"strategy": router_pb2.STRATEGY_FASTEST},
    "sticky": {"sticky_key": "a session"},
    "ceilings": {"input_pusd_per_token_max": 130, "output_pusd_per_token_max": 230},
}


def candidate(number: int) -> Candidate:
    """Return a healthy candidate with a price and a type of its own."""
    return Candidate(
        name=f"deployment-{number}",
        provider=f"provider-{number}",
        type=DeploymentType(number % 3),
        priority=0,
        price=PriceRow("price", 100 + number, 200 + number),
        features=frozenset({"tools", "n", "stop"}),
        adapters=(),
        facts=frozenset(),
        rest_s=0.0,
        ttft_s=(0.2,) * (len(PROMPT_TOKENS) + 1),
        tokens_per_s=50.0 + number,
        is_stale=number % 7 == 0,
        open_failure_count=0,
    )


def snapshot(count: int) -> Snapshot:
    """Return a snapshot of so many candidates."""
    return Snapshot(
        route_pb2.Snapshot(
            snapshot_id="snapshot",
            model_id="model",
            prompt_tokens_per_kilobyte_max=512,
            answer_tokens=256,
            candidates=[candidate_message(candidate(number)) for number in range(count)],
        )
    )


def envelope(wishes: dict[str, object]) -> router_pb2.Envelope:
    """Return what the gateway sends; without wishes it has no routing at all."""
    asked = router_pb2.Envelope(
        account_id="account",
        hold_nusd=10**9,
        max_tokens=100,
        prompt_tokens_max=100,
        completion_tokens_max=100,
    )
    if wishes:
        asked.routing.CopyFrom(router_pb2.Routing(**wishes))
    return asked


def measured(asked: router_pb2.Envelope, taken: Snapshot) -> tuple[float, float]:
    """Return what a choice costs, and what storing it costs, µs."""
    bits = random.Random(1).getrandbits
    choosing, storing = [], []
    for _ in range(ROUNDS):
        start_s = time.process_time()
        for _ in range(CHOICES):
            features = features_of(asked, is_constrained=False)
            decision = Decision(
                taken, features, seed=bits(64), age_s=0.1, in_flight=lambda _name: 3
            )
            first = next(decision.tries())
        middle_s = time.process_time()
        for _ in range(CHOICES):
            decision.message(first.name).SerializeToString()
        choosing.append(middle_s - start_s)
        storing.append(time.process_time() - middle_s)
    return tuple(1e6 * min(times) / CHOICES for times in (choosing, storing))


def main() -> None:
    """Print the table."""
    many, one = snapshot(CANDIDATES), snapshot(1)
    print(f"| route among {CANDIDATES} | choice µs | storing µs | together µs |")
    print("|---|---|---|---|")
    for name, wishes in WISHES.items():
        choice, store = measured(envelope(wishes), many)
        print(f"| {name} | {choice:.2f} | {store:.2f} | {choice + store:.2f} |")
    choice, _ = measured(envelope({}), one)
    print(f"| one | {choice:.2f} | 0 | {choice:.2f} |")


if __name__ == "__main__":
    main()
