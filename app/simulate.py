"""Reads what `turnpike route simulate` plays: a sample, a catalogue, and what is changed."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from app.admin_client import AdminError, Json
from kit.money import format_usd
from kit.yaml_lines import YamlError
from services.router.catalog import Catalogue, Deployment
from services.router.catalog_build import build
from services.router.catalog_file import parse
from services.router.simulation import STRATEGIES, Outage, Result, Simulation, Traffic, World
from turnpike.router.v1 import route_pb2, router_pb2

LINES_MAX: Final = 1_000_000
RECORDED: Final = "recorded"
COLUMNS: Final = (
    "STRATEGY",
    "REQUESTS",
    "ERRORS",
    "ATTEMPTS",
    "COST",
    "TTFT P50 MS",
    "P95",
    "WHOLE P50 MS",
    "P95",
    "SHARES",
)
_OUTAGE: Final = re.compile(r"([^=]+)=([0-9.]+)-([0-9.]+)")
_PRICE: Final = re.compile(r"([^=]+)=([0-9]+)%")


class _Line(msgspec.Struct):
    """One line of a sample; times in milliseconds from its start."""

    t_ms: int
    model: str
    prompt_tokens: int
    completion_tokens: int
    max_tokens: int = 256
    strategy: str = "balanced"
    needs: tuple[str, ...] = ()
    deployment: str = ""
    ttft_ms: int = 0
    duration_ms: int = 0


def read_sample(path: Path) -> list[Traffic]:
    """Return the requests of a sample, a JSON object in each line.

    Raises:
        AdminError: It cannot be read, or a line is wrong.
    """
    decoder = msgspec.json.Decoder(_Line)
    found: list[Traffic] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise AdminError(f"{path} cannot be read.") from error
    if len(lines) > LINES_MAX:
        raise AdminError(f"{path} has more than {LINES_MAX} lines.")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            read = decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise AdminError(f"{path}:{number}: {error}") from error
        if read.strategy not in STRATEGIES:
            raise AdminError(f"{path}:{number}: there is no strategy {read.strategy}")
        found.append(_traffic(read))
    return found


def _traffic(line: _Line) -> Traffic:
    rest_s = (line.duration_ms - line.ttft_ms) / 1000
    return Traffic(
        start_s=line.t_ms / 1000,
        model_id=line.model,
        prompt_tokens=line.prompt_tokens,
        max_tokens=line.max_tokens,
        completion_tokens=line.completion_tokens,
        strategy=line.strategy,
        needs=frozenset(line.needs),
        deployment=line.deployment,
        ttft_s=line.ttft_ms / 1000,
        tokens_per_s=line.completion_tokens / rest_s if rest_s > 0 else 0.0,
    )


def recorded(decisions: Sequence[Json]) -> Iterator[str]:
    """Yield the lines of a sample made of decisions, as `ListRouteDecisions` gives them in JSON."""
    first_ms = min((int(each["start_unix_ms"]) for each in decisions), default=0)
    for each in sorted(decisions, key=lambda each: int(each["start_unix_ms"])):
        decision = route_pb2.Decision.FromString(base64.b64decode(each["data"]))
        strategy = router_pb2.Routing.FromString(decision.routing).strategy
        line = _Line(
            t_ms=int(each["start_unix_ms"]) - first_ms,
            model=each["model_id"],
            prompt_tokens=int(each["prompt_token_count"]),
            completion_tokens=int(each["completion_token_count"]),
            max_tokens=decision.max_tokens,
            strategy=_NAMES.get(strategy, "balanced"),
            needs=tuple(decision.features),
            deployment=each["deployment"],
            ttft_ms=int(each["ttft_ms"]),
            duration_ms=int(each["duration_ms"]),
        )
        yield msgspec.json.encode(line).decode()


_NAMES: Final = {number: name for name, number in STRATEGIES.items()}


def read_catalogue(path: Path, variables: Mapping[str, str]) -> Catalogue:
    """Return the catalogue of a file.

    Raises:
        AdminError: The file is bad.
    """
    try:
        return build(parse(path.read_text(), variables=variables), generation=1)
    except (OSError, YamlError) as error:
        raise AdminError(f"{path}: {error}") from error


def changed(catalogue: Catalogue, changes: Sequence[str], seed: int) -> tuple[Catalogue, World]:
    """Return the catalogue with other prices, and the world with outages.

    A change is `NAME=80%`, a price, or `NAME=10-70`, an outage in seconds of the sample.

    Raises:
        AdminError: One is written otherwise, or there is no such deployment.
    """
    outages: list[Outage] = []
    for text in changes:
        price, outage = _PRICE.fullmatch(text), _OUTAGE.fullmatch(text)
        match = price or outage
        if match is None:
            raise AdminError(f"{text} should look like some-deployment=80% or =10-70.")
        if match[1] not in _names(catalogue):
            raise AdminError(f"There is no deployment {match[1]}.")
        if price is not None:
            catalogue = _repriced(catalogue, match[1], int(match[2]))
        else:
            outages.append(Outage(match[1], float(match[2]), float(match[3])))
    return catalogue, World(outages=tuple(outages), seed=seed)


def _repriced(catalogue: Catalogue, name: str, percent: int) -> Catalogue:
    def repriced(place: Deployment) -> Deployment:
        price = place.price
        if place.name != name:
            return place
        return replace(
            place,
            price=replace(
                price,
                input_pusd_per_token=price.input_pusd_per_token * percent // 100,
                output_pusd_per_token=price.output_pusd_per_token * percent // 100,
                request_pusd=price.request_pusd * percent // 100,
            ),
        )

    models = tuple(
        replace(model, deployments=tuple(map(repriced, model.deployments)))
        for model in catalogue.models
    )
    names = {n: model for model in models for n in (model.model_id, *model.aliases)}
    return replace(catalogue, models=models, names=names)


def _names(catalogue: Catalogue) -> set[str]:
    return {place.name for model in catalogue.models for place in model.deployments}


def results(
    catalogue: Catalogue, sample: Sequence[Traffic], strategies: Sequence[str], world: World
) -> Iterator[tuple[str, Result]]:
    """Yield the result of each strategy, of all when none is named.

    `recorded` keeps each request's own.

    Raises:
        AdminError: There is no such strategy.
    """
    known = (RECORDED, *STRATEGIES)
    for name in strategies or known:
        if name not in known:
            raise AdminError(f"{name} is none of {', '.join(known)}.")
        strategy = "" if name == RECORDED else name
        yield name, Simulation(catalogue, sample, world._replace(strategy=strategy)).run()


def row(name: str, result: Result) -> tuple[object, ...]:
    """Return a line of the table."""
    errors = result.request_count - result.served_count
    shares = ", ".join(f"{place} {count}" for place, count in result.shares.items())
    return (
        name,
        result.request_count,
        errors,
        result.attempt_count,
        f"${format_usd(result.cost_nusd)}",
        *(f"{1000 * result.ttft_s.get(percent, 0):.0f}" for percent in (50, 95)),
        *(f"{1000 * result.duration_s.get(percent, 0):.0f}" for percent in (50, 95)),
        shares,
    )


def as_json(name: str, result: Result) -> Json:
    """Return a result as JSON; percents are keys, times are seconds."""
    return {"strategy": name, **result._asdict()}
