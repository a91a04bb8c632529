"""A whole Turnpike as five processes beside a NATS server, each to be killed by itself."""

import asyncio
import http.client
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from tests.faults.site import (
    START_S,
    STOP_S,
    Json,
    Site,
    environment,
    free_ports,
    merged,
    running_site,
    until,
    with_parent,
)
from tests.fixtures.nats import NatsServer, running_nats

SERVICES: Final = ("auth", "metering", "payment", "router")
PROCESSES: Final = (*SERVICES, "gateway")
_PROBE_S: Final = 2.0


@dataclass(slots=True)
class Apart(Site):
    """A site whose rooms are processes; its admin port is the gateway's, which reaches all."""

    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    admin_ports: dict[str, int] = field(default_factory=dict)

    def spawn_one(self, name: str) -> None:
        """Start one process."""
        variables = {**self.variables, "TURNPIKE__ADMIN__PORT": str(self.admin_ports[name])}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "app.cli",
                    "serve",
                    "--target",
                    name,
                    "--config",
                    str(self.config),
                ],
                cwd=self.folder,
                env=environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=with_parent,  # noqa: PLW1509 - one async-signal-safe system call
            )

    async def start_one(self, name: str) -> None:
        """Start one process and wait until it takes work."""
        self.spawn_one(name)
        await until(lambda: self.is_up(name) or self.is_gone(name), f"{name} up", wait_s=START_S)
        assert not self.is_gone(name), self.said(name)

    def is_up(self, name: str) -> bool:
        """Return whether a process says that it is ready."""
        port = self.admin_ports[name]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def is_gone(self, name: str) -> bool:
        """Return whether a process has ended."""
        return self.processes[name].poll() is not None

    def said(self, name: str) -> str:
        """Return the last lines that a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-6_000:]

    def kill_one(self, name: str) -> None:
        """Kill one process as a crash would."""
        self.processes[name].kill()
        self.processes[name].wait()

    def kill(self) -> None:
        """Kill every process."""
        for name in self.processes:
            self.kill_one(name)

    async def stop(self) -> int:
        """Ask all of them to end, the gateway first, and return the largest exit code."""
        codes = [0]
        for name in reversed(PROCESSES):
            process = self.processes[name]
            process.send_signal(signal.SIGTERM)
            codes.append(await asyncio.to_thread(process.wait, STOP_S))
        return max(codes)


@asynccontextmanager
async def running_apart(
    folder: Path,
    *,
    settings: Json | None = None,
    variables: Mapping[str, str] | None = None,
    credit_nusd: int = 0,
) -> AsyncIterator[tuple[Apart, NatsServer]]:
    """Run a site in five processes whose first account has a key and this credit.

    One process with everything makes the key first, as an owner's first start does.
    """
    with running_nats() as nats:
        alone = merged({"nats": {"url": nats.url}}, settings or {})
        async with running_site(
            folder, settings=alone, variables=variables, credit_nusd=credit_nusd
        ) as site:
            assert await site.stop() == 0, site.log
            apart = _apart(site)
            try:
                for name in PROCESSES:
                    await apart.start_one(name)
                yield apart, nats
            finally:
                with suppress(ProcessLookupError):
                    apart.kill()


def _apart(site: Site) -> Apart:
    rpc_ports = free_ports(2 * len(SERVICES))
    admin_ports = dict(zip(SERVICES, rpc_ports[len(SERVICES) :], strict=True))
    peers = {name: f"127.0.0.1:{port}" for name, port in zip(SERVICES, rpc_ports, strict=False)}
    apart = Apart(
        site.folder,
        merged(site.settings, {"peers": peers}),
        site.ports,
        site.upstream,
        site.variables,
        admin_ports={**admin_ports, "gateway": site.ports["admin"]},
    )
    apart.config.write_text(yaml.safe_dump(apart.settings))
    return apart
