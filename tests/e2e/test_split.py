"""The same requests to one process with everything and to five processes: the same answers."""

import http.client
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_app_serve import START_S, WAIT_S, Checkout, free_ports, until

pytestmark = pytest.mark.timeout(240)
SERVICES = ("auth", "router", "metering", "payment")
CHAT = "/v1/chat/completions"
OWN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}|(?<=\"created\":)\d+")
SHOWN = (
    "Content-Type",
    "X-Backend",
    "X-Deployment-Id",
    "X-Model-Used",
    "X-Route-Model",
    "X-RateLimit-Limit",
    "X-RateLimit-Tier",
    "X-Turnpike-Attempts",
    "X-Turnpike-Cost",
    "Allow",
)


def ask(**fields: Any) -> bytes:
    messages = [{"role": "user", "content": "Why is the sea salty?"}]
    body = {"model": "tiny-chat", "seed": 11, "max_tokens": 12, "messages": messages, **fields}
    return json.dumps(body).encode()


REQUESTS: dict[str, tuple[str, str, bytes]] = {
    "plain": ("POST", CHAT, ask()),
    "stream": ("POST", CHAT, ask(stream=True)),
    "usage": ("POST", CHAT, ask(stream=True, stream_options={"include_usage": True})),
    "vram": ("POST", "/vram/v1/chat/completions", ask()),
    "bud": ("POST", "/bud/v1/chat/completions", ask()),
    "bias": ("POST", CHAT, ask(logit_bias={"5": 1})),
    "models": ("GET", "/v1/models", b""),
    "model": ("GET", "/v1/models/tiny-chat", b""),
    "no json": ("POST", CHAT, b"{"),
    "bad value": ("POST", CHAT, ask(temperature=3)),
    "no model": ("POST", CHAT, ask(model="acme/none")),
    "too long": ("POST", CHAT, ask(messages=[{"role": "user", "content": "x" * 70_000}])),
    "no path": ("POST", "/v1/nothing", ask()),
    "no method": ("DELETE", CHAT, b""),
}


def send(port: int, key: str, name: str) -> tuple[int, dict[str, str | None], str]:
    """Return an answer without what is its own: identifiers and times."""
    method, path, body = REQUESTS[name]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = OWN.sub("0", answer.read().decode())
        return answer.status, {name: answer.headers.get(name) for name in SHOWN}, text
    finally:
        connection.close()


def told(answer: tuple[int, dict[str, str | None], str]) -> tuple[int, dict[str, Any], str]:
    """Return an answer with a stream's text joined: where chunks are cut is not promised."""
    status, headers, text = answer
    if not (headers["Content-Type"] or "").startswith("text/event-stream"):
        return status, headers, text
    chunks = [json.loads(b[6:]) for b in text.split("\n\n") if b.startswith("data: {")]
    words = [c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"]]
    ends = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    usage = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    return status, headers, json.dumps(["".join(words), ends, usage, text[-14:]])


def spent(checkout: Checkout, count: int) -> list[tuple[Any, ...]]:
    """Wait for so many records and return what they say of usage and charge, oldest first."""
    found: list[Any] = []

    def are_there() -> bool:
        found[:] = checkout.command("usage", "list")["records"]
        return len(found) >= count

    until(are_there, "usage", wait_s=15.0)
    return [(r["usage"], r["charge_nusd"], r["outcome"], r["model_id"]) for r in reversed(found)]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    found = Checkout(tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.wait()


def start_split(checkout: Checkout) -> None:
    ports = free_ports(2 * len(SERVICES))
    for name, port in zip(SERVICES, ports, strict=False):
        checkout.variables[f"TURNPIKE__PEERS__{name.upper()}"] = f"127.0.0.1:{port}"
    special = {
        "auth": {"TURNPIKE__NATS__EMBEDDED": "true"},
        "router": {"TURNPIKE__TRITON__EMBEDDED": "true"},
    }
    for name, port in zip(SERVICES, ports[len(SERVICES) :], strict=True):
        checkout.serve(name, TURNPIKE__ADMIN__PORT=str(port), **special.get(name, {}))
    checkout.serve("gateway")
    until(checkout.is_ready, "the gateway is ready", wait_s=START_S)


def test_five_processes_answer_and_charge_like_one(checkout: Checkout) -> None:
    process = checkout.start()
    port, key = checkout.ports["GATEWAY__PORT"], checkout.note()["api_key"]
    together = {name: told(send(port, key, name)) for name in REQUESTS}
    charged = spent(checkout, 5)
    process.send_signal(signal.SIGTERM)
    assert 0 == process.wait(WAIT_S)

    start_split(checkout)
    apart = {name: told(send(port, key, name)) for name in REQUESTS}
    refused = send(port, "sk-tp-none", "plain")
    again = spent(checkout, 10)
    verified = checkout.command("ledger", "verify")
    brought = checkout.command("byok", "list")

    assert together == apart
    statuses = [status for status, _, _ in together.values()]
    assert [200] * 5 + [400, 200, 200, 400, 400, 404, 400, 404, 405] == statuses
    assert 401 == refused[0]
    assert [*charged, *charged] == again
    assert verified["is_clean"]
    assert {"keys": []} == brought
