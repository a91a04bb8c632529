"""The admin port: probes for everyone, calls for who has the token, failures as JSON."""

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter
from pydantic import SecretStr

from app.admin import open_admin
from app.errors import StartError
from app.settings_sections import AdminSettings
from kit.rpc.transcode import Transcoder
from tests.fakes.rooms import SECRET, FakeRooms

TOKEN = "token-of-the-test"
AUTH = "/rpc/turnpike.auth.v1.AuthService"


@dataclass
class Admin:
    client: aiohttp.ClientSession
    rooms: FakeRooms
    is_ready: bool = True

    async def call(
        self, path: str, body: str = "{}", *, token: str = TOKEN
    ) -> tuple[int, dict[str, object]]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.client.post(path, data=body, headers=headers) as answer:
            return answer.status, await answer.json()


def settings() -> AdminSettings:
    return AdminSettings(token=SecretStr(TOKEN), body_bytes_max=4096)


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    rooms, registry = FakeRooms(), CollectorRegistry()
    Counter("turnpike_test_calls", "Calls.", registry=registry).inc(3)
    found: list[Admin] = []
    async with (
        open_admin(
            settings(),
            port=0,
            transcoder=Transcoder(rooms.channels),
            registry=registry,
            readiness=lambda: found[0].is_ready,
        ) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port.port}") as client,
    ):
        found.append(Admin(client, rooms))
        yield found[0]


async def test_probes_and_metrics_need_no_token(admin: Admin) -> None:
    async with admin.client.get("/livez") as live, admin.client.get("/readyz") as ready:
        assert (200, 200) == (live.status, ready.status)
    async with admin.client.get("/metrics") as metrics:
        assert "turnpike_test_calls_total 3.0" in await metrics.text()


async def test_process_that_is_not_ready_says_so_and_lives(admin: Admin) -> None:
    admin.is_ready = False

    async with admin.client.get("/livez") as live, admin.client.get("/readyz") as ready:
        assert (200, 503) == (live.status, ready.status)


async def test_call_with_the_token_is_run(admin: Admin) -> None:
    status, answer = await admin.call(f"{AUTH}/CreateAccount", '{"name": "me"}')

    assert 200 == status
    assert "me" == admin.rooms.auth.accounts[0].name
    account = {"account_id": "account-0", "name": "me", "routing_strategy": ""}
    assert {"account": account} == answer


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "t\u00f6ken"])
async def test_call_without_the_token_is_refused(admin: Admin, token: str) -> None:
    status, answer = await admin.call(f"{AUTH}/CreateAccount", '{"name": "me"}', token=token)

    assert (401, "unauthenticated") == (status, answer["code"])
    assert [] == admin.rooms.auth.accounts


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        (f"{AUTH}/RevokeKey", '{"key_id": "none"}', 404, "NOT_FOUND"),
        (f"{AUTH}/Nothing", "{}", 404, "NOT_FOUND"),
        ("/rpc/turnpike.nobody.v1.Service/ListKeys", "{}", 404, "NOT_FOUND"),
        ("/elsewhere", "{}", 404, "NOT_FOUND"),
        (f"{AUTH}/ListKeys", "{", 400, "INVALID_JSON"),
        (f"{AUTH}/ListKeys", '{"x": 1}', 400, "INVALID_VALUE"),
        (f"{AUTH}/ListKeys", '{"account_id": "' + "x" * 5000 + '"}', 413, "PAYLOAD_TOO_LARGE"),
        (f"{AUTH}/VerifyKey", "{}", 500, "INTERNAL"),
        ("/livez", "{}", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_failures_are_json_with_a_reason(
    admin: Admin, path: str, body: str, status: int, reason: str
) -> None:
    found, answer = await admin.call(path, body)

    assert (status, reason) == (found, answer["reason"])
    assert {"code", "message", "reason", "metadata"} == set(answer)
    assert SECRET not in str(answer)


async def test_taken_port_is_told_with_the_variable_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        admin = open_admin(
            settings(),
            port=other.getsockname()[1],
            transcoder=Transcoder({}),
            registry=CollectorRegistry(),
            readiness=lambda: True,
        )

        with pytest.raises(StartError, match="TURNPIKE__ADMIN__PORT"):
            await admin.__aenter__()
