"""The table of modules is complete and can be opened in its order."""

from contextlib import AsyncExitStack

from app.admin_client import SERVICES
from app.links import channel_to
from app.modules import MODULES, TARGETS
from app.settings_sections import ADMIN_PORTS, PeersSettings
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
