"""`/livez`, `/readyz` and `/metrics`."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.openai.schema import encode


async def livez(_deps: Deps, _request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Say that the process answers."""
    exchange.route = "GET /livez"
    return web.json_response({"status": "ok"})


async def readyz(deps: Deps, _request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Say whether requests are taken, and what is missing when not."""
    exchange.route = "GET /readyz"
    missing = deps.readiness.missing()
    body = encode({"status": "ready" if not missing else "not ready", "missing": missing})
    return web.Response(
        status=503 if missing else 200, body=body, headers={"Content-Type": "application/json"}
    )


async def metrics(deps: Deps, _request: web.BaseRequest, exchange: Exchange) -> web.Response:
    """Give Prometheus its text."""
    exchange.route = "GET /metrics"
    return web.Response(
        body=generate_latest(deps.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )
