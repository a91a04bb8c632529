"""`/livez`, `/readyz` and `/metrics`."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.deps import DEPS
from gateway.exchange import EXCHANGE
from gateway.openai.schema import encode


async def livez(request: web.Request) -> web.Response:
    """Say that the process answers."""
    request[EXCHANGE].route = "GET /livez"
    return web.json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Say whether requests are taken, and what is missing when not."""
    request[EXCHANGE].route = "GET /readyz"
    missing = request.app[DEPS].readiness.missing()
    body = encode({"status": "ready" if not missing else "not ready", "missing": missing})
    return web.Response(
        status=503 if missing else 200, body=body, headers={"Content-Type": "application/json"}
    )


async def metrics(request: web.Request) -> web.Response:
    """Give Prometheus its text."""
    deps = request.app[DEPS]
    request[EXCHANGE].route = "GET /metrics"
    return web.Response(
        body=generate_latest(deps.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )
