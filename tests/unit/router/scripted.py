"""A provider that plays a script, and what a dispatcher needs around it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from kit.bus.memory import MemoryBus
from kit.bus.port import StreamSpec
from kit.clock import ManualClock
from kit.journal import open_journal
from services.router.catalog import CHAT_ONLY, Catalogue, Deployment, DeploymentType, Model
from services.router.dispatch import Dispatcher
from services.router.fleet import Fleet, Member, Wanted, open_fleet
from services.router.own_keys import OwnKeyRing
from services.router.pricing import PriceRow, ceiling, floor
from services.router.provider_entries import TritonEntry
from services.router.providers.port import Batch, Body, Call, ProviderError
from services.router.settings import RouterSettings
from services.router.supplies import Supply
from services.router.usage_log import UsageLog
from turnpike.events.v1 import events_pb2
from turnpike.router.v1 import router_pb2
from turnpike.type.v1 import usage_pb2

Step = Batch | ProviderError | Callable[[], None] | asyncio.Event
Scripts = dict[str, list[Sequence[Step]]]
NATIVE, EXTERNAL = DeploymentType.NATIVE, DeploymentType.EXTERNAL
PRICE = PriceRow("price-1", 10_000, 20_000)
BYOK_PRICE = PriceRow("price-2", 1_000, 2_000)
COST = PriceRow("cost-1", 3_001, 5_000)
SUPPLIES = {
    "fee": Supply("a", supplier_id="acme", fee_bps=1_000),
    "cost": Supply("a", cost=COST),
}


def content(text: str, *, completion: int | None = None, prompt: int = 7) -> Batch:
    """One content event, with running totals when `completion` is given."""
    batch = Batch(sse=f"data: {text}\n\n".encode(), content_event_count=1)
    if completion is not None:
        batch.running_usage.CopyFrom(usage(prompt, completion))
    return batch


def usage(prompt: int, completion: int) -> usage_pb2.TokenUsage:
    return usage_pb2.TokenUsage(
        prompt_token_count=prompt,
        completion_token_count=completion,
        source=usage_pb2.USAGE_SOURCE_UPSTREAM,
    )


def finish(prompt: int = 7, completion: int = 3) -> Batch:
    return Batch(
        finish=router_pb2.Finish(
            finish_chunks=[b"{}"], usage=usage(prompt, completion), finish_reason="stop"
        )
    )


@dataclass
class ScriptedProvider:
    """Plays one script for each call; remembers the calls and whether each was closed early."""

    scripts: list[Sequence[Step]]
    calls: list[Call] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    is_up: bool = True

    async def stream(
        self, call: Call, body: Body, *, deadline_s: float
    ) -> AsyncGenerator[Batch, None]:
        self.calls.append(call)
        end = "cut"
        try:
            for step in self.scripts.pop(0):
                if isinstance(step, ProviderError):
                    end = "failed"
                    raise step
                if isinstance(step, Batch):
                    yield step
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    step()
                    await asyncio.sleep(0)
            end = "whole"
        finally:
            self.ends.append(end)

    async def probe(self) -> bool:
        return self.is_up


@dataclass
class Rig:
    """A dispatcher over scripted deployments, and the events it published."""

    dispatcher: Dispatcher
    fleet: Fleet
    log: UsageLog
    bus: MemoryBus
    clock: ManualClock
    providers: dict[str, ScriptedProvider]
    settings: RouterSettings
    model: Model
    reads: int = 0

    def member(self, name: str) -> Member:
        """Return what the fleet knows of a deployment."""
        (found,) = (each for each in self.model.deployments if each.name == name)
        member = self.fleet.member(found)
        assert member is not None
        return member

    async def outcomes(self) -> list[events_pb2.UsageEvent]:
        """Publish what waits and return every outcome the stream has."""
        await self.log.publish_once()
        found: list[events_pb2.UsageEvent] = []
        for batch in await self.batches():
            found += [e for e in batch.events if e.kind == events_pb2.UsageEvent.KIND_OUTCOME]
        return found

    async def batches(self) -> list[events_pb2.UsageBatch]:
        """Return everything that is in the usage stream."""
        spec = StreamSpec(name="USAGE", subjects=("usage.v1.>",))
        self.reads += 1
        async with self.bus.consume(spec, durable=f"read-{self.reads}") as consumer:
            deliveries = await consumer.fetch(count_max=1000, wait_s=0.01)
        return [events_pb2.UsageBatch.FromString(d.data) for d in deliveries]


def request(**more: object) -> router_pb2.RunRequest:
    envelope = {
        "account_id": "account-1",
        "key_id": "key-1",
        "model_id": "model-1",
        "is_streaming": True,
        "max_tokens": 100,
        "lease_id": "lease-1",
        "hold_nusd": 10_000,
        "timeout_ms": 30_000,
        "id_prefix": "chatcmpl-",
        "prompt_tokens_max": 40,
    } | more
    envelope = {"completion_tokens_max": envelope["max_tokens"], **envelope}
    return router_pb2.RunRequest(
        envelope=router_pb2.Envelope(**envelope),  # type: ignore[arg-type]
        body=b'{"model":"model-1","messages":[]}',
    )


@asynccontextmanager
async def open_rig(
    tmp_path: Path,
    scripts: Scripts,
    settings: RouterSettings | None = None,
    own_keys: OwnKeyRing | None = None,
    operations: tuple["router_pb2.Operation.ValueType", ...] = CHAT_ONLY,
    *,
    external: Collection[str] = (),
) -> AsyncIterator[Rig]:
    """Deployments in the order of `scripts`, each with its scripts, one for each call.

    The provider of `a-1` is `a`; `a-fee` and `a-cost` owe as `SUPPLIES` says. With `own_keys` each
    takes keys that accounts bring.
    """
    settings = settings or RouterSettings()
    clock, bus = ManualClock(), MemoryBus()
    providers = {name: ScriptedProvider(list(list_)) for name, list_ in scripts.items()}
    kind = "scripted" if own_keys is None else "openai_compat"
    deployments = tuple(
        replace(_deployment(name, rank, kind), type=EXTERNAL if name in external else NATIVE)
        for rank, name in enumerate(scripts)
    )
    model = Model(
        model_id="model-1",
        aliases=(),
        owner="o",
        context_length=1000,
        default_max_tokens=100,
        prompt_tokens_per_kilobyte_max=512,
        create_unix_s=0,
        deployments=deployments,
        ceiling=ceiling([PRICE]),
        floor=floor([PRICE]),
        operations=operations,
    )
    catalogue = Catalogue(1, (model,), {"model-1": model})

    @asynccontextmanager
    async def open_provider(item: Wanted) -> AsyncIterator[ScriptedProvider]:
        yield providers[item.deployment.name]

    async with AsyncExitStack() as stack:
        journal = stack.enter_context(open_journal(tmp_path / "journal", bytes_max=10**6))
        log = UsageLog(
            router_id="router-1", journal=journal, bus=bus, clock=clock, settings=settings
        )
        await log.ensure_stream()
        fleet = await stack.enter_async_context(open_fleet(open_provider))
        entry = TritonEntry(kind="triton")
        await fleet.adopt([Wanted(d, entry, "mark") for d in deployments])
        dispatcher = Dispatcher(
            settings=settings,
            catalogue=lambda: catalogue,
            fleet=fleet,
            usage=log,
            clock=clock,
            keys=own_keys,
        )
        yield Rig(dispatcher, fleet, log, bus, clock, providers, settings, model)


def _deployment(name: str, rank: int, kind: str) -> Deployment:
    return Deployment(
        name=name,
        deployment_id=f"id-{name}",
        provider=name.partition("-")[0],
        kind=kind,
        backend="scripted",
        upstream_model="upstream",
        price=PRICE,
        byok_price=BYOK_PRICE,
        priority=rank,
        supply=SUPPLIES.get(name.partition("-")[2]),
    )
