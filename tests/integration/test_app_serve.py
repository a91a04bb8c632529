"""`turnpike serve` as processes: all in one, and each service by itself."""

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.processes import find_process
from tests.house.tree import ROOT

_PAUSE = threading.Event()
START_S = 45.0
WAIT_S = 30.0
PORTS = (
    "GATEWAY__PORT",
    "GATEWAY__GRPC_PORT",
    "ADMIN__PORT",
    "NATS__PORT",
    "TRITON__GRPC_PORT",
    "TRITON__HTTP_PORT",
    "TRITON__METRICS_PORT",
)
pytestmark = pytest.mark.timeout(180)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in opened]


def until(predicate: Callable[[], bool], what: str, *, wait_s: float = WAIT_S) -> None:
    deadline_s = time.monotonic() + wait_s
    while not predicate():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"never: {what}")
        _PAUSE.wait(0.05)


class Checkout:
    """A folder that Turnpike runs in, with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.variables: dict[str, str] = {}
        self.running: list[subprocess.Popen[bytes]] = []

    def environment(self, **more: str) -> dict[str, str]:
        moved = {f"TURNPIKE__{name}": str(port) for name, port in self.ports.items()}
        kept = {"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(sys.path)}
        return kept | moved | self.variables | more

    def serve(self, target: str = "all", **more: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{target}.out").open("wb") as out:
            started = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve", "--target", target],
                cwd=self.folder,
                env=self.environment(**more),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.running.append(started)
        return started

    def said(self, target: str = "all") -> str:
        return (self.folder / f"{target}.out").read_text()

    def start(self) -> subprocess.Popen[bytes]:
        process = self.serve()
        until(
            lambda: "Turnpike is ready." in self.said() or process.poll() is not None,
            "ready",
            wait_s=START_S,
        )
        assert process.poll() is None, self.said()
        return process

    def command(self, *arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments, "--json"],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout)

    def note(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(
            (self.folder / ".turnpike" / "first-run.json").read_text()
        )
        return found

    def children(self) -> list[int]:
        records = (self.folder / ".turnpike" / "run").glob("*/*.child.json")
        return [json.loads(path.read_text())["pid"] for path in records]

    def is_ready(self) -> bool:
        return self._get(self.ports["ADMIN__PORT"], "/readyz") == 200

    def ask(self, key: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["GATEWAY__PORT"], 30)
        body = {"model": "tiny-chat", "seed": 7, "max_tokens": 8, "temperature": 0}
        body["messages"] = [{"role": "user", "content": "Why is the sea salty?"}]
        try:
            connection.request(
                "POST",
                "/v1/chat/completions",
                json.dumps(body),
                {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read()
            assert 200 == answer.status, text
            found: dict[str, Any] = json.loads(text)
            return found
        finally:
            connection.close()

    @staticmethod
    def _get(port: int, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    found = Checkout(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.wait()


def test_start_answers_charges_and_ends_with_ctrl_c(checkout: Checkout) -> None:
    process = checkout.start()
    note, children = checkout.note(), checkout.children()

    answer = checkout.ask(note["api_key"])
    until(lambda: checkout.command("usage", "list")["records"] != [], "usage", wait_s=10.0)
    verified = checkout.command("ledger", "verify")
    explained = checkout.command("route", "explain", "--model", "tiny-chat")
    replayed = checkout.command("route", "replay")
    process.send_signal(signal.SIGINT)
    code = process.wait(WAIT_S)

    record_usage = answer["usage"]["total_tokens"]
    assert record_usage > 0
    assert verified["is_clean"]
    assert "tiny-chat-local" == explained["decision"]["first"]
    assert {"same_count": 0, "different": [], "lost": []} == replayed
    assert 2 == len(children)
    assert 0 == code, checkout.said()
    assert [] == [pid for pid in children if find_process(pid)]
    assert [] == checkout.children()


def test_readme_command_for_grpc_prints_an_answer(checkout: Checkout) -> None:
    checkout.start()
    line = next(
        x
        for x in (ROOT / "README.md").read_text().splitlines()
        if "grpc_client.py" in x and x.startswith(".venv")
    )
    _, script, *arguments = shlex.split(line)

    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments],
        cwd=checkout.folder,
        env=checkout.environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert done.stdout.strip()
    assert "tokens; $0.0" in done.stderr
    assert f"gRPC      {checkout.note()['grpc_address']}" in checkout.said()


def test_later_start_finds_its_data_and_mints_nothing(checkout: Checkout) -> None:
    checkout.variables["TURNPIKE__TRITON__EMBEDDED"] = "false"
    first = checkout.start()
    note = checkout.note()
    first.send_signal(signal.SIGTERM)
    first.wait(WAIT_S)

    checkout.start()

    assert note == checkout.note()
    assert note["api_key"] not in checkout.said()
    assert 1 == len(checkout.command("keys", "list")["keys"])
    balance = checkout.command("accounts", "list")["accounts"][0]["balance"]
    assert "1000000000" == balance["available_nusd"]


def test_killed_start_leaves_no_child_and_the_next_one_starts(checkout: Checkout) -> None:
    process = checkout.start()
    children = checkout.children()

    process.kill()
    process.wait()
    until(lambda: not any(find_process(pid) for pid in children), "children end")
    checkout.start()

    assert 2 == len(children)
    assert checkout.is_ready()


def test_second_start_in_the_same_folder_is_refused(checkout: Checkout) -> None:
    checkout.variables["TURNPIKE__TRITON__EMBEDDED"] = "false"
    checkout.start()

    second = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        cwd=checkout.folder,
        env=checkout.environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )

    assert 1 == second.returncode
    assert "runs already" in second.stderr
    assert 1 == len(second.stderr.splitlines())
    assert checkout.is_ready()


def test_split_processes_answer_like_one(checkout: Checkout) -> None:
    process = checkout.start()
    together = checkout.ask(checkout.note()["api_key"])
    process.send_signal(signal.SIGTERM)
    assert 0 == process.wait(WAIT_S)
    names = ("auth", "router", "metering", "payment")
    ports = free_ports(2 * len(names))
    for name, port in zip(names, ports, strict=False):
        checkout.variables[f"TURNPIKE__PEERS__{name.upper()}"] = f"127.0.0.1:{port}"

    special = {
        "auth": {"TURNPIKE__NATS__EMBEDDED": "true"},
        "router": {"TURNPIKE__TRITON__EMBEDDED": "true"},
    }
    for name, port in zip(names, ports[len(names) :], strict=True):
        checkout.serve(name, TURNPIKE__ADMIN__PORT=str(port), **special.get(name, {}))
    checkout.serve("gateway")
    until(checkout.is_ready, "the gateway is ready", wait_s=START_S)
    apart = checkout.ask(checkout.note()["api_key"])
    keys = checkout.command("keys", "list")["keys"]
    for running in checkout.running[1:]:
        running.send_signal(signal.SIGTERM)
    codes = [running.wait(WAIT_S) for running in checkout.running]

    assert together["choices"] == apart["choices"]
    assert together["usage"] == apart["usage"]
    assert set(together) == set(apart)
    assert 1 == len(keys)
    assert [0] * 6 == codes
