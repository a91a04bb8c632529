"""`turnpike route`: why requests go where they go; the same choice again; what others would be."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from app.admin_client import AdminClient, AdminError, Json, connect
from app.cli_options import JsonOption, Reach, gathered, print_json, print_table, usd
from app.settings_layers import environment

route = typer.Typer(no_args_is_help=True, help="Why requests go where they go.")
_STRATEGIES: Final = ("balanced", "cheapest", "fastest")
_HOLD_NUSD: Final = 10**15
_FOR_EVER_S: Final = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Question(Reach):
    """A request whose route is asked for."""

    model: Annotated[str, typer.Option(help="Canonical id of the model.")] = "tiny-chat"
    prompt_tokens: Annotated[int, typer.Option(min=0, help="Prompt tokens.")] = 100
    max_tokens: Annotated[int, typer.Option(min=1, help="Output bound.")] = 256
    strategy: Annotated[str, typer.Option(help="balanced, cheapest or fastest.")] = "balanced"
    allow_external: Annotated[
        bool | None, typer.Option(help="Whether resellers may serve; else as the strategy says.")
    ] = None
    feature: Annotated[list[str], typer.Option(help="A parameter the route must honour.")] = ()  # type: ignore[assignment] # typer makes a list of it

    def envelope(self) -> Json:
        """Return what the router is asked.

        Raises:
            AdminError: There is no such strategy.
        """
        if self.strategy not in _STRATEGIES:
            raise AdminError(f"{self.strategy} is none of {', '.join(_STRATEGIES)}.")
        routing: Json = {"strategy": f"STRATEGY_{self.strategy.upper()}"}
        if self.allow_external is not None:
            routing["is_external_allowed"] = self.allow_external
        return {
            "model_id": self.model,
            "prompt_tokens_max": self.prompt_tokens,
            "max_tokens": self.max_tokens,
            "completion_tokens_max": self.max_tokens,
            "hold_nusd": _HOLD_NUSD,
            "features": list(self.feature),
            "routing": routing,
        }


@route.command("explain")
@gathered(Question)
def explain(question: Question) -> None:
    """Show the choice that a request would get now: candidates, reasons and prices."""
    client = connect(question.admin, question.config)
    body = base64.b64encode(b"{}").decode()
    request = {"envelope": question.envelope(), "body": body}
    answer = client.call("router", "ExplainRoute", request)
    if question.as_json:
        print_json(answer)
        return
    decision = answer["decision"]
    print_table(
        ("DEPLOYMENT", "EXCLUDED", "IN BAND", "SCORE", "ESTIMATE", "AT MOST", "RESTS S"),
        (
            (
                each["deployment"],
                each["excluded_reason"] or "-",
                "yes" if each["is_in_band"] else "-",
                each["score"],
                usd(each["estimated_nusd"]),
                usd(each["worst_case_nusd"]),
                _rest(each["rest_s"]),
            )
            for each in answer["candidates"]
        ),
    )
    typer.echo(f"first: {decision['first'] or 'nobody'}; seed {decision['seed']}")


def _rest(rest_s: object) -> str:
    seconds = float(str(rest_s))
    return "-" if seconds == 0 else "until asked" if seconds > _FOR_EVER_S else f"{seconds:.1f}"


@dataclass(frozen=True, kw_only=True)
class Replayed(Reach):
    """Which decisions are made again."""

    request: Annotated[str, typer.Argument(help="Only this request id.")] = ""
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most decisions.")] = 10_000

    def decisions(self, client: AdminClient) -> list[Json]:
        """Return what metering kept."""
        return list(
            client.pages(
                "metering",
                "ListRouteDecisions",
                "decisions",
                request={"request_id": self.request},
                limit=self.limit,
            )
        )


@route.command("replay")
@gathered(Replayed)
def replay(wish: Replayed) -> None:
    """Make stored choices again; exit 1 when one is not the same bit for bit."""
    from app.replay import ReplayReport, replay_decisions  # noqa: PLC0415 - protobuf

    client = connect(wish.admin, wish.config)
    found = wish.decisions(client)
    if wish.request and not found:
        raise AdminError(
            f"Nothing was decided for {wish.request}: it has one deployment, or it is too old."
        )
    report: ReplayReport = replay_decisions(found, _snapshots(client))
    if wish.as_json:
        print_json(report.as_json())
    else:
        for line in report.lines(is_single=bool(wish.request)):
            typer.echo(line)
    if report.different:
        raise typer.Exit(1)


@route.command("record")
@gathered(Replayed)
def record(wish: Replayed) -> None:
    """Print what was decided as a sample for `simulate`; no word of a request is in it.

    With --json it is one array.
    """
    from app.simulate import recorded  # noqa: PLC0415 - brings the router's rules

    lines = list(recorded(wish.decisions(connect(wish.admin, wish.config))))
    typer.echo(f"[{','.join(lines)}]" if wish.as_json else "\n".join(lines))


def _snapshots(client: AdminClient) -> Any:  # noqa: ANN401 - see `replay_decisions`
    def fetch(snapshot_id: str) -> bytes:
        answer = client.call("metering", "GetRouteSnapshot", {"snapshot_id": snapshot_id})
        return base64.b64decode(answer["data"])

    return fetch


@route.command("simulate")
def simulate(
    sample: Annotated[Path, typer.Argument(help="Recorded traffic, a JSON object in each line.")],
    *,
    catalogue: Annotated[
        Path, typer.Option(help="A file with a `catalogue`, such as turnpike.yaml.")
    ],
    strategy: Annotated[
        list[str] | None, typer.Option(help="balanced, cheapest, fastest or recorded; all if none.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(help="DEPLOYMENT=80%: another price; =10-70: seconds in which calls fail."),
    ] = None,
    seed: Annotated[int, typer.Option(help="What chance is drawn from.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Play recorded traffic against strategies, prices and outages; one seed, one result."""
    from app import simulate as played  # noqa: PLC0415 - brings the router's rules

    found = played.read_catalogue(catalogue, environment())
    found, world = played.changed(found, change or (), seed)
    results = list(played.results(found, played.read_sample(sample), strategy or (), world))
    if as_json:
        print_json({"results": [played.as_json(name, result) for name, result in results]})
        return
    print_table(played.COLUMNS, [played.row(name, result) for name, result in results])
