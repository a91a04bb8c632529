"""Whatever is granted, returned, charged late, refunded, swept or forgotten, in whatever window:

no cap is used above its limit by any of it, and its use is what its leases say.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from kit.db import upgrade
from kit.errors import Reason, TurnpikeError
from services.payment.caps.store_keeping import wrong_use
from services.payment.caps.store_limits import Wanted
from services.payment.caps.windows import CapName, Window
from services.payment.room import MIGRATIONS
from services.payment.store_leases import Grant, Shortage
from services.payment.store_tables import METADATA
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

_T = TypeVar("_T")
_ACCOUNTS = ("a", "b")
_KEYS = ("k1", "k2")
_EPISODES = ("", "e1", "e2")
_HOUR_S, _DAY_S = 3_600.0, 86_400.0
_NAMES = [
    *(account_cap(window) for window in Window),
    *(key_cap(window, key) for window in Window for key in _KEYS),
    *(episode_cap(episode) for episode in _EPISODES[1:]),
    key_budget("k1"),
]
_AMOUNTS = st.integers(1, 120)
_WHICH = st.integers(0, 2)


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("caps") / "migrated.db"
    asyncio.run(upgrade(f"sqlite+aiosqlite:///{path}", MIGRATIONS, METADATA))
    return path


class NotThere(Exception):  # noqa: N818 - an answer, no error
    """What was named is not there, or no longer."""


async def _there(work: Awaitable[object]) -> None:
    try:
        await work
    except TurnpikeError as error:
        if error.reason is Reason.NOT_FOUND:
            raise NotThere from error
        raise


def _recent(found: list[_T], which: int) -> _T:
    return found[-1 - which % len(found)]


class Spending(RuleBasedStateMachine):
    migrated: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        folder = self.stack.enter_context(TemporaryDirectory())
        path = shutil.copy(self.migrated, Path(folder) / "ledger.db")
        opening = open_rig(f"sqlite+aiosqlite:///{path}", is_migrated=True)
        self.rig: Rig = self.run(self.stack.enter_async_context(opening))
        self.leases: list[tuple[Grant, str, str]] = []
        self.requests: list[tuple[str, str, int, str]] = []
        self.used: dict[tuple[CapName, int], int] = {}
        for account in _ACCOUNTS:
            self.run(self.rig.credit(account, 2_000))
        for name in (account_cap(Window.MONTH), key_cap(Window.TOTAL, "k1"), episode_cap("e1")):
            self.run(self.rig.cap(name, 300))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        proof = self.run(self.rig.verify())
        rebuilt = self.run(self.rig.store.rebuild())
        self.run(self.stack.aclose())
        self.runner.close()
        assert [] == list(proof.findings)
        assert 0 == rebuilt[0]

    @rule(name=st.sampled_from(_NAMES), limit=st.integers(0, 400))
    def set_cap(self, name: CapName, limit: int) -> None:
        self.run(self.rig.cap(name, limit))

    @rule(name=st.sampled_from(_NAMES))
    def remove_cap(self, name: CapName) -> None:
        with suppress(NotThere):
            self.run(_there(self.rig.caps.remove(name, request_id=self.rig.new_id())))
        self.used = {place: used for place, used in self.used.items() if place[0] != name}

    @rule(
        account=st.sampled_from(_ACCOUNTS),
        key=st.sampled_from(_KEYS),
        episode=st.sampled_from(_EPISODES),
        need=_AMOUNTS,
        want=st.integers(0, 400),
    )
    def lease(self, account: str, key: str, episode: str, need: int, want: int) -> None:
        terms = self.rig.terms(account, need, want, key_id=key, episode_id=episode)
        answer = self.run(self.rig.store.lease(terms))
        if isinstance(answer, Shortage):
            assert answer.available_nusd < need
            return
        assert need <= answer.granted_nusd
        if episode and answer.holds_episodes_singly:
            assert need == answer.granted_nusd
        self.leases.append((answer, account, key))

    @rule(which=_WHICH, amount=_AMOUNTS)
    def give_back(self, which: int, amount: int) -> None:
        if self.leases:
            grant, _, _ = _recent(self.leases, which)
            with suppress(NotThere):  # swept and forgotten
                self.run(_there(self.rig.give_back(grant.lease_id, amount)))

    @rule(which=_WHICH, hold=_AMOUNTS, is_told=st.booleans())
    def begin(self, which: int, hold: int, *, is_told: bool) -> None:
        if self.leases:
            grant, account, key = _recent(self.leases, which)
            request = (f"r{len(self.requests):04d}", grant.lease_id, hold, account)
            self.requests.append(request)
            if is_told:
                event = intent(*request)
                event.key_id = key
                self.run(self.rig.settle(event))

    @rule(which=_WHICH, charge=_AMOUNTS, is_refunded=st.booleans(), is_lost=st.booleans())
    def end(self, which: int, charge: int, *, is_refunded: bool, is_lost: bool) -> None:
        if self.requests:
            request_id, lease_id, hold, account = _recent(self.requests, which)
            event = (refunded if is_refunded else outcome)(
                request_id,
                "unknown" if is_lost else lease_id,
                hold_nusd=hold,
                charge_nusd=charge,
                account_id=account,
            )
            event.key_id = _KEYS[which % 2]
            self.run(self.rig.settle(event))

    @rule(passes_s=st.sampled_from([1.0, 60.0, 60.0, 7 * _HOUR_S, _DAY_S, 9 * _DAY_S]))
    def sweep(self, passes_s: float) -> None:
        self.rig.clock.advance(passes_s)
        self.run(self.rig.settle())
        self.run(self.rig.store.sweep())

    @invariant()
    def use_is_what_leases_say(self) -> None:
        find = partial(wrong_use, count_max=10)
        assert [] == self.run(self.rig.transactions.read(find))

    @invariant()
    def no_use_grows_above_its_limit(self) -> None:
        wanted = Wanted("a", "", has_episodes=True, after=("", "", ""), count_max=100)
        for cap in self.run(self.rig.caps.page(wanted)):
            place = (cap.name, cap.span.start_unix_ms)
            before = self.used.get(place, 0)
            is_new = place not in self.used
            assert is_new or cap.used_nusd <= max(cap.limit_nusd, before), cap
            self.used[place] = cap.used_nusd


def test_no_cap_is_used_above_its_limit_and_use_is_what_leases_say(migrated: Path) -> None:
    Spending.migrated = migrated
    run_state_machine_as_test(
        Spending, settings=settings(max_examples=20, stateful_step_count=35, deadline=None)
    )
