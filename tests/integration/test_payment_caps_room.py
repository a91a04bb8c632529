"""Caps at the room's border: what is refused by name, and who hears of a cap that is set."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from kit.bus.memory import MemoryBus
from kit.errors import Reason, TurnpikeError
from kit.tasks import background
from services.payment.caps.budgets import Budgets
from services.payment.caps.servicer import CapsServicer
from services.payment.leases import LEASE_RECALL, Leases
from services.payment.store_leases import LeaseTerms
from tests.unit.payment.rig import Rig, open_rig
from turnpike.events.v1.events_pb2 import LeaseRecall
from turnpike.payment.v1 import caps_pb2 as pb

CONTEXT: Any = None  # the servicer never looks at its context
ACCOUNT_DAY = pb.CapName(
    account_id="a", scope=pb.CapName.SCOPE_ACCOUNT, window=pb.CapName.WINDOW_DAY
)
EPISODE = pb.CapName(
    account_id="a", scope=pb.CapName.SCOPE_EPISODE, subject="e", window=pb.CapName.WINDOW_TOTAL
)


@dataclass
class Border:
    """The caps' border, the leases behind it, and the recalls that were heard."""

    rig: Rig
    servicer: CapsServicer
    leases: Leases
    recalls: asyncio.Queue[LeaseRecall]
    held: list[tuple[str, int]]

    async def set(self, name: pb.CapName, limit_nusd: int) -> pb.Cap:
        request = pb.SetCapRequest(name=name, limit_nusd=limit_nusd, request_id=self.rig.new_id())
        return (await self.servicer.SetCap(request, CONTEXT)).cap

    async def heard(self) -> list[bool]:
        """Return what the recalls said of episodes, once none is on its way any more."""
        marker = self.rig.new_id()
        await self.set(pb.CapName(**_named(ACCOUNT_DAY), account_id=marker), 1)
        said: list[bool] = []
        async with asyncio.timeout(5):
            while (recall := await self.recalls.get()).account_id != marker:
                said.append(recall.holds_episodes_singly)
        return said

    def terms(self, need_nusd: int) -> LeaseTerms:
        return self.rig.terms("a", need_nusd)


def _named(name: pb.CapName) -> dict[str, Any]:
    return {"scope": name.scope, "subject": name.subject, "window": name.window}


@pytest.fixture
async def border(sqlite_url: str) -> AsyncIterator[Border]:
    bus = MemoryBus()
    async with open_rig(sqlite_url) as rig, bus.subscribe(LEASE_RECALL) as messages:
        leases = Leases(rig.store, bus, settings=rig.settings)
        servicer = CapsServicer(rig.caps, Budgets(rig.caps, leases))
        here = Border(rig, servicer, leases, asyncio.Queue(100), [])

        async def answer_recalls() -> None:
            async for data in messages:
                recall = LeaseRecall.FromString(data)
                here.recalls.put_nowait(recall)
                while here.held and recall.account_id == "a":
                    lease_id, left = here.held.pop()
                    await leases.give_back(
                        lease_id=lease_id, undrawn_nusd=left, request_id=rig.new_id()
                    )

        async with background(answer_recalls, name="answer_recalls"):
            yield here


async def test_tighter_cap_calls_leases_back_and_a_looser_one_does_not(border: Border) -> None:
    await border.set(ACCOUNT_DAY, 100)
    created = await border.heard()
    await border.set(ACCOUNT_DAY, 200)
    raised = await border.heard()
    await border.set(ACCOUNT_DAY, 150)
    lowered = await border.heard()

    assert ([False], [], [False]) == (created, raised, lowered)


async def test_first_cap_of_an_episode_tells_holders_and_further_ones_do_not(
    border: Border,
) -> None:
    await border.set(EPISODE, 100)
    first = await border.heard()
    other = pb.CapName()
    other.CopyFrom(EPISODE)
    other.subject = "another"
    await border.set(other, 5)

    assert ([True], []) == (first, await border.heard())


async def test_request_that_a_cap_leaves_no_room_for_calls_unspent_leases_back(
    border: Border,
) -> None:
    await border.rig.credit("a", 10_000)
    await border.set(ACCOUNT_DAY, 100)
    await border.heard()
    grant = await border.leases.grant(border.terms(90))
    border.held.append((grant.lease_id, 80))

    second = await border.leases.grant(border.terms(50))
    with pytest.raises(TurnpikeError) as refused:
        await border.leases.grant(border.terms(50))

    assert 50 == second.granted_nusd
    assert Reason.BILLING_HARD_LIMIT_REACHED == refused.value.reason
    assert {
        "limit_source": "account_day",
        "limit_nusd": "100",
        "used_nusd": "60",
        "available_nusd": "40",
        "need_nusd": "50",
        "missing_nusd": "10",
        "missing_usd": "0.00000001",
    }.items() <= refused.value.metadata.items()
    assert 0 == int(refused.value.metadata["resets_unix_s"]) % 86_400


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"account_id": ""}, "account_id"),
        ({"account_id": "a" * 129}, "account_id"),
        ({"scope": pb.CapName.SCOPE_UNSPECIFIED}, "scope"),
        ({"window": pb.CapName.WINDOW_UNSPECIFIED}, "window"),
        ({"subject": "k"}, "subject"),
        ({"scope": pb.CapName.SCOPE_KEY}, "subject"),
        ({"scope": pb.CapName.SCOPE_KEY, "subject": "k\n"}, "subject"),
        ({"scope": pb.CapName.SCOPE_EPISODE, "subject": "e"}, "window"),
        ({"scope": pb.CapName.SCOPE_KEY_EPISODE, "subject": "k"}, "window"),
    ],
)
async def test_cap_that_cannot_be_is_refused_by_name(
    border: Border, change: dict[str, Any], param: str
) -> None:
    name = pb.CapName(**{"account_id": "a", **_named(ACCOUNT_DAY), **change})

    for call in (
        border.set(name, 1),
        border.servicer.RemoveCap(pb.RemoveCapRequest(name=name, request_id="r"), CONTEXT),
    ):
        with pytest.raises(TurnpikeError) as refused:
            await call
        assert param == refused.value.metadata["param"]


@pytest.mark.parametrize(
    ("method", "request_", "param"),
    [
        ("SetCap", pb.SetCapRequest(name=ACCOUNT_DAY, limit_nusd=-1), "limit_nusd"),
        ("SetCap", pb.SetCapRequest(name=ACCOUNT_DAY, limit_nusd=10**16), "limit_nusd"),
        ("SetCap", pb.SetCapRequest(name=ACCOUNT_DAY), "request_id"),
        ("RemoveCap", pb.RemoveCapRequest(name=ACCOUNT_DAY), "request_id"),
        ("ListCaps", pb.ListCapsRequest(), "account_id"),
        ("ListCaps", pb.ListCapsRequest(account_id="a", page_size=1_001), "page_size"),
        ("ListCaps", pb.ListCapsRequest(account_id="a", page_token="x"), "page_token"),
        ("GetEpisode", pb.GetEpisodeRequest(account_id="a"), "episode_id"),
        ("GetEpisode", pb.GetEpisodeRequest(account_id="a", episode_id="e"), "episode_id"),
    ],
)
async def test_border_refuses_what_is_missing_or_out_of_range(
    border: Border, method: str, request_: Any, param: str
) -> None:
    with pytest.raises(TurnpikeError) as refused:
        await getattr(border.servicer, method)(request_, CONTEXT)

    assert param == refused.value.metadata["param"]


async def test_caps_are_listed_in_pages_with_when_they_reset(border: Border) -> None:
    for name in (ACCOUNT_DAY, EPISODE):
        await border.set(name, 7)
    request = pb.ListCapsRequest(account_id="a", has_episodes=True, page_size=1)

    first = await border.servicer.ListCaps(request, CONTEXT)
    request.page_token = first.next_page_token
    second = await border.servicer.ListCaps(request, CONTEXT)

    assert [ACCOUNT_DAY, EPISODE] == [first.caps[0].name, second.caps[0].name]
    assert 0 == first.caps[0].reset_time.seconds % 86_400
    assert not second.caps[0].HasField("reset_time")
