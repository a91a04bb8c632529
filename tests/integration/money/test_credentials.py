"""Credentials over HTTP: each buys one answer, whichever gateway they reach, and none comes out."""

import asyncio
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest
import structlog

from kit.logs import configure_logs
from tests.fakes.machine_client import CHAT, MachineClient, Met, unbase64url
from tests.fixtures.catalogues import chat
from tests.fixtures.paid import SECRET, OpenPaid, PaidSite
from tests.fixtures.plain_logs import plain_logs

PARALLEL = 50


@pytest.mark.parametrize("is_streaming", [False, True])
async def test_failure_25_parallel_uses_of_one_credential_deliver_once(
    paid: PaidSite, is_streaming: bool
) -> None:
    client = paid.client(1)
    body = chat("shape=c5-d0", stream=is_streaming, max_tokens=16)
    await client.chat(body)
    credential = await client.credential(body)

    replies = await asyncio.gather(*(client.send(body, credential) for _ in range(PARALLEL)))

    statuses = Counter(reply.status for reply in replies)
    assert 1 == statuses[200], statuses
    assert {200, 402, 503} >= set(statuses), statuses
    assert all("Payment-Receipt" not in reply.headers for reply in replies if reply.status != 200)
    assert 2 == len(paid.site.main.seen)
    await paid.settled(client, 2)


async def test_failure_25_parallel_uses_of_one_opening_open_once_and_deliver_once(
    paid: PaidSite,
) -> None:
    client = paid.client(2)
    body = chat("shape=c5-d0", max_tokens=16)
    credential = await client.credential(body)

    replies = await asyncio.gather(*(client.send(body, credential) for _ in range(10)))

    assert 1 == Counter(reply.status for reply in replies)[200]
    assert 1 == len(paid.chain.world.channels)
    await paid.settled(client, 1)


class Overheard(MachineClient):
    """A client whose vouchers a stranger writes down."""

    def __init__(self, like: MachineClient) -> None:
        super().__init__(like.http, like.base_url, like.payer)
        self.sent: list[str] = []

    def pays(self, challenge: Met, cumulative: int) -> str:
        self.sent.append(super().pays(challenge, cumulative))
        return self.sent[-1]


async def test_failure_26_captured_voucher_buys_nothing_after_the_stream(
    open_paid: OpenPaid,
) -> None:
    paid = await open_paid(slice_tokens=8)
    client = Overheard(paid.client(3))
    body = chat("shape=c60-d2", stream=True, max_tokens=64)
    await client.chat(body)
    await client.chat(body)
    records = await paid.settled(client, 2)
    assert 2 <= len(client.sent)

    replayed = [await client.send(body, credential) for credential in client.sent]

    assert {402} == {reply.status for reply in replayed}
    assert 2 == len(paid.site.main.seen)
    assert len(records) == len(await paid.settled(client, 2))


async def test_failure_27_vouchers_reach_a_stream_by_another_gateway(open_paid: OpenPaid) -> None:
    paid = await open_paid(slice_tokens=8)
    other = await paid.site.open_another()
    url = f"http://127.0.0.1:{other.port}"
    client = paid.client(4)
    client.manage = partial(client.manage, base_url=url)  # type: ignore[method-assign] # elsewhere

    answer = await client.chat(chat("shape=c80-d2", stream=True, max_tokens=100))

    assert answer.is_whole, answer.events
    assert 3 <= len(answer.needs)
    assert answer.receipt is not None
    await paid.settled(client, 1)


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
async def test_failure_27_voucher_without_a_body_is_taken_by_any_method(
    paid: PaidSite, method: str
) -> None:
    client = paid.client(5)
    await client.chat(chat(max_tokens=16))
    challenge = await client.met(chat(max_tokens=16))

    taken = await client.manage(client.pays(challenge, client.cumulative + 7), method=method)

    assert 204 == taken.status, taken.body
    assert taken.receipt is not None
    assert str(client.cumulative) == taken.receipt["acceptedCumulative"]
    assert 1 == len(paid.site.main.seen)


async def test_failure_27_same_voucher_twice_in_parallel_counts_once(paid: PaidSite) -> None:
    client = paid.client(6)
    await client.chat(chat(max_tokens=16))
    challenge = await client.met(chat(max_tokens=16))
    credential = client.pays(challenge, client.cumulative + 7)

    twice = await asyncio.gather(*(client.manage(credential) for _ in range(2)))

    assert [204, 204] == [reply.status for reply in twice]
    found = {reply.receipt["acceptedCumulative"] for reply in twice if reply.receipt}
    assert {str(client.cumulative)} == found


@pytest.fixture
def log_text() -> Iterator[io.StringIO]:
    """Everything the process logs, in the product's own form, from the lowest level up."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    names = ("aiohttp", "aiohttp.server", "aiosqlite", "asyncio", "sqlalchemy.engine")
    levels = {name: logging.getLogger(name).level for name in names}
    stream = io.StringIO()
    configure_logs(level="debug", stream=stream)
    structlog.configure(cache_logger_on_first_use=False)
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield stream
    root.handlers, root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(capture=False)
    plain_logs()


async def test_failure_41_no_credential_and_no_signature_comes_out(
    log_text: io.StringIO, open_paid: OpenPaid
) -> None:
    paid = await open_paid(slice_tokens=8)
    client = paid.client(7, deposit=1_000_000)
    body = chat("shape=c40-d2", stream=True, max_tokens=64)
    credential = await client.credential(body)
    bodies = b""
    first = await client.send(body, credential)
    assert first.is_whole, first.events
    assert client.last is not None

    forged = json.loads(unbase64url(credential))
    forged["payload"]["action"] = "voucher"
    forged["payload"]["signature"] = "0x" + "ab" * 65
    fresh = await client.met(body)
    spoilt = fresh.answered(forged["payload"])
    top_up = client.tops_up(client.last, 5)
    offered = (
        credential,
        spoilt,
        credential[:-30],
        "credential-canary-1141",
        client.closes(client.last, 1),
    )
    for each in offered:
        bodies += (await client.send(body, each)).body
        bodies += (await client.manage(each)).body
    bodies += (await client.manage(top_up, path="/v1/models")).body
    async with client.http.get(f"{client.base_url}{CHAT}") as answer:
        bodies += await answer.read()
    await paid.settled(client, 1)
    closed = await client.close()
    assert 204 == closed.status, closed.body

    site = paid.site
    site.access_log.flush()
    said = log_text.getvalue() + site.metrics() + b"".join(site.access_lines).decode()
    said += bodies.decode() + "".join(str(event) for event in first.events)
    assert "gateway" in site.metrics()
    secrets = [*offered, top_up, SECRET, forged["payload"]["signature"]]
    for each in (credential, top_up, offered[-1]):
        payload = json.loads(unbase64url(each))["payload"]
        secrets += [payload[name] for name in ("signature", "transaction") if name in payload]
    for secret in secrets:
        core = secret.removeprefix("0x")
        assert core[:40] not in said, f"{core[:12]}... came out"
        assert core[-40:] not in said, f"...{core[-12:]} came out"
