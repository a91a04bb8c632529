"""A Turnpike as processes that sells to whoever pays on a chain: `open_counter`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.payment.mpp.tempo import open_tempo
from tests.contract.chain_cases import ChainWorld
from tests.fakes.tempo_chain import chain_settings
from tests.fakes.tempo_payer import CHAIN_ID, PAYEE, PAYEE_KEY
from tests.faults.site import MODEL, Json, Site, merged, price_nusd, running_site, until
from tests.node.paying import Shop

SLICE_TOKENS: Final = 64
MAX_TOKENS: Final = 8 * SLICE_TOKENS
"""What a request holds that does not say how long its answer may be."""
NUSD_PER_BASE_UNIT: Final = 1_000
_SETTLED_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Counter:
    """Where something is sold, the site behind it, and the chain it is paid on."""

    shop: Shop
    site: Site
    chain: ChainWorld
    funds: int

    async def earned(self) -> int:
        """Return what the payee has got since the counter opened, base units."""
        return await self.chain.balance(PAYEE) - self.funds

    async def again(self, **mpp: Any) -> None:
        """Restart the site with other settings of `payment.mpp`."""
        assert await self.site.stop() == 0, self.site.log
        self.site.settings = merged(self.site.settings, {"payment": {"mpp": mpp}})
        await self.site.start()

    async def has_earned(self, amount: int) -> None:
        """Wait until the payee has got so much, and the books say so, base units."""
        amount_nusd = amount * NUSD_PER_BASE_UNIT

        def is_posted() -> bool:
            return self.site.ledger_balances().get("tempo_settled") == -amount_nusd

        await until(is_posted, f"{amount} are paid", wait_s=_SETTLED_S)
        assert amount == await self.earned()

    async def settled(self, count: int) -> Json:
        """Wait until so many requests are charged and nothing is held; return the verification."""
        found: list[Json] = []

        def is_settled() -> bool:
            found[:] = [self.site.verify()]
            still_open = int(found[0]["open_lease_count"]) + int(found[0]["open_hold_count"])
            return not still_open and len(self.site.usage()) == count

        await until(is_settled, f"{count} requests settled", wait_s=_SETTLED_S)
        return found[0]

    def price(self) -> int:
        """Return what all that was sold costs by its tokens, base units, rounded up once."""
        spent_nusd = 0
        for record in self.site.usage():
            usage = record["usage"]
            price = price_nusd(
                int(usage["prompt_token_count"]), int(usage["completion_token_count"])
            )
            assert price == int(record["charge_nusd"])
            spent_nusd += price
        return -(-spent_nusd // NUSD_PER_BASE_UNIT)


@asynccontextmanager
async def open_counter(folder: Path, rpc_url: str) -> AsyncIterator[Counter]:
    """Run a site on both rails."""
    basis = {"chain": {"rpc_url": rpc_url, "chain_id": CHAIN_ID}, "tick_s": 0.5}
    machine = {"is_enabled": True, "slice_tokens": SLICE_TOKENS}
    settings = {
        "gateway": {"machine_payments": machine},
        "payment": {"mpp": basis},
        "catalogue": {"models": {MODEL: {"default_max_tokens": MAX_TOKENS}}},
    }
    secrets = {
        "TURNPIKE__PAYMENT__MPP__SECRETS": '["a secret of thirty-two bytes or more"]',
        "TURNPIKE__PAYMENT__MPP__CHAIN__PAYEE_KEY": PAYEE_KEY,
    }
    chain_known = chain_settings(rpc_url)
    async with (
        open_tempo(chain_known) as tempo,
        running_site(folder / "site", settings=settings, variables=secrets) as site,
    ):
        world = ChainWorld(tempo, chain_known)
        shop = Shop(f"{site.base_url}/chat/completions", rpc_url, model=MODEL)
        yield Counter(shop, site, world, await world.balance(PAYEE))
