"""What routers tell each other about deployments, so that all of them agree within a second.

A word that is lost costs little: every router finds out by itself what it was not told.
"""

import asyncio
import math
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from kit.bus.port import Bus, BusUnavailableError
from services.router.fleet import Fleet
from turnpike.events.v1 import events_pb2

HEALTH_SUBJECT: Final = "router.health.v1"
REST_MAX_S: Final = 3600.0
"""Longest rest that is believed."""

UNTOLD_MAX: Final = 1024
"""Most deployments that there is something to tell about; what comes on top is not told."""

_log = structlog.get_logger("router.health")


class SharedHealth:
    """Tells what one fleet finds out, and takes what others say."""

    def __init__(self, fleet: Fleet, bus: Bus, router_id: str) -> None:
        self._fleet = fleet
        self._bus = bus
        self._router_id = router_id
        self._untold: dict[str, float] = {}
        self._wake = asyncio.Event()
        fleet.on_turn = self._found_out

    def _found_out(self, name: str, rest_s: float) -> None:
        if name in self._untold or len(self._untold) < UNTOLD_MAX:
            self._untold[name] = rest_s
            self._wake.set()

    async def tell(self) -> None:
        """Publish for ever what is found out; only the latest of each deployment."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            untold, self._untold = self._untold, {}
            for name, rest_s in untold.items():
                word = events_pb2.DeploymentHealth(
                    router_id=self._router_id, deployment=name, rest_s=rest_s
                )
                try:
                    await self._bus.publish(HEALTH_SUBJECT, word.SerializeToString())
                except BusUnavailableError as error:
                    _log.warning("health_not_told", deployment=name, why=str(error))

    async def listen(self) -> None:
        """Take for ever what others say."""
        async with self._bus.subscribe(HEALTH_SUBJECT) as messages:
            async for data in messages:
                try:
                    word = events_pb2.DeploymentHealth.FromString(data)
                except DecodeError:
                    continue
                if word.router_id == self._router_id or not math.isfinite(word.rest_s):
                    continue
                self._fleet.heard(word.deployment, min(max(0.0, word.rest_s), REST_MAX_S))
