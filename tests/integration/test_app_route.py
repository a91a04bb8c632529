"""`turnpike route` against a real admin port, and on samples."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.router.decisions import VERSION
from tests.integration.test_app_cli import Shell, empty_folder, shell
from tests.unit.router.places import CHEAPEST, asked, decided, place
from turnpike.metering.v1.metering_pb2 import RouteDecision

__all__ = ["empty_folder", "shell"]

CHECKOUT = Path(__file__).resolve().parents[2]
MODEL = {
    "context_length": 4096,
    "deployments": [
        {
            "name": name,
            "provider": "one",
            "upstream_model": "m",
            "price": {"input_usd_per_million": price, "output_usd_per_million": price},
        }
        for name, price in (("dear", "3"), ("cheap", "1"))
    ],
}
CATALOGUE = {
    "catalogue": {
        "providers": {"one": {"kind": "openai_compat", "base_url": "http://127.0.0.1:9/v1"}},
        "models": {"m": MODEL},
    }
}


@pytest.fixture
def catalogue(empty_folder: Path) -> Path:
    path = empty_folder / "routes.yaml"
    path.write_text(json.dumps(CATALOGUE))
    return path


@pytest.fixture
def sample(empty_folder: Path) -> Path:
    path = empty_folder / "sample.jsonl"
    lines = [
        {"t_ms": 200 * n, "model": "m", "prompt_tokens": 100, "completion_tokens": 50}
        for n in range(100)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


async def test_route_is_explained_as_a_table_and_as_json(shell: Shell) -> None:
    assert 0 == await shell.run("route", "explain", "--model", "m", "--strategy", "cheapest")

    lines = shell.out.splitlines()
    assert ["one", "-", "yes", "5"] == lines[1].split("\t")[:4]
    assert ["two", "health"] == lines[2].split("\t")[:2]
    assert "3.0" == lines[2].split("\t")[-1]
    assert "first: one; seed 7" == lines[3]
    asked_for = shell.rooms.router.asked[0].envelope
    assert ("m", CHEAPEST, 100, 256) == (
        asked_for.model_id,
        asked_for.routing.strategy,
        asked_for.prompt_tokens_max,
        asked_for.max_tokens,
    )
    found = await shell.json("route", "explain", "--model", "m", "--feature", "tools")
    assert "one" == found["decision"]["first"]
    assert ["tools"] == list(shell.rooms.router.asked[1].envelope.features)
    assert 1 == await shell.run("route", "explain", "--strategy", "luck")


def keep(shell: Shell, request_id: str, **changes: Any) -> None:
    decision = decided(asked(), [place("a"), place("b")])
    message = decision.message(next(decision.tries()).name)
    for name, value in changes.items():
        setattr(message, name, value)
    shell.rooms.metering.snapshots["s"] = decision.snapshot.data
    shell.rooms.metering.decisions.append(
        RouteDecision(
            request_id=request_id,
            data=message.SerializeToString(),
            model_id="m",
            prompt_token_count=10,
            completion_token_count=5,
            start_unix_ms=1_000,
            deployment=message.first,
        )
    )


async def test_decision_is_made_again(shell: Shell) -> None:
    keep(shell, "request-1")

    assert 0 == await shell.run("route", "replay", "request-1")

    assert {"  a: band", "  b: band"} == {
        line.partition(",")[0] for line in shell.out.splitlines()[:2]
    }
    assert "1 the same, 0 different, 0 lost" == shell.out.splitlines()[-1]


async def test_decision_that_differs_is_exit_code_one(shell: Shell) -> None:
    keep(shell, "request-1")
    keep(shell, "request-2", score=1)
    keep(shell, "request-3", version=VERSION + 1)
    keep(shell, "request-4", snapshot_id="gone")

    assert 1 == await shell.run("route", "replay")
    assert "1 the same, 1 different, 2 lost" == shell.out.splitlines()[-1]
    assert 1 == await shell.run("route", "replay", "unknown")
    assert "Nothing was decided" in shell.err


async def test_what_is_recorded_can_be_played(
    shell: Shell, catalogue: Path, tmp_path: Path
) -> None:
    keep(shell, "request-1")
    assert 0 == await shell.run("route", "record")
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(shell.out)

    found = await shell.json("route", "simulate", str(recorded), "--catalogue", str(catalogue))

    assert ["recorded", "balanced", "cheapest", "fastest"] == [
        each["strategy"] for each in found["results"]
    ]
    assert all(1 == each["served_count"] for each in found["results"])


async def test_strategies_prices_and_outages_are_compared(
    shell: Shell, catalogue: Path, sample: Path
) -> None:
    play = ("route", "simulate", str(sample), "--catalogue", str(catalogue))

    async def shares(*more: str) -> Any:
        (result,) = (await shell.json(*play, "--strategy", "cheapest", *more))["results"]
        return result["shares"]

    assert {"cheap": 100} == await shares()
    assert {"dear": 100} == await shares("--change", "dear=20%")
    out = await shares("--change", "cheap=0-1000")
    assert {"dear": 100} == out
    assert 0 == await shell.run(*play, "--seed", "7")
    table = shell.out
    assert 0 == await shell.run(*play, "--seed", "7")
    assert table == shell.out
    assert 5 == len(table.splitlines())


async def test_recorded_sample_of_the_examples_is_served_whole(shell: Shell) -> None:
    folder = CHECKOUT / "examples" / "routing"
    play = ("route", "simulate", str(folder / "traffic.jsonl"))
    usual = await shell.json(*play, "--catalogue", str(folder / "catalogue.yaml"))
    storm = await shell.json(
        *play, "--catalogue", str(folder / "catalogue.yaml"), "--change", "large-own=10-30"
    )

    results = {each["strategy"]: each for each in usual["results"]}
    assert {600} == {each["served_count"] for each in (*usual["results"], *storm["results"])}
    assert results["cheapest"]["cost_nusd"] < results["balanced"]["cost_nusd"]
    assert all(each["attempt_count"] <= 720 for each in storm["results"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--change", "nobody=80%"), "There is no deployment nobody."),
        (("--change", "cheap"), "should look like"),
        (("--strategy", "luck"), "luck is none of"),
    ],
)
async def test_mistakes_are_one_line(
    shell: Shell, catalogue: Path, sample: Path, arguments: tuple[str, str], said: str
) -> None:
    play = ("route", "simulate", str(sample), "--catalogue", str(catalogue))

    assert 1 == await shell.run(*play, *arguments)
    assert said in shell.err
    assert 1 == len(shell.err.splitlines())


async def test_line_that_is_none_is_named(shell: Shell, catalogue: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        '{"t_ms": 0, "model": "m", "prompt_tokens": 1, "completion_tokens": 1}\n{"t_ms": "x"}'
    )

    assert 1 == await shell.run("route", "simulate", str(bad), "--catalogue", str(catalogue))
    assert "bad.jsonl:2" in shell.err
