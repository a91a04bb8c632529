"""Spend caps on SQLite and PostgreSQL: what they let through, what counts, and their proof."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from kit.errors import Reason, TurnpikeError
from services.payment.caps.store import Wish
from services.payment.caps.store_limits import Wanted
from services.payment.caps.windows import CapName, Window
from services.payment.store_leases import Grant, Shortage
from tests.unit.payment.rig import (
    Rig,
    account_cap,
    episode_cap,
    intent,
    key_budget,
    key_cap,
    open_rig,
    outcome,
    refunded,
)

DAY_S = 86_400.0


@pytest.fixture
async def rig(database_url: str) -> AsyncIterator[Rig]:
    async with open_rig(database_url) as opened:
        await opened.credit("a", 10_000)
        yield opened
        assert (await opened.verify()).is_clean


async def used(rig: Rig, name: CapName) -> int:
    wanted = Wanted(name.account_id, "", has_episodes=True, after=("", "", ""), count_max=100)
    return next(cap.used_nusd for cap in await rig.caps.page(wanted) if cap.name == name)


async def shortage(
    rig: Rig, need_nusd: int, *, key_id: str = "key", episode_id: str = ""
) -> Shortage:
    terms = rig.terms("a", need_nusd, key_id=key_id, episode_id=episode_id)
    answer = await rig.store.lease(terms)
    assert isinstance(answer, Shortage)
    return answer


async def granted(
    rig: Rig, need_nusd: int, want_nusd: int = 0, *, key_id: str = "key", episode_id: str = ""
) -> Grant:
    terms = rig.terms("a", need_nusd, want_nusd, key_id=key_id, episode_id=episode_id)
    answer = await rig.store.lease(terms)
    assert isinstance(answer, Grant)
    return answer


async def end_leases(rig: Rig) -> None:
    """Let all leases end and be swept."""
    rig.clock.advance(60.0)
    await rig.settle()
    await rig.store.sweep()


@pytest.mark.parametrize("name", [account_cap(Window.DAY), key_cap(Window.MONTH)])
async def test_grant_is_a_share_of_the_smallest_room_and_never_above_it(
    rig: Rig, name: CapName
) -> None:
    await rig.cap(name, 100)

    sizes = [(await granted(rig, 20, 1_000)).granted_nusd for _ in range(4)]
    answer = await shortage(rig, 20)

    assert [25, 20, 20, 20] == sizes
    assert (15, 85) == (answer.available_nusd, answer.held_nusd)
    assert answer.cap is not None
    assert (name, 100, 85) == answer.cap[:3]
    assert 15 == (await granted(rig, 15)).granted_nusd
    assert 100 == await used(rig, name)


async def test_what_a_lease_gives_back_can_be_used_again(rig: Rig) -> None:
    await rig.cap(account_cap(Window.DAY), 100)
    grant = await granted(rig, 100)

    await rig.give_back(grant.lease_id, 70)
    await rig.settle(outcome("r1", grant.lease_id, hold_nusd=30, charge_nusd=10))

    assert 30 == await used(rig, account_cap(Window.DAY))
    await end_leases(rig)
    assert 10 == await used(rig, account_cap(Window.DAY))
    assert 90 == (await granted(rig, 90)).granted_nusd


async def test_use_of_one_key_is_nothing_to_another(rig: Rig) -> None:
    await rig.cap(key_cap(Window.DAY, "k1"), 50)
    await rig.cap(account_cap(Window.DAY), 85)

    await granted(rig, 50, key_id="k1")
    await granted(rig, 30, key_id="k2")

    assert "key_day" == (await shortage(rig, 1, key_id="k1")).cap.source  # type: ignore[union-attr]
    assert "account_day" == (await shortage(rig, 6, key_id="k2")).cap.source  # type: ignore[union-attr]


async def test_next_day_has_its_own_room_and_a_return_counts_in_the_day_of_its_lease(
    rig: Rig,
) -> None:
    name = account_cap(Window.DAY)
    await rig.cap(name, 100)
    old = await granted(rig, 100)

    rig.clock.advance(DAY_S)
    await granted(rig, 60)
    await rig.give_back(old.lease_id, 100)

    assert 60 == await used(rig, name)
    assert 41 > (await shortage(rig, 41)).available_nusd


async def test_cap_that_is_set_late_counts_what_its_window_has_seen(rig: Rig) -> None:
    grant = await granted(rig, 100)
    await rig.settle(outcome("r1", grant.lease_id, hold_nusd=100, charge_nusd=70))

    for name in (account_cap(Window.DAY), key_cap(Window.MONTH), key_cap(Window.TOTAL, "other")):
        await rig.cap(name, 150)
    await end_leases(rig)

    assert 70 == await used(rig, account_cap(Window.DAY))
    assert 70 == await used(rig, key_cap(Window.MONTH))
    assert 0 == await used(rig, key_cap(Window.TOTAL, "other"))


async def test_use_survives_the_leases_that_made_it(rig: Rig) -> None:
    await rig.cap(account_cap(Window.TOTAL), 1_000)
    grant = await granted(rig, 100)
    lost = await granted(rig, 50)
    await rig.settle(
        refunded("r1", grant.lease_id, hold_nusd=20, charge_nusd=20),
        outcome("r2", grant.lease_id, hold_nusd=80, charge_nusd=80),
    )
    await rig.give_back(lost.lease_id, 50)
    rig.clock.advance(8 * DAY_S)
    await rig.settle()
    await rig.store.sweep()

    await rig.cap(key_cap(Window.TOTAL), 1_000)

    assert 80 == await used(rig, account_cap(Window.TOTAL))
    assert 80 == await used(rig, key_cap(Window.TOTAL))
    assert 80 == (await rig.balance("a"))[2]


async def test_refund_is_no_use(rig: Rig) -> None:
    await rig.cap(account_cap(Window.MONTH), 100)
    grant = await granted(rig, 40)

    await rig.settle(refunded("r1", grant.lease_id, hold_nusd=40, charge_nusd=40))

    assert 0 == await used(rig, account_cap(Window.MONTH))


async def test_late_charge_takes_what_the_cap_leaves_and_the_rest_is_written_off(rig: Rig) -> None:
    await rig.cap(account_cap(Window.TOTAL), 100)
    late = await granted(rig, 60)
    await rig.settle(intent("r1", late.lease_id, 60))
    await end_leases(rig)
    await granted(rig, 70)

    applied = await rig.settle(outcome("r1", late.lease_id, hold_nusd=60, charge_nusd=50))

    assert (30, 20) == (applied.charged_nusd, applied.writeoff_nusd)
    assert 100 == await used(rig, account_cap(Window.TOTAL))


async def test_late_charge_without_a_lease_counts_now(rig: Rig) -> None:
    await rig.cap(key_cap(Window.DAY), 100)

    applied = await rig.settle(outcome("r1", "forgotten", hold_nusd=150, charge_nusd=130))

    assert (100, 30) == (applied.charged_nusd, applied.writeoff_nusd)
    assert 100 == await used(rig, key_cap(Window.DAY))


async def test_lowered_cap_refuses_until_its_use_is_below_it_again(rig: Rig) -> None:
    await rig.cap(account_cap(Window.MONTH), 100)
    grant = await granted(rig, 80)

    changed = await rig.cap(account_cap(Window.MONTH), 50)
    answer = await shortage(rig, 1)
    await rig.give_back(grant.lease_id, 60)

    assert changed.is_tighter
    assert 0 == answer.available_nusd
    assert 30 == (await granted(rig, 30)).granted_nusd


async def test_removed_cap_lets_everything_through_and_its_use_is_forgotten(rig: Rig) -> None:
    await rig.cap(account_cap(Window.MONTH), 10)
    await shortage(rig, 11)

    removed = await rig.caps.remove(account_cap(Window.MONTH), request_id=rig.new_id())

    assert 10 == removed.cap.limit_nusd
    await granted(rig, 11)
    with pytest.raises(TurnpikeError) as refused:
        await rig.caps.remove(account_cap(Window.MONTH), request_id=rig.new_id())
    assert Reason.NOT_FOUND == refused.value.reason


async def test_episode_with_a_cap_gets_exactly_what_it_needs_and_no_more_than_its_cap(
    rig: Rig,
) -> None:
    before = await granted(rig, 10, 1_000, episode_id="e1")
    changed = await rig.cap(episode_cap("e1"), 50)

    grant = await granted(rig, 40, 1_000, episode_id="e1")
    shared = await granted(rig, 40, 1_000)

    assert (before.holds_episodes_singly, grant.holds_episodes_singly) == (False, True)
    assert changed.is_tighter
    assert (40, True) == (grant.granted_nusd, shared.granted_nusd > 40)
    answer = await shortage(rig, 11, episode_id="e1")
    assert answer.cap is not None
    assert ("episode", 10) == (answer.cap.source, answer.available_nusd)
    assert not (await rig.cap(episode_cap("e1"), 51)).is_tighter
    assert 11 == (await granted(rig, 11, episode_id="e1")).granted_nusd


async def test_budget_of_a_key_holds_for_each_of_its_episodes(rig: Rig) -> None:
    await rig.cap(key_budget("k1"), 30)

    for episode in ("e1", "e2"):
        await granted(rig, 30, key_id="k1", episode_id=episode)
        await shortage(rig, 1, key_id="k1", episode_id=episode)
    await granted(rig, 500, key_id="k2", episode_id="e3")
    await rig.cap(episode_cap("e1"), 40)

    assert 10 == (await granted(rig, 10, key_id="k1", episode_id="e1")).granted_nusd


async def test_episode_tells_what_is_spent_and_what_is_held(rig: Rig) -> None:
    await rig.cap(episode_cap("e1"), 100)
    first = await granted(rig, 40, episode_id="e1")
    await granted(rig, 25, episode_id="e1")
    await rig.settle(outcome("r1", first.lease_id, hold_nusd=40, charge_nusd=15))
    await rig.give_back(first.lease_id, 25)

    found = await rig.caps.episode("a", "e1", key_id="key")

    assert (100, 40, 25) == (found.limit_nusd, found.used_nusd, found.held_nusd)


async def test_key_that_may_only_tighten_cannot_raise_its_own_budget(rig: Rig) -> None:
    await rig.cap(key_budget("k1"), 30)

    async def set_by_key(limit_nusd: int) -> None:
        await rig.cap(episode_cap("e1"), limit_nusd, key_id="k1", is_tightening_only=True)

    with pytest.raises(TurnpikeError) as above_budget:
        await set_by_key(31)
    await set_by_key(20)
    with pytest.raises(TurnpikeError) as raised:
        await set_by_key(21)

    assert {Reason.KEY_SCOPE} == {above_budget.value.reason, raised.value.reason}
    assert "budget" == raised.value.metadata["param"]
    assert 20 == (await rig.caps.episode("a", "e1", key_id="k1")).limit_nusd


async def test_repeated_setting_gets_the_first_answer(rig: Rig) -> None:
    wish = Wish(account_cap(Window.DAY), 5, "same")
    first = await rig.caps.set(wish)
    await rig.cap(account_cap(Window.DAY), 9)

    again = await rig.caps.set(wish)

    assert first == again
    assert 9 == (await shortage(rig, 10)).cap.limit_nusd  # type: ignore[union-attr]


async def test_account_has_no_more_caps_than_it_may(rig: Rig) -> None:
    rig.caps._count_max = 3
    for number in range(3):
        await rig.cap(episode_cap(f"e{number}"), 1)

    with pytest.raises(TurnpikeError) as refused:
        await rig.cap(episode_cap("e3"), 1)

    assert Reason.UNPROCESSABLE == refused.value.reason
    await rig.cap(episode_cap("e0"), 2)


async def test_caps_are_listed_in_pages_without_those_of_other_keys(rig: Rig) -> None:
    names = [
        account_cap(Window.DAY),
        account_cap(Window.TOTAL),
        key_cap(Window.DAY, "k1"),
        key_budget("k1"),
    ]
    for name in (*names, episode_cap("e1"), key_cap(Window.DAY, "k2")):
        await rig.cap(name, 7)

    found: list[CapName] = []
    after = ("", "", "")
    while page := await rig.caps.page(
        Wanted("a", "k1", has_episodes=False, after=after, count_max=3)
    ):
        found += [cap.name for cap in page]
        after = (page[-1].name.scope, page[-1].name.subject, page[-1].name.window)

    assert names == found


async def test_past_days_are_forgotten_and_what_has_a_cap_is_not(rig: Rig) -> None:
    for name in (account_cap(Window.DAY), account_cap(Window.TOTAL), episode_cap("kept")):
        await rig.cap(name, 100)
    for episode in ("kept", "gone"):
        grant = await granted(rig, 10, episode_id=episode)
        await rig.settle(outcome(episode, grant.lease_id, hold_nusd=10, charge_nusd=10))

    rig.clock.advance(rig.settings.caps.keep_s + 2 * DAY_S)
    await rig.settle()
    await rig.store.sweep()

    rows = await rig.transactions.read(
        lambda connection: connection.execute(
            text("SELECT subject, used_nusd FROM cap_use ORDER BY scope, subject")
        ).all()
    )
    assert [("", 20), ("kept", 10)] == [tuple(row) for row in rows]


async def test_verification_names_a_cap_whose_use_was_tampered_with_and_a_rebuild_mends_it(
    rig: Rig,
) -> None:
    await rig.cap(key_cap(Window.TOTAL), 100)
    await granted(rig, 30)
    statement = text("UPDATE cap_use SET used_nusd = 29")
    await rig.transactions.write(lambda connection: connection.execute(statement))

    found = (await rig.verify()).findings

    assert [("cap", "a:key:key:total")] == [(each.check, each.subject) for each in found]
    assert "Expected 30 nUSD, found 29." == found[0].detail
    await rig.store.rebuild()
    assert 30 == await used(rig, key_cap(Window.TOTAL))


async def test_two_hundred_parallel_leases_on_a_cap_for_ten_grant_exactly_ten(rig: Rig) -> None:
    await rig.cap(account_cap(Window.DAY), 70)

    answers = await asyncio.gather(*(rig.store.lease(rig.terms("a", 7)) for _ in range(200)))

    assert 10 == sum(isinstance(answer, Grant) for answer in answers)
    assert 70 == await used(rig, account_cap(Window.DAY))
