"""The machine rail from HTTP to the chain: gateway, payment and router are the real ones."""

import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.machine.settings import MachinePaymentSettings
from services.payment.mpp.settings import MppSettings
from tests.fakes.machine_payments import decoded
from tests.fakes.tempo_chain import (
    FUNDS,
    FakeTempo,
    chain_settings,
    open_tempo_chain,
)
from tests.fakes.tempo_payer import Opening, TempoPayer
from tests.fixtures.catalogues import chat, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Site, Wish, until
from tests.fixtures.machine import CHAT, Event, events_of, text_in
from tests.integration.gateway.wire import Answer, answer_of, tokens

LONG = chat("shape=c32-d2", stream=True, max_tokens=64)
PLAIN = chat("shape=c16-d0", max_tokens=32)
_PARAM = re.compile(r'(\w+)="([^"]*)"')


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@dataclass(slots=True)
class Wallet:
    """A client with a channel: it signs what it is asked for."""

    site: Site
    chain: FakeTempo
    payer: TempoPayer
    opening: Opening
    is_open: bool = False
    signed: int = 0
    challenge: Any = None

    @property
    def key(self) -> Key:
        account_id = f"tempo:{self.opening.channel_id}"
        return Key(account_id, account_id, "")

    async def challenged(self, body: Any) -> Answer:
        hint = {"Payment-Session": self.opening.channel_id} if self.is_open else {}
        answer = await answer_of(self.site.http.post(self.site.url + CHAT, json=body, headers=hint))
        assert 402 == answer.status, answer.body
        offers = [dict(_PARAM.findall(each)) for each in answer.headers.getall("WWW-Authenticate")]
        self.challenge = next(each for each in offers if each["intent"] == "session")
        return answer

    def credential(self, action: str, cumulative: int) -> str:
        self.signed = max(self.signed, cumulative)
        channel = self.opening.channel_id
        payload: dict[str, Any] = {
            "action": action,
            "channelId": channel,
            "descriptor": self.opening.descriptor.wire(),
            "cumulativeAmount": str(cumulative),
            "signature": self.payer.voucher(channel, cumulative),
        }
        if action == "open":
            payload |= {"type": "transaction", "transaction": self.opening.raw}
        source = f"did:pkh:eip155:{self.payer.terms.chain_id}:{self.payer.address}"
        return encoded({"challenge": self.challenge, "payload": payload, "source": source})

    async def buying(self, body: Any) -> Any:
        """Return the call that buys an answer."""
        await self.challenged(body)
        amount = int(decoded(self.challenge["request"])["amount"])
        action = "voucher" if self.is_open else "open"
        self.is_open = True
        return self.post(self.credential(action, self.signed + amount), json=body)

    def post(self, credential: str, **more: Any) -> Any:
        headers = {"Authorization": f"Payment {credential}"}
        return self.site.http.post(self.site.url + CHAT, headers=headers, **more)

    async def manage(self, action: str, cumulative: int) -> Answer:
        return await answer_of(self.post(self.credential(action, cumulative)))


@pytest.fixture(params=[False, True], ids=["local", "socket"])
async def wallet(open_site: OpenSite, request: pytest.FixtureRequest) -> AsyncIterator[Wallet]:
    async with open_tempo_chain() as chain:
        mpp = MppSettings(chain=chain_settings(chain.url), secrets=(SecretStr("s" * 32),))
        machine = MachinePaymentSettings(is_enabled=True, slice_tokens=8, voucher_wait_s=1.0)
        site = await open_site(
            Wish(
                is_split=request.param,
                payment={"mpp": mpp},
                gateway={"machine_payments": machine},
            )
        )
        payer = TempoPayer()
        yield Wallet(site, chain, payer, payer.open(2_000_000))


async def test_failure_34_payee_gets_what_was_spent_in_a_stream_and_no_more(wallet: Wallet) -> None:
    seen: list[Event] = []
    async with await wallet.buying(LONG) as response:
        assert 200 == response.status, await response.read()
        async for event in events_of(response):
            seen.append(event)
            if event.name == "payment-need-voucher":
                answer = await wallet.manage("voucher", int(event.data["requiredCumulative"]))
                assert 204 == answer.status, answer.body

    receipt = seen[-2].data
    cost = price_nusd(12, 32)
    spent = -(-cost // 1000)
    closed = await wallet.manage("close", wallet.signed)

    assert tokens(32) == text_in(seen)
    assert len([event for event in seen if event.name == "payment-need-voucher"]) >= 3
    assert ("payment-receipt", str(spent)) == (seen[-2].name, receipt["spent"])
    assert 204 == closed.status, closed.body
    assert FUNDS + spent == wallet.chain.balance(wallet.payer.terms.payee)
    (record,) = await wallet.site.records(wallet.key)
    assert cost == record.charge_nusd


async def test_plain_answers_use_up_headroom(wallet: Wallet) -> None:
    answers = [await answer_of(await wallet.buying(PLAIN)) for _ in range(3)]

    cost = price_nusd(12, 16)
    assert [200] * 3 == [answer.status for answer in answers]
    receipts = [decoded(answer.headers["Payment-Receipt"]) for answer in answers]
    assert [str(-(-n * cost // 1000)) for n in (1, 2, 3)] == [each["spent"] for each in receipts]
    await until(lambda: _is_settled(wallet, 3 * cost))


async def _is_settled(wallet: Wallet, cost_nusd: int) -> bool:
    balance = await wallet.site.balance(wallet.key)
    return balance.charged_nusd == cost_nusd and balance.held_nusd == 0


async def test_failure_28_stream_without_a_voucher_is_charged_as_far_as_it_came(
    wallet: Wallet,
) -> None:
    async with await wallet.buying(LONG) as response:
        seen = [event async for event in events_of(response)]

    delivered = len(text_in(seen).split())
    await until(lambda: _has_record(wallet))
    (record,) = await wallet.site.records(wallet.key)
    assert "voucher_timeout" == seen[-1].data["error"]["code"]
    assert 0 < delivered < 32
    assert delivered == record.usage.completion_token_count


async def _has_record(wallet: Wallet) -> bool:
    return bool(await wallet.site.records(wallet.key))


async def test_failure_26_credential_buys_once(wallet: Wallet) -> None:
    await wallet.challenged(PLAIN)
    amount = int(decoded(wallet.challenge["request"])["amount"])
    credential = wallet.credential("open", amount)

    first = await answer_of(wallet.post(credential, json=PLAIN))
    again = await answer_of(wallet.post(credential, json=PLAIN))

    assert (200, 402) == (first.status, again.status)
