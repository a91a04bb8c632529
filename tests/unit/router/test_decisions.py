"""Choices of routes: stored, made again, explained."""

import base64
import math
from random import Random
from typing import Any

import pytest

from app.replay import is_same, replay_decisions
from services.router.catalog import DeploymentType
from services.router.decisions import VERSION, ReplayError, replayed
from services.router.snapshots import Candidate, Snapshot
from services.router.speed import UNKNOWN
from tests.unit.router.places import (
    BALANCED,
    CHEAPEST,
    EXTERNAL,
    FASTEST,
    SIZES,
    asked,
    decided,
    place,
    snapshot,
)
from turnpike.router.v1 import route_pb2

DECISIONS = 10_000


def some_place(random: Random, number: int) -> Candidate:
    is_known = random.random() < 0.6
    return place(
        f"p{number}",
        random.choice((0, 90, 100, 110, 130, 500)),
        type=random.choice(list(DeploymentType)),
        priority=random.choice((0, 0, 1)),
        features=frozenset(random.sample(["tools", "n", "logprobs"], 2)),
        facts=frozenset(random.sample(["zdr", "quantization:fp8"], random.randint(0, 2))),
        rest_s=random.choice((0.0, 0.0, 0.0, 0.1, 3.0, math.inf)),
        ttft_s=tuple(random.uniform(0.05, 2) if is_known else UNKNOWN for _ in range(SIZES)),
        tokens_per_s=random.uniform(10, 200) if is_known else 0.0,
        is_stale=random.random() < 0.3,
        open_failure_count=random.choice((0, 0, 2)),
    )


def some_wishes(random: Random) -> dict[str, Any]:
    wishes: dict[str, Any] = {
        "strategy": random.choice((0, CHEAPEST, FASTEST, BALANCED)),
        "is_external_allowed": random.random() < 0.7,
        "is_ranked_by_sum": random.random() < 0.2,
        "sticky_key": random.choice(("", "", "a session of somebody")),
        "ignored": random.sample(["p0", "p1-provider", "p2"], random.randint(0, 2)),
        "preferred": random.sample(["p3", "p4-provider"], random.randint(0, 2)),
        "facts": random.choice(([], [], ["zdr"])),
        "has_no_fallback": random.random() < 0.1,
        "is_constrained": random.random() < 0.3,
        "hold_nusd": random.choice((10**9, 10**9, 20)),
        "prompt_tokens_max": random.randint(0, 60_000),
    }
    if random.random() < 0.3:
        wishes |= {"input_pusd_per_token_max": 110, "output_pusd_per_token_max": 120}
    return wishes


def test_ten_thousand_stored_decisions_are_made_again_bit_for_bit() -> None:
    random, firsts = Random(4), set()
    taken: list[Snapshot] = []
    same = 0
    for number in range(DECISIONS):
        if number % 50 == 0:
            count = random.randint(2, 12)
            taken.append(snapshot(*(some_place(random, n) for n in range(count))))
        loads = {f"p{n}": random.randint(0, 9) for n in range(12)}
        features = asked(("tools",) if random.random() < 0.2 else (), **some_wishes(random))
        decision = decided(features, taken[-1], seed=number, age_s=random.random(), **loads)
        first = next(decision.tries(), None)
        message = decision.message(first.name if first else "")
        again = Snapshot(route_pb2.Snapshot.FromString(taken[-1].data))

        stored = route_pb2.Decision.FromString(message.SerializeToString())
        other = replayed(stored, again)
        assert is_same(stored, other)
        assert [each.name for each in other.tries()] == [each.name for each in decision.tries()]
        firsts.add(message.first)
        same += 1

    assert same == DECISIONS
    assert len(firsts) > 10


def test_a_decision_that_was_changed_is_seen() -> None:
    decision = decided(asked(), [place("a"), place("b")])
    message = decision.message(next(decision.tries()).name)
    other = {"a": "b", "b": "a"}[message.first]
    message.first = other

    assert not is_same(message, replayed(message, decision.snapshot))


@pytest.mark.parametrize("change", [{"version": VERSION + 1}, {"snapshot_id": "another"}])
def test_other_rules_or_another_snapshot_replay_nothing(change: dict[str, Any]) -> None:
    decision = decided(asked(), [place("a"), place("b")])
    message = decision.message("a")
    for name, value in change.items():
        setattr(message, name, value)

    with pytest.raises(ReplayError):
        replayed(message, decision.snapshot)


def test_what_a_client_said_is_not_stored() -> None:
    decision = decided(asked(sticky_key="my-secret-session"), [place("a"), place("b")])

    stored = decision.message("a").SerializeToString()

    assert b"secret" not in stored
    assert decision.features.sticky_seed in stored


def test_explanation_has_every_candidate_with_reason_and_price() -> None:
    places = [
        place("good", 100),
        place("dear", 500),
        place("down", 100, rest_s=4.0),
        place("far", 1, type=EXTERNAL),
    ]
    decision = decided(asked(strategy=CHEAPEST), places, age_s=1.0)

    found = {each.deployment: each for each in decision.explained()}

    assert list(found) == ["good", "dear", "down", "far"]
    assert {name: each.excluded_reason for name, each in found.items()} == {
        "good": "", "dear": "", "down": "health", "far": "external",
    }  # fmt: skip
    assert found["good"].is_in_band
    assert not found["dear"].is_in_band
    assert found["down"].rest_s == 3.0
    assert 0 < found["good"].estimated_nusd <= found["good"].worst_case_nusd
    assert found["dear"].worst_case_nusd == 5 * found["good"].worst_case_nusd


def test_report_counts_the_same_the_different_and_the_lost() -> None:
    decision = decided(asked(), [place("a"), place("b")])
    right = decision.message(next(decision.tries()).name)
    wrong, old = route_pb2.Decision(), route_pb2.Decision()
    wrong.CopyFrom(right)
    wrong.score += 1
    old.CopyFrom(right)
    old.version = VERSION + 1
    stored = [
        {"request_id": name, "data": base64.b64encode(each.SerializeToString()).decode()}
        for name, each in (("1", right), ("2", wrong), ("3", old))
    ]

    report = replay_decisions(stored, lambda _: decision.snapshot.data)

    assert report.same_count == 1
    assert [each["request_id"] for each in report.different] == ["2"]
    assert [each["request_id"] for each in report.lost] == ["3"]
    assert list(report.lines(is_single=True))[-1] == "1 the same, 1 different, 1 lost"
