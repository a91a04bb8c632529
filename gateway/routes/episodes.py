"""`GET` and `PUT /v1/episodes/{id}`: what an agent's episode may spend, and has spent.

A key without the scope admin can give an episode a budget and tighten it, never raise it.
"""

from aiohttp import web

from gateway.account.asked import budget_nusd, episode_id
from gateway.account.shapes import episode_object
from gateway.asking import Asker, answered, asking
from gateway.deps import Deps
from gateway.exchange import Exchange
from gateway.serve import read_json
from turnpike.payment.v1 import caps_pb2


async def get_episode(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Answer with an episode of the account."""
    exchange.route = "GET /v1/episodes/{id}"
    async with asking(deps, request, exchange, "usage") as asker:
        name = _name(deps, request)
        found = await _episode(deps, asker, name)
    return answered(deps, exchange, episode_object(name, found))


async def put_episode(
    deps: Deps, request: web.BaseRequest, exchange: Exchange
) -> web.StreamResponse:
    """Set an episode's budget and answer with the episode."""
    exchange.route = "PUT /v1/episodes/{id}"
    async with asking(deps, request, exchange, "chat") as asker:
        name = _name(deps, request)
        limit_nusd = budget_nusd(await read_json(deps, request))
        account_id = asker.principal.account_id
        await deps.caps.SetCap(
            caps_pb2.SetCapRequest(
                name=caps_pb2.CapName(
                    account_id=account_id,
                    scope=caps_pb2.CapName.SCOPE_EPISODE,
                    subject=name,
                    window=caps_pb2.CapName.WINDOW_TOTAL,
                ),
                limit_nusd=limit_nusd,
                is_tightening_only=not asker.is_admin,
                key_id=asker.principal.key_id,
                request_id=deps.new_id(),
            ),
            timeout=deps.settings.rpc_timeout_s,
        )
        await deps.admission.hold_episodes_singly(account_id)
        found = await _episode(deps, asker, name)
    return answered(deps, exchange, episode_object(name, found))


def _name(deps: Deps, request: web.BaseRequest) -> str:
    text = request.path.partition("/episodes/")[2]
    return episode_id(text.removesuffix("/"), now_unix_ms=deps.clock.unix_ms())


async def _episode(deps: Deps, asker: Asker, name: str) -> caps_pb2.GetEpisodeResponse:
    return await deps.caps.GetEpisode(
        caps_pb2.GetEpisodeRequest(
            account_id=asker.principal.account_id,
            episode_id=name,
            key_id=asker.principal.key_id,
        ),
        timeout=deps.settings.rpc_timeout_s,
    )
