"""`make bench`: prepares Turnpike for the harness and runs `compare.py` with the row `turnpike`.

    python bench/run.py --only direct,nginx,tensorzero,turnpike --rounds 3

A real nats-server runs outside the measured group. Turnpike starts once to make its key, then once
more under the harness, with everything on: key check, rate limits, routing, lease, journal, usage
events, metering, settlement and metrics. Options it does not know go to `compare.py`.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BIN = Path(sys.executable).parent
READY_S = 60.0

SITE = """
state_dir: {work}/state
gateway: {{port: {port}, grpc_port: 0}}
admin: {{port: {admin_port}}}
nats: {{embedded: false, url: "nats://127.0.0.1:{nats_port}"}}
triton: {{embedded: false}}
first_run: {{credit_usd: "1000000"}}
"""
SETTINGS = SITE + """
auth:
  tiers: {{default: {{requests_per_minute: 1000000000, tokens_per_minute: 1000000000000}}}}
catalogue:
  providers:
    mock: {{kind: openai_compat, base_url: "http://127.0.0.1:9100/v1"}}
  models:
    mock-model:
      context_length: 32768
      deployments:
        - name: mock
          provider: mock
          upstream_model: mock-model
          price: {{input_usd_per_million: "0.10", output_usd_per_million: "0.40"}}
"""
GATEWAY = """
[[gateway]]
name = "turnpike"
port = {port}
command = ["{turnpike}", "serve", "--config", "{config}"]
headers = ["Authorization: Bearer {key}"]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nats(work: Path, port: int) -> subprocess.Popen[bytes]:
    sys.path.insert(0, str(ROOT))
    from kit.bus.nats_binary import find_nats_server

    binary = find_nats_server()
    if binary is None:
        sys.exit("nats-server is missing: make setup")
    with (work / "nats.log").open("wb") as log:
        return subprocess.Popen(
            [binary, "-js", "-sd", str(work / "nats"), "-a", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def make_key(config: Path, state: Path) -> str:
    """Start Turnpike until it has made its first key; returns the key."""
    with (config.parent / "first.log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "turnpike", "serve", "--config", str(config)], stdout=log, stderr=log
        )
    until = time.monotonic() + READY_S
    note = state / "first-run.json"
    while not note.exists():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            sys.exit(f"turnpike did not start; see {config.parent / 'first.log'}")
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.wait(READY_S)
    return str(json.loads(note.read_text())["api_key"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="direct,nginx,turnpike")
    args, rest = parser.parse_known_args()
    if "nginx" in args.only and shutil.which("nginx") is None:
        sys.exit("nginx is missing: apt-get install nginx-light")
    work = Path(tempfile.mkdtemp(prefix="turnpike-bench-"))
    ports = {name: free_port() for name in ("port", "admin_port", "nats_port")}
    config = work / "turnpike.yaml"
    config.write_text(SETTINGS.format(work=work, **ports))
    server = nats(work, ports["nats_port"])
    try:
        key = make_key(config, work / "state")
        entry = work / "gateways.toml"
        entry.write_text(
            GATEWAY.format(port=ports["port"], turnpike=BIN / "turnpike", config=config, key=key)
        )
        command = [sys.executable, HERE / "compare.py", "--config", HERE / "gateways.toml", entry]
        command += ["--only", args.only, "--work", work, *rest]
        environment = os.environ | {
            "BENCH_PEERS": os.environ.get("BENCH_PEERS", str(HERE / "peers"))
        }
        return subprocess.call([str(part) for part in command], env=environment)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
