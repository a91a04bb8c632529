"""Rows T2, T3 and T4: streams that are paid slice by slice, and what happens when they are not."""

from typing import Any

import pytest

from kit.errors import Reason, TurnpikeError
from tests.fakes.machine_payments import CHANNEL
from tests.fixtures.catalogues import chat, price_nusd
from tests.fixtures.gateway import Key, OpenSite, Wish, until
from tests.fixtures.machine import (
    ENOUGH,
    Event,
    MachineSite,
    events_in,
    events_of,
    open_machine_site,
    text_in,
)
from tests.integration.gateway.wire import stalled, tokens
from turnpike.payment.v1 import machine_pb2 as pb

SLICE = 8
LONG = chat("shape=c32-d2", stream=True, max_tokens=64)
PROMPT_MAX_NUSD = 100
"""More than the prompt of these requests is held for, nano-USD."""


@pytest.fixture(params=[False, True], ids=["local", "socket"])
async def machine(open_site: OpenSite, request: pytest.FixtureRequest) -> MachineSite:
    wish = Wish(is_split=request.param)
    return await open_machine_site(open_site, wish, slice_tokens=SLICE, voucher_wait_s=0.4)


async def first_units(machine: MachineSite, body: Any) -> tuple[str, int]:
    """Return a challenge and the base units that its first slice takes."""
    challenge = await machine.challenge(body)
    return challenge, -(-machine.rail.terms[challenge].slice_nusd // 1000)


async def paid_on(machine: MachineSite, response: Any) -> list[Event]:
    """Read a stream to its end, sending the vouchers that it asks for."""
    seen = []
    async for event in events_of(response):
        seen.append(event)
        if event.name == "payment-need-voucher":
            answer = await machine.voucher(int(event.data["requiredCumulative"]))
            assert 204 == answer.status
    return seen


async def test_t2_stream_asks_for_vouchers_and_goes_on(machine: MachineSite) -> None:
    challenge, units = await first_units(machine, LONG)

    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        seen = await paid_on(machine, response)

    needs = [event.data for event in seen if event.name == "payment-need-voucher"]
    assert tokens(32) == text_in(seen)
    assert "[DONE]" == seen[-1].data
    assert len(needs) >= 3
    assert all(
        {"channelId", "requiredCumulative", "acceptedCumulative", "deposit"} <= set(need)
        and int(need["requiredCumulative"]) > int(need["acceptedCumulative"])
        for need in needs
    )


async def test_t4_receipt_comes_before_done(machine: MachineSite) -> None:
    async with machine.post(LONG, await machine.credential(LONG, ENOUGH)) as response:
        seen = [event async for event in events_of(response)]

    *_, last, receipt, done = seen
    assert ("payment-receipt", "[DONE]") == (receipt.name, done.data)
    assert "stop" == last.data["choices"][0]["finish_reason"]
    assert {"challengeId": "ch-1", "method": "tempo", "status": "success"}.items() <= (
        receipt.data.items()
    )
    assert {"intent", "timestamp", "channelId", "acceptedCumulative", "spent", "reference"} <= set(
        receipt.data
    )
    assert price_nusd(12, 32) == machine.rail.channel.spent_nusd
    assert "Payment-Receipt" not in response.headers


async def test_failure_40_events_are_empty_chunks_for_those_who_do_not_know_them(
    machine: MachineSite,
) -> None:
    challenge, units = await first_units(machine, LONG)
    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        seen = await paid_on(machine, response)

    chunk = seen[0].data
    for event in seen:
        if event.name:
            assert [{"index": 0, "delta": {}, "finish_reason": None}] == event.data["choices"]
            assert all(
                chunk[name] == event.data[name] for name in ("id", "object", "created", "model")
            )


async def test_t3_stream_ends_without_a_voucher_and_what_was_delivered_is_charged(
    machine: MachineSite,
) -> None:
    challenge, units = await first_units(machine, LONG)

    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        seen = [event async for event in events_of(response)]

    error = seen[-1].data["error"]
    delivered = len(text_in(seen).split())
    assert ("voucher_timeout", "payment_required") == (error["code"], error["type"])
    assert 1 <= delivered <= SLICE + 2
    assert "payment-receipt" not in {event.name for event in seen}
    await until(lambda: all(one.is_over for one in machine.site.main.seen))
    assert machine.site.main.seen[0].chunks_sent < 33


async def test_failure_28_timeout_cancels_the_upstream_and_is_counted(
    machine: MachineSite,
) -> None:
    body = chat("shape=c32-d2", stream=True, max_tokens=64)
    challenge, units = await first_units(machine, body)

    async with machine.post(body, f"open.{CHANNEL}.{units}.{challenge}") as response:
        await response.read()

    metrics = machine.site.metrics()
    assert "turnpike_gateway_voucher_timeouts_total 1" in metrics
    assert "turnpike_gateway_voucher_waits_total 1" in metrics
    assert machine.site.logged()[-1]["error"] == "VOUCHER_TIMEOUT"
    await until(lambda: machine.site.main.seen[0].is_over)
    assert [] == machine.rail.of(pb.ConcludeRequest)


async def test_failure_29_voucher_before_it_is_asked_for_needs_no_event(
    machine: MachineSite,
) -> None:
    challenge, units = await first_units(machine, LONG)

    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        await machine.voucher(ENOUGH)
        seen = [event async for event in events_of(response)]

    assert tokens(32) == text_in(seen)
    assert len([event for event in seen if event.name == "payment-need-voucher"]) <= 1


async def test_failure_29_voucher_after_a_close_is_refused(machine: MachineSite) -> None:
    challenge, units = await first_units(machine, LONG)

    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        seen = []
        async for event in events_of(response):
            seen.append(event)
            if event.name == "payment-need-voucher":
                closed = await machine.voucher(units, action="close")
                late = await machine.voucher(ENOUGH)

    assert (204, 410) == (closed.status, late.status)
    assert "gone" == seen[-1].data["error"]["code"]
    assert "Payment-Receipt" not in late.headers


async def test_first_batch_beyond_the_first_slice_waits_like_any_other(
    open_site: OpenSite,
) -> None:
    machine = await open_machine_site(open_site, slice_tokens=2)
    body = chat("shape=c16-d0", stream=True, max_tokens=64)
    challenge, units = await first_units(machine, body)

    async with machine.post(body, f"open.{CHANNEL}.{units}.{challenge}") as response:
        seen = await paid_on(machine, response)

    assert tokens(16) == text_in(seen)
    assert "acme/small" == response.headers["X-Route-Model"]
    assert "upstream-small" == response.headers["X-Model-Used"]


async def test_nothing_is_delivered_beyond_what_is_held(machine: MachineSite) -> None:
    challenge, units = await first_units(machine, LONG)
    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        seen = [event async for event in events_of(response)]

    held_nusd = machine.rail.terms[challenge].slice_nusd
    delivered = len(text_in(seen).split())
    assert price_nusd(0, delivered) <= held_nusd
    assert price_nusd(0, delivered + 4) > held_nusd - PROMPT_MAX_NUSD * 1000


async def test_upstream_is_not_read_while_a_stream_pauses(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site, slice_tokens=4)
    body = chat("fake=chunks:8000;event_bytes:8000", stream=True, max_tokens=8000)
    challenge, units = await first_units(machine, body)

    async with machine.post(body, f"open.{CHANNEL}.{units}.{challenge}") as response:
        async for event in events_of(response):
            if event.name == "payment-need-voucher":
                break
        sent = await stalled(machine.site.main)
        running = machine.site.gateway.deps.running.count
        await machine.voucher(10**9)
        rest = b"".join([data async for data in response.content.iter_any()])

    assert 1 == running
    assert sent < 8000 * 8000 // 2
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_paused_stream_is_kept_alive(open_site: OpenSite) -> None:
    wish = Wish(gateway={"keep_alive_s": 0.01})
    machine = await open_machine_site(open_site, wish, slice_tokens=4, voucher_wait_s=2.5)
    challenge, units = await first_units(machine, LONG)

    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        body = await response.read()

    paused = body[body.index(b"payment-need-voucher") :]
    assert b": keep-alive\n\n" in paused
    assert "voucher_timeout" == events_in(body)[-1].data["error"]["code"]


async def test_client_that_leaves_a_paused_stream_ends_it_at_once(open_site: OpenSite) -> None:
    machine = await open_machine_site(open_site, slice_tokens=4)
    challenge, units = await first_units(machine, LONG)

    async with machine.post(LONG, f"open.{CHANNEL}.{units}.{challenge}") as response:
        async for event in events_of(response):
            if event.name == "payment-need-voucher":
                break
        response.close()

    await until(lambda: machine.site.gateway.deps.running.count == 0)
    await until(lambda: machine.site.main.seen[0].is_over)
    assert 499 == machine.site.logged()[-1]["status"]
    assert [] == machine.rail.of(pb.ConcludeRequest)


async def test_payment_that_is_away_ends_a_stream_where_its_slice_ends(
    open_site: OpenSite,
) -> None:
    wish = Wish(gateway={"rpc_timeout_s": 0.3})
    machine = await open_machine_site(open_site, wish, slice_tokens=4)
    away = TurnpikeError(Reason.UNAVAILABLE, "The room is away.")
    machine.rail.broken["ExtendRequest"] = away

    async with machine.post(LONG, await machine.credential(LONG, ENOUGH)) as response:
        seen = [event async for event in events_of(response)]

    assert "ledger_unavailable" == seen[-1].data["error"]["code"]
    assert 1 <= len(text_in(seen).split()) <= 6


async def test_answer_without_a_conclusion_is_whole_and_has_no_receipt(
    open_site: OpenSite,
) -> None:
    machine = await open_machine_site(open_site, Wish(gateway={"rpc_timeout_s": 0.3}))
    away = TurnpikeError(Reason.UNAVAILABLE, "The room is away.")
    machine.rail.broken["ConcludeRequest"] = away
    plain = chat("shape=c4-d0")

    streamed = await machine.paid(LONG)
    whole = await machine.paid(plain)

    assert "[DONE]" == events_in(streamed.body)[-1].data
    assert b"payment-receipt" not in streamed.body
    assert (200, False) == (whole.status, "Payment-Receipt" in whole.headers)
    assert "turnpike_gateway_receipts_missing_total 2" in machine.site.metrics()


async def test_constrained_request_is_held_whole(machine: MachineSite) -> None:
    body = chat("shape=c4-d0", stream=True, guided_choice=["a", "b"])
    await machine.challenge(body)
    await machine.challenge({**body, "guided_choice": None})

    asked = [call.terms for call in machine.rail.of(pb.ChallengeRequest)]
    assert asked[0].slice_nusd == asked[0].hold_nusd
    assert asked[1].slice_nusd < asked[1].hold_nusd


async def test_receipt_tells_what_the_stream_cost(machine: MachineSite) -> None:
    answer = await machine.paid(LONG)

    receipt = events_in(answer.body)[-2].data
    assert str(-(-price_nusd(12, 32) // 1000)) == receipt["spent"]
    assert 32 == receipt["units"]
    concluded = machine.rail.of(pb.ConcludeRequest)[0]
    assert concluded.run_id == answer.headers["X-Request-Id"]


async def test_slices_are_asked_for_ahead(machine: MachineSite) -> None:
    async with machine.post(LONG, await machine.credential(LONG, ENOUGH)) as response:
        seen = [event async for event in events_of(response)]

    asked = [call.total_nusd for call in machine.rail.of(pb.ExtendRequest)]
    terms = machine.rail.terms["ch-1"]
    assert tokens(32) == text_in(seen)
    assert sorted(asked) == asked
    assert asked[-1] <= terms.hold_nusd
    assert len(asked) >= 2


@pytest.mark.parametrize("script", ["chunks:40;joined:1", "chunks:16", "chunks:32;delay_ms:2"])
@pytest.mark.parametrize("is_split", [False, True], ids=["local", "socket"])
async def test_answer_is_charged_as_far_as_it_was_paid_for_and_delivered(
    open_site: OpenSite, script: str, *, is_split: bool
) -> None:
    wish = Wish(is_split=is_split)
    machine = await open_machine_site(open_site, wish, slice_tokens=4, voucher_wait_s=0.2)
    body = chat(f"fake={script}", stream=True, max_tokens=64)
    challenge, units = await first_units(machine, body)

    async with machine.post(body, f"open.{CHANNEL}.{units}.{challenge}") as response:
        seen = [event async for event in events_of(response)]

    payer = Key(f"tempo:{CHANNEL}", f"tempo:{CHANNEL}", "")
    await until(lambda: _has_record(machine, payer))
    (record,) = await machine.site.records(payer)
    delivered = len(text_in(seen).split())
    assert "voucher_timeout" == seen[-1].data["error"]["code"]
    assert delivered == record.usage.completion_token_count
    assert bool(delivered) == bool(record.charge_nusd)
    assert record.charge_nusd <= machine.rail.terms[challenge].slice_nusd


async def _has_record(machine: MachineSite, payer: Key) -> bool:
    return bool(await machine.site.records(payer))
