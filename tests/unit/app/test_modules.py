"""The table of modules is complete and can be opened in its order."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.admin_client import SERVICES
from app.errors import StartError
from app.links import channel_to
from app.modules import MODULES, TARGETS, certificate_keys
from app.settings_sections import ADMIN_PORTS, PeersSettings
from gateway.settings import GatewaySettings
from kit.rpc.local import HandlerTable, LocalChannel
from kit.rpc.transcode import unary_methods


def test_every_service_has_a_row_and_every_row_a_target_and_an_admin_port() -> None:
    assert set(SERVICES) == {name for name, module in MODULES.items() if module.service}
    assert {"all", *MODULES} == set(TARGETS)
    assert set(TARGETS) == set(ADMIN_PORTS)
    assert tuple(MODULES) == TARGETS["all"]


def test_every_module_starts_after_those_it_calls() -> None:
    names = list(MODULES)

    late = [
        (name, callee)
        for name, module in MODULES.items()
        for callee in module.calls
        if names.index(callee) > names.index(name)
    ]

    assert [] == late


def test_every_service_has_an_address_for_split_processes() -> None:
    services = {name for name, module in MODULES.items() if module.service}

    assert services | {"token"} == set(PeersSettings.model_fields)


def test_every_service_of_the_table_exists() -> None:
    assert all(unary_methods(module.service) for module in MODULES.values() if module.service)


async def test_callee_of_this_process_is_reached_without_a_socket() -> None:
    async with AsyncExitStack() as stack:
        peers = PeersSettings()

        here = await channel_to("auth", {"auth": HandlerTable()}, peers, stack)
        elsewhere = await channel_to("router", {"auth": HandlerTable()}, peers, stack)

        assert isinstance(here, LocalChannel)
        assert not isinstance(elsewhere, LocalChannel)


def settings_with(identities: dict[str, str]) -> GatewaySettings:
    pem = Path("any.pem")
    return GatewaySettings(
        grpc_tls_cert=pem, grpc_tls_key=pem, grpc_client_ca=pem, grpc_identities=identities
    )


def test_keys_of_certificates_come_from_variables_and_files(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("sk-file\n")
    settings = settings_with({"a": "${KEY_A}", "b": f"file:{path}"})

    keys = certificate_keys(settings, {"KEY_A": "sk-variable"})

    found = {name: key.get_secret_value() for name, key in keys.items()}
    assert {"a": "sk-variable", "b": "sk-file"} == found


@pytest.mark.parametrize("reference", ["${NOT_SET}", "file:/nowhere/at/all"])
def test_key_of_a_certificate_that_is_not_there_keeps_the_gateway_from_starting(
    reference: str,
) -> None:
    with pytest.raises(StartError) as caught:
        certificate_keys(settings_with({"a": reference}), {})

    assert f"gateway.grpc_identities: a: {reference} is not there." == str(caught.value)
