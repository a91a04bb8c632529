"""A whole Turnpike as processes: `turnpike serve` and a fake upstream, to be killed and restarted.

Everything lies in one folder and on ports of its own; the fake keeps a journal that is synced to
the disk, so that it knows afterwards what it was asked and what it sent.
"""

import asyncio
import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import yaml

from app.admin_client import AdminAddress, AdminClient
from kit.journal_segment import read_frames
from turnpike.events.v1.events_pb2 import UsageEvent

ROOT: Final = Path(__file__).resolve().parents[2]
MODEL: Final = "fake-chat"
INPUT_PUSD: Final = 370_100
OUTPUT_PUSD: Final = 1_233_300
PROMPT_TOKENS_PER_BYTE_MAX: Final = 4
START_S: Final = 45.0
STOP_S: Final = 30.0
_PORTS: Final = range(20_000, 32_000)
_PORTS_TRIED_MAX: Final = 100
_POLL_S: Final = 0.02
_PROBE_S: Final = 2.0
_COMMAND_S: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_SERIAL: Final = re.compile(r"serial=(\d+)")

Json = dict[str, Any]


def price_nusd(prompt_tokens: int, completion_tokens: int) -> int:
    """Return what an answer of the site's model costs, worked out by hand."""
    return -(-(prompt_tokens * INPUT_PUSD + completion_tokens * OUTPUT_PUSD) // 1_000)


async def until(predicate: Callable[[], bool], what: str, *, wait_s: float) -> None:
    """Wait for a state that a blocking predicate sees; fail when it does not come."""
    deadline_s = time.monotonic() + wait_s
    while not await asyncio.to_thread(predicate):
        if time.monotonic() > deadline_s:
            raise AssertionError(f"never: {what}")
        await asyncio.sleep(_POLL_S)


@dataclass(slots=True)
class Told:
    """What the fake knows about one request; `usage` is what it reported, if it came so far."""

    prompt_tokens: int
    usage: Json | None = None
    chunks_sent: int = 0
    is_over: bool = False
    is_aborted: bool = False

    @property
    def figure_nusd(self) -> int:
        """What the upstream would bill: what it reported, else what it had sent."""
        if self.usage is not None:
            return price_nusd(self.usage["prompt_tokens"], self.usage["completion_tokens"])
        return price_nusd(self.prompt_tokens, self.chunks_sent) if self.chunks_sent else 0


class Upstream:
    """The fake upstream as a process."""

    def __init__(self, folder: Path) -> None:
        self._journal = folder / "upstream.jsonl"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.openai_upstream", "--journal", str(self._journal)],
            cwd=ROOT,
            env=environment({}),
            stdout=subprocess.PIPE,
            preexec_fn=with_parent,  # noqa: PLW1509 - one async-signal-safe system call
        )
        assert self._process.stdout is not None
        port = json.loads(self._process.stdout.readline())["port"]
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def told(self) -> dict[int, Told]:
        """Return what it knows, by the `serial=` in the prompt."""
        by_number: dict[int, Told] = {}
        by_serial: dict[int, Told] = {}
        for line in self._journal.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "request":
                found = _SERIAL.search(json.dumps(event["body"]))
                if found is None:
                    continue
                told = Told(int(_number("prompt", event["body"])))
                by_number[event["n"]] = told
                # A repeat of a request that a dead connection swallowed counts as the same one.
                by_serial[int(found[1])] = told
            elif told_before := by_number.get(event["n"]):
                _note(told_before, event)
        return by_serial

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@dataclass(slots=True)
class Site:
    """A folder that Turnpike runs in; made by `running_site`."""

    folder: Path
    settings: Json
    ports: Mapping[str, int]
    upstream: Upstream
    variables: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """What clients are given."""
        return f"http://127.0.0.1:{self.ports['gateway']}/v1"

    @property
    def config(self) -> Path:
        """Its `turnpike.yaml`."""
        return self.folder / "turnpike.yaml"

    @property
    def state_dir(self) -> Path:
        """Where it keeps its state."""
        return self.folder / "state"

    @property
    def admin(self) -> AdminClient:
        """A client of its admin port."""
        token = (self.state_dir / "secrets" / "admin_token").read_text().strip()
        return AdminClient(AdminAddress("127.0.0.1", self.ports["admin"], token))

    @property
    def note(self) -> Json:
        """What the first start wrote down."""
        found: Json = json.loads((self.state_dir / "first-run.json").read_text())
        return found

    @property
    def log(self) -> str:
        """The last lines that it wrote."""
        return (self.folder / "serve.log").read_text(errors="replace")[-6_000:]

    def spawn(self) -> None:
        """Start the process, on the main thread, whose end the kernel watches."""
        self.config.write_text(yaml.safe_dump(self.settings))
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve", "--config", str(self.config)],
                cwd=self.folder,
                env=environment(self.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=with_parent,  # noqa: PLW1509 - one async-signal-safe system call
            )

    async def start(self) -> float:
        """Start it, and return after how many seconds it was ready."""
        began_s = time.monotonic()
        self.spawn()
        await until(lambda: self.is_ready() or self.has_ended, "ready", wait_s=START_S)
        assert not self.has_ended, self.log
        return time.monotonic() - began_s

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.process is not None and self.process.poll() is not None

    def is_ready(self) -> bool:
        """Whether it takes requests, and has made its first key."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=_PROBE_S)
        try:
            connection.request("GET", "/readyz")
            is_open = connection.getresponse().status == http.client.OK
            return is_open and (self.state_dir / "first-run.json").exists()
        except OSError:
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """Kill the process as a crash would, and nothing else."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOP_S)

    def command(self, *arguments: str) -> None:
        """Run the command line on the site's settings."""
        self.config.write_text(yaml.safe_dump(self.settings))
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments, "--config", str(self.config)],
            cwd=self.folder,
            env=environment(self.variables),
            capture_output=True,
            timeout=_COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")

    def call(self, room: str, method: str, **request: object) -> Json:
        """Call an RPC by its name over the admin port."""
        return self.admin.call(room, method, request)

    def account_id(self) -> str:
        """Return the id of the first account."""
        found: str = self.call("auth", "ListAccounts", page_size=1)["accounts"][0]["account_id"]
        return found

    def credit(self, amount_nusd: int) -> None:
        """Give the first account money."""
        self.call(
            "payment",
            "CreditAccount",
            account_id=self.account_id(),
            amount_nusd=str(amount_nusd),
            source="manual",
            request_id=f"credit-{time.monotonic_ns()}",
        )

    def balance(self) -> dict[str, int]:
        """Return the first account's balance by part, nano-USD."""
        found = self.call("payment", "GetBalance", account_id=self.account_id())["balance"]
        return {part: int(found[f"{part}_nusd"]) for part in ("available", "held", "charged")}

    def ledger_balances(self) -> dict[str, int]:
        """Return every ledger account's balance; the customer's id is left out of its name."""
        rows = self.admin.pages("payment", "ListBalances", "balances", limit=10_000)
        return {
            re.sub(r"^customer:[^:]+", "customer", row["ledger_account"]): int(row["balance_nusd"])
            for row in rows
        }

    def usage(self) -> list[Json]:
        """Return every usage record, newest first."""
        return list(self.admin.pages("metering", "ListUsage", "records", limit=1_000_000))

    def verify(self) -> Json:
        """Return what `turnpike ledger verify` finds."""
        return self.call("payment", "VerifyLedger")

    def journalled(self) -> dict[str, UsageEvent]:
        """Return the last record of each request in the journals of routers that died."""
        last: dict[str, UsageEvent] = {}
        for path in sorted((self.state_dir / "journal").glob("*.segment")):
            for record in read_frames(path.read_bytes())[0]:
                event = UsageEvent.FromString(record)
                known = last.get(event.request_id)
                if known is None or known.kind != UsageEvent.KIND_OUTCOME:
                    last[event.request_id] = event
        return last


@asynccontextmanager
async def running_site(
    folder: Path,
    *,
    settings: Json | None = None,
    variables: Mapping[str, str] | None = None,
    credit_nusd: int = 0,
) -> AsyncIterator[Site]:
    """Run a site whose first account has a key and this credit; `variables` hold its secrets."""
    folder.mkdir(parents=True, exist_ok=True)
    upstream = Upstream(folder)
    ports = dict(zip(("gateway", "admin", "nats"), free_ports(3), strict=True))
    basis = basic_settings(folder, ports, upstream.base_url)
    site = Site(folder, merged(basis, settings or {}), ports, upstream)
    site.variables["TURNPIKE__AUTH__PEPPER"] = "pepper-of-the-test-and-of-nothing-else"
    site.variables.update(variables or {})
    try:
        if any("postgresql" in str(value) for value in site.settings["payment"].values()):
            site.command("db", "upgrade")
        await site.start()
        if credit_nusd:
            site.credit(credit_nusd)
        yield site
    finally:
        site.kill()
        upstream.stop()


def basic_settings(folder: Path, ports: Mapping[str, int], upstream_url: str) -> Json:
    """Return settings of a site with one model at the fake upstream and no rate limits."""
    deployment = {
        "name": "fake-chat-1",
        "provider": "fake",
        "upstream_model": "upstream-model",
        "price": {
            "input_usd_per_million": str(INPUT_PUSD / 1_000_000),
            "output_usd_per_million": str(OUTPUT_PUSD / 1_000_000),
        },
    }
    model = {
        "context_length": 1_000_000,
        "default_max_tokens": 64,
        "prompt_tokens_per_byte_max": PROMPT_TOKENS_PER_BYTE_MAX,
        "deployments": [deployment],
    }
    return {
        "state_dir": str(folder / "state"),
        "gateway": {"port": ports["gateway"], "grpc_port": 0},
        "admin": {"port": ports["admin"]},
        "nats": {"port": ports["nats"]},
        "triton": {"embedded": False},
        "first_run": {"credit_usd": "0"},
        "auth": {"tiers": {"default": {"requests_per_minute": 0, "tokens_per_minute": 0}}},
        "payment": {},
        "catalogue": {
            "providers": {"fake": {"kind": "openai_compat", "base_url": upstream_url}},
            "models": {MODEL: model},
        },
    }


def merged(below: Json, above: Json) -> Json:
    """Return two trees as one; the upper wins, value by value."""
    found = dict(below)
    for name, value in above.items():
        under = found.get(name)
        if isinstance(value, dict) and isinstance(under, dict):
            found[name] = merged(under, value)
        else:
            found[name] = value
    return found


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, nor is given for an outgoing connection.

    A site that is down must find its ports free when it comes back.
    """
    found: list[int] = []
    with ExitStack() as stack:
        for port in Random().sample(_PORTS, _PORTS_TRIED_MAX):
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError("There is no free port.")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what a process is started with: the paths to import from, and these."""
    paths = ":".join(str(Path(path).resolve()) for path in _import_path())
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **variables}


def _import_path() -> Iterator[str]:
    yield str(ROOT)
    yield str(ROOT / "protos" / "gen")
    yield from (path for path in sys.path if path)


def _number(name: str, body: object) -> str:
    found = re.search(rf"{name}=(\d+)", json.dumps(body))
    return found[1] if found else "0"


def _note(told: Told, event: Json) -> None:
    if event["event"] == "usage":
        told.usage = event["usage"]
    elif event["event"] == "end":
        told.is_over = True
        told.chunks_sent = event["chunks_sent"]
        told.is_aborted = event["is_aborted"]


def with_parent() -> None:
    """Have the kernel end a child when its parent ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
